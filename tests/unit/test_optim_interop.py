"""State of torch.optim in ours and back: whoever goes on walks the path that the other would have walked."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from descend.errors import KnobError, ModelError
from descend.optim import Optimizer, from_torch, to_torch
from descend.optim.interop import COUNTERPARTS

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("sgd", "SGD", {"lr": 0.05, "weight_decay": 0.01}),
    ("momentum", "SGD", {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.01}),
    ("momentum", "SGD", {"lr": 0.02}),  # a friction of 1
    ("nesterov", "SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    ("adam", "Adam", {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}),
    ("amsgrad", "Adam", {"lr": 0.01, "amsgrad": True, "eps": 1e-6}),
    ("adamw", "AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ("adamw", "Adam", {"lr": 0.01}),  # without decay the two are one rule
    ("adamw", "AdamW", {"lr": 0.01, "maximize": True}),
    ("adagrad", "Adagrad", {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.5, "eps": 1e-6}),
    ("rmsprop", "RMSprop", {"lr": 0.001, "alpha": 0.9}),
    ("rmsprop", "RMSprop", {"lr": 0.001, "centered": True, "momentum": 0.5, "weight_decay": 0.01}),
    ("adadelta", "Adadelta", {"rho": 0.95}),
    ("adamax", "Adamax", {"lr": 0.01}),
    ("nadam", "NAdam", {"lr": 0.01, "momentum_decay": 0.006}),
    ("radam", "RAdam", {"lr": 0.01}),
]
IDS = [f"{rule}-{theirs}-{i}" for i, (rule, theirs, _) in enumerate(CASES)]


def net(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    dtype = next(model.parameters()).dtype
    for t in steps:
        x = torch.randn(16, 5, generator=torch.Generator().manual_seed(t)).to(dtype)
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True).sin()).square().mean()
        (-loss if optimizer.param_groups[0]["maximize"] else loss).backward()
        optimizer.step()


def torch_optimizer(name: str, params: Any, **settings: Any) -> torch.optim.Optimizer:
    return getattr(torch.optim, name)(params, **settings)


def through_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_same(one: nn.Module, two: nn.Module, rtol: float) -> None:
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol / 10)


def tolerance(rule: str) -> float:
    return 1e-6 if rule == "nadam" else 1e-9  # torch keeps the product of NAdam's momenta in float32


@pytest.mark.parametrize(("rule", "theirs", "settings"), CASES, ids=IDS)
def test_ours_goes_on_where_torch_stood(rule: str, theirs: str, settings: dict[str, Any]) -> None:
    model = net()
    before = torch_optimizer(theirs, model.parameters(), **settings)
    train(model, before, range(30))
    twin = copy.deepcopy(model)
    ours = Optimizer(twin.parameters(), rule)
    ours.load_state_dict(from_torch(through_file(before.state_dict()), rule))
    train(model, before, range(30, 230))
    train(twin, ours, range(30, 230))
    assert_same(twin, model, tolerance(rule))


@pytest.mark.parametrize(("rule", "theirs", "settings"), CASES, ids=IDS)
def test_torch_goes_on_where_ours_stood(rule: str, theirs: str, settings: dict[str, Any]) -> None:
    model = net()
    ours = Optimizer(model.parameters(), rule)  # with the knobs of a fresh optimizer of torch's
    ours.load_state_dict(from_torch(torch_optimizer(theirs, model.parameters(), **settings).state_dict(), rule))
    train(model, ours, range(30))
    twin = copy.deepcopy(model)
    after = torch_optimizer(COUNTERPARTS[rule].theirs.__name__, twin.parameters())
    after.load_state_dict(through_file(to_torch(ours)))
    train(model, ours, range(30, 230))
    train(twin, after, range(30, 230))
    assert_same(model, twin, tolerance(rule))


@pytest.mark.parametrize(("rule", "theirs", "settings"), CASES, ids=IDS)
def test_there_and_back_is_the_same_state(rule: str, theirs: str, settings: dict[str, Any]) -> None:
    model = net()
    before = torch_optimizer(theirs, model.named_parameters(), **settings)
    train(model, before, range(3))
    ours = Optimizer(model.parameters(), rule)
    ours.load_state_dict(from_torch(before.state_dict(), rule))
    kept, back = before.state_dict(), to_torch(ours)
    for group, returned in zip(kept["param_groups"], back["param_groups"], strict=True):
        assert {key: value for key, value in returned.items() if key != "decoupled_weight_decay"} == {
            key: value for key, value in group.items() if key != "decoupled_weight_decay"
        }
    for key, state in kept["state"].items():
        given = {name: value for name, value in state.items() if value is not None}
        assert set(given) == set(back["state"].get(key, {}))
        assert all(torch.equal(value, back["state"][key][name]) for name, value in given.items())


def test_every_rule_with_a_counterpart_is_walked() -> None:
    assert {rule for rule, _, _ in CASES} == set(COUNTERPARTS)


def test_groups_keep_their_knobs_names_and_notes_of_schedulers() -> None:
    model = net()
    first, second = list(model[0].named_parameters()), list(model[2].named_parameters())
    before = torch.optim.AdamW(
        [{"params": first, "lr": 0.5, "name": "body"}, {"params": second, "weight_decay": 0.0}], lr=torch.tensor(0.25)
    )
    torch.optim.lr_scheduler.OneCycleLR(before, max_lr=[0.25, 0.5], total_steps=10)
    train(model, before, range(2))
    ours = Optimizer([{"params": first}, {"params": second}], "adamw")
    ours.load_state_dict(from_torch(before.state_dict(), "adamw"))
    one, two = ours.param_groups
    assert (one["name"], one["param_names"]) == ("body", ["weight", "bias"])
    assert one["lr"] == pytest.approx(0.25 / 25)
    assert (one["max_lr"], two["max_lr"], two["weight_decay"], one["beta1"]) == (0.25, 0.5, 0.0, 0.95)
    back = to_torch(ours)["param_groups"]
    assert (back[0]["name"], back[1]["max_lr"], back[1]["betas"]) == ("body", 0.5, (0.95, 0.999))
    assert back[1]["params"] == [2, 3]


def test_betas_that_a_scheduler_has_just_written_go_along() -> None:
    ours = Optimizer(net().parameters(), "adamw")
    ours.param_groups[0]["betas"] = (0.85, 0.99)
    assert to_torch(ours)["param_groups"][0]["betas"] == (0.85, 0.99)


def test_nothing_is_shared() -> None:
    model = net()
    before = torch.optim.Adam(model.parameters())
    train(model, before, range(2))
    given = before.state_dict()
    converted = from_torch(given, "adam")
    assert all(converted["state"][key]["m"].data_ptr() != given["state"][key]["exp_avg"].data_ptr() for key in given["state"])
    ours = Optimizer(model.parameters(), "adam")
    ours.load_state_dict(converted)
    back = to_torch(ours)
    slots = [ours.state[parameter]["v"].data_ptr() for parameter in model.parameters()]
    assert [back["state"][key]["exp_avg_sq"].data_ptr() for key in range(4)] != slots


def test_half_precision_weights_get_float32_slots() -> None:
    model = net(torch.bfloat16)
    before = torch.optim.AdamW(model.parameters())
    train(model, before, range(3))
    ours = Optimizer(model.parameters(), "adamw")
    ours.load_state_dict(from_torch(before.state_dict(), "adamw"))
    for parameter in model.parameters():
        assert ours.state[parameter]["m"].dtype == torch.float32
        assert torch.equal(ours.state[parameter]["m"].bfloat16(), before.state[parameter]["exp_avg"])
    train(model, ours, range(3, 6))
    after = torch.optim.AdamW(model.parameters())
    after.load_state_dict(to_torch(ours))
    train(model, after, range(6, 9))


def test_parameters_that_have_not_begun_begin_as_torch_would() -> None:
    early, late = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    ours = Optimizer([early, late], "adagrad(lr=0.1, start=0.25)")
    early.grad = torch.ones(2)
    ours.step()
    after = torch.optim.Adagrad([early, late])
    after.load_state_dict(to_torch(ours))
    late.grad = torch.ones(2)
    after.step()
    torch.testing.assert_close(late.detach(), torch.full((2,), 1 - 0.1 / 1.25**0.5))
    torch.testing.assert_close(early.detach(), 1 - 0.1 / torch.full((2,), 1.25).sqrt() - 0.1 / torch.full((2,), 2.25).sqrt())


def state_of(name: str, change: Any = None, **settings: Any) -> dict[str, Any]:
    """The state of one of torch's optimizers after a step, with something done to it."""
    parameter = torch.ones(3, 2, requires_grad=True)
    parameter.grad = torch.ones(3, 2)
    optimizer = torch_optimizer(name, [parameter], **settings)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    if change is not None:
        change(saved)
    return saved


MISMATCHES: list[tuple[dict[str, Any], str, type[Exception], str]] = [
    (state_of("AdamW"), "lion", KnobError, "one that torch.optim has too, got 'lion'"),
    (state_of("AdamW"), "ema(adamw())", KnobError, "one that torch.optim has too, got 'ema'"),  # its mean would begin late
    (state_of("RMSprop"), "adamw", KnobError, r"group 0 lacks 'amsgrad'. It looks like that of torch.optim.RMSprop"),
    (state_of("RAdam"), "adam", KnobError, r"group 0 lacks 'amsgrad'. It looks like that of torch.optim.RAdam"),
    (state_of("Adam"), "radam", KnobError, r"group 0 has 'amsgrad'. It looks like that of torch.optim.Adam"),
    (state_of("Adam", weight_decay=0.1), "adamw", KnobError, r"decoupled_weight_decay .* True .* got False. Use the rule 'adam'"),
    (state_of("AdamW"), "adam", KnobError, r"got True. Use the rule 'adamw'"),
    (state_of("Adam", amsgrad=True), "adam", KnobError, r"amsgrad of group 0 must be False .* Use the rule 'amsgrad'"),
    (state_of("AdamW", amsgrad=True), "adamw", KnobError, r"No rule of ours has this form"),
    (state_of("NAdam", decoupled_weight_decay=True, weight_decay=0.1), "nadam", KnobError, r"No rule of ours"),
    (state_of("SGD", momentum=0.9), "sgd", KnobError, r"momentum of group 0 must be 0 .* Use the rule 'momentum'"),
    (state_of("SGD", momentum=0.9), "nesterov", KnobError, r"nesterov of group 0 must be True .* Use the rule 'momentum'"),
    (state_of("SGD", momentum=0.9, dampening=0.5), "momentum", KnobError, r"dampening of group 0 must be 0 .* got 0.5"),
    (state_of("SGD", momentum=0.9), "momentum(form='lr_inside')", KnobError, r"form must be 'lr_outside'"),
    (state_of("Adam"), "adam(debias=False)", KnobError, r"debias must be True"),
    (state_of("Adam", lambda s: s["param_groups"][0].update(mine=1)), "adam", KnobError, r"group 0 has 'mine'"),
    (state_of("Adam", lambda s: s["param_groups"][0].update(lr=-1.0)), "adam", KnobError, r"lr must be .* got -1.0"),
    (state_of("Adam", lambda s: s.pop("state")), "adam", KnobError, r"must hold 'state' and 'param_groups'"),
    (state_of("Adam", lambda s: s["state"][0].update(exp=1)), "adam", ModelError, r"not 'exp'"),
    (state_of("Adam", lambda s: s["state"][0].pop("exp_avg_sq")), "adam", ModelError, r"must hold 'exp_avg_sq'"),
    (state_of("Adam", lambda s: s["state"][0].update(exp_avg=torch.ones(2, 3))), "adam", ModelError, r"one shape"),
    (
        state_of("Adam", lambda s: s["state"].update({7: {}})),
        "adam",
        ModelError,
        r"belong to a parameter of a group, got \['7'\]",
    ),
    (Optimizer([torch.ones(1, requires_grad=True)], "adam").state_dict(), "adam", KnobError, "one of ours"),
]


@pytest.mark.parametrize(("state", "rule", "kind", "message"), MISMATCHES, ids=[message[:40] for *_, message in MISMATCHES])
def test_what_does_not_fit_is_an_error(state: dict[str, Any], rule: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        from_torch(state, rule)


@pytest.mark.parametrize(
    "rule",
    ["momentum(form='lr_inside')", "nesterov(form='lookahead')", "rmsprop(eps_place='inside')", "lion", "lookahead(sgd())"],
)
def test_what_torch_lacks_is_an_error_on_the_way_back(rule: str) -> None:
    with pytest.raises(KnobError, match=r"to_torch: "):
        to_torch(Optimizer([torch.ones(1, requires_grad=True)], rule))


def test_more_state_than_torch_has_room_for_is_an_error() -> None:
    parameter: Tensor = torch.ones(1, requires_grad=True)
    optimizer = Optimizer([parameter], "adam")
    parameter.grad = torch.ones(1)
    optimizer.step()
    optimizer.state[parameter]["slow"] = torch.ones(1)
    with pytest.raises(ModelError, match=r"no room for, got \['slow'\]"):
        to_torch(optimizer)


def test_an_open_window_of_gradients_is_an_error() -> None:
    parameter: Tensor = torch.ones(1, requires_grad=True)
    optimizer = Optimizer([parameter], "adam", gradients="accumulate(n=2)")
    parameter.grad = torch.ones(1)
    optimizer.step()
    with pytest.raises(ModelError, match=r"Call flush\(\) first"):
        to_torch(optimizer)


def test_state_of_torch_that_was_not_converted_is_an_error() -> None:
    optimizer = Optimizer([torch.ones(3, 2, requires_grad=True)], "adamw")
    with pytest.raises(KnobError, match=r"lacks 'beta1'. State of torch.optim goes through optim.from_torch"):
        optimizer.load_state_dict(state_of("AdamW"))


@pytest.mark.parametrize("rule", ["adamw", "adafactor"])
def test_state_of_other_shapes_is_an_error_before_anything_is_loaded(rule: str) -> None:
    small, large = torch.ones(2, 2, requires_grad=True), torch.ones(3, 3, requires_grad=True)
    small.grad, large.grad = torch.ones(2, 2), torch.ones(3, 3)
    one, two = Optimizer([small], f"{rule}(lr=0.5)"), Optimizer([large], rule)
    one.step()
    with pytest.raises(ModelError, match=r"parameter 0 \(3, 3\) must have shape \((3|1), (3|1)\), got"):
        two.load_state_dict(one.state_dict())
    assert two.param_groups[0]["lr"] != 0.5
    assert not two.state

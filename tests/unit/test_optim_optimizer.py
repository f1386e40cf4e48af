"""The one Optimizer: a torch optimizer in every respect a training loop relies on."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from descend.errors import KnobError, ModelError, SpecError, TrainingError
from descend.optim import SGD, Adam, AdamW, ClipNorm, Momentum, Nesterov, Optimizer, buckets
from descend.optim.chain import chain_of

TORCH: list[tuple[str, Callable[[Any], torch.optim.Optimizer]]] = [
    ("sgd(lr=0.05, weight_decay=0.01)", lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.01)),
    ("momentum(lr=0.02)", lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
    ("nesterov(lr=0.02)", lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True)),
    ("adam(lr=0.01, weight_decay=0.1)", lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
    ("adamw(lr=0.01)", lambda p: torch.optim.AdamW(p, lr=0.01)),
    ("adagrad(lr=0.1, lr_decay=0.01, start=0.5)", lambda p: torch.optim.Adagrad(p, 0.1, 0.01, 0, 0.5)),
    ("rmsprop(lr=0.001)", lambda p: torch.optim.RMSprop(p, lr=0.001)),
    ("adam(lr=0.01, debias=True, eps=0.001)", lambda p: torch.optim.Adam(p, lr=0.01, eps=0.001)),
    ("amsgrad(lr=0.01)", lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True)),
    ("adamax(lr=0.01)", lambda p: torch.optim.Adamax(p, lr=0.01)),
    ("nadam(lr=0.01)", lambda p: torch.optim.NAdam(p, lr=0.01)),
    ("radam(lr=0.01)", lambda p: torch.optim.RAdam(p, lr=0.01)),
    ("adafactor(eps=1e-30)", lambda p: torch.optim.Adafactor(p, eps=(1e-15, 1e-3))),
    ("adadelta", lambda p: torch.optim.Adadelta(p)),
    ("rmsprop(lr=0.001, centered=True, momentum=0.9)", lambda p: torch.optim.RMSprop(p, lr=0.001, centered=True, momentum=0.9)),
]


def net(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 1) -> None:
    draw = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    for _ in range(steps):
        x = torch.randn(16, 5, generator=draw).to(dtype)
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True).sin()).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(("text", "theirs"), TORCH, ids=[text for text, _ in TORCH])
def test_a_thousand_steps_beside_torch(text: str, theirs: Callable[[Any], torch.optim.Optimizer]) -> None:
    one, two = net(), net()
    train(one, Optimizer(one.parameters(), text), 1000)
    train(two, theirs(two.parameters()), 1000)
    for ours, expected in zip(one.parameters(), two.parameters(), strict=True):
        rtol = 1e-6 if "nadam" in text else 1e-8  # torch keeps the product of NAdam's momenta in float32
        torch.testing.assert_close(ours, expected, rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("weight_decay", [0.0, 0.03, 0.3])
def test_both_forms_of_nesterov_walk_the_same_path(weight_decay: float) -> None:
    curvature = torch.tensor([1.0, 30.0], dtype=torch.float64)
    ahead = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    current = ahead.detach().clone().requires_grad_()
    one = Optimizer([ahead], Nesterov(lr=0.02, weight_decay=weight_decay, form="lookahead"))
    two = Optimizer([current], Nesterov(lr=0.02, weight_decay=weight_decay, form="current"))
    for _ in range(50):
        for parameter, optimizer in ((ahead, one), (current, two)):
            optimizer.step(lambda parameter=parameter: setattr(parameter, "grad", curvature * parameter.detach()))
        lookahead_point = chain_of(one.rule).lookahead_point(ahead.detach(), (one.state[ahead]["v"],))
        torch.testing.assert_close(lookahead_point, current.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weight_decay", [0.03, 0.3])
def test_the_lookahead_form_of_nesterov_decays_as_autograd_of_the_penalized_loss(weight_decay: float) -> None:
    # Sutskever et al. 2013, eqs. (3)-(4), on f(x) + weight_decay / 2 * |x|^2: autograd takes both gradients at the same point
    parameter = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([parameter], Nesterov(lr=0.02, weight_decay=weight_decay, form="lookahead"))

    def loss(at: Tensor) -> Tensor:
        return at.pow(4).sum() + (at[0] * at[1]).sin()

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(parameter)
        value.backward()
        return value

    x, v = parameter.detach().clone(), torch.zeros(2, dtype=torch.float64)
    for _ in range(50):
        optimizer.step(closure)
        ahead = (x + 0.9 * v).requires_grad_()
        (slope,) = torch.autograd.grad(loss(ahead) + weight_decay / 2 * ahead.square().sum(), ahead)
        v = 0.9 * v - 0.02 * slope
        x = x + v
    torch.testing.assert_close(parameter.detach(), x, rtol=1e-11, atol=1e-13)


def test_lookahead_needs_a_closure() -> None:
    parameter = torch.ones(2, requires_grad=True)
    with pytest.raises(KnobError, match="closure"):
        Optimizer([parameter], Nesterov(form="lookahead")).step()


def test_forms_of_momentum_part_when_lr_changes() -> None:
    def walk(form: Any, rates: list[float]) -> float:
        parameter = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = Optimizer([parameter], Momentum(form=form))
        for lr in rates:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step(lambda: setattr(parameter, "grad", parameter.detach().clone()))
        return parameter.item()

    assert walk("lr_outside", [0.1] * 9) == pytest.approx(walk("lr_inside", [0.1] * 9), rel=1e-12)
    assert walk("lr_outside", [0.1, 0.01, 0.01]) > walk("lr_inside", [0.1, 0.01, 0.01])  # the second keeps its speed


def test_first_step_of_adam_with_and_without_debiasing() -> None:
    steps = {}
    for debias in (True, False):
        parameter = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        parameter.grad = torch.tensor([1e-3, -1.0, 1e3], dtype=torch.float64)
        Optimizer([parameter], Adam(lr=0.01, eps=0.0, debias=debias)).step()
        steps[debias] = parameter.detach()
    torch.testing.assert_close(steps[True], 0.01 * torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(steps[False], steps[True] * (1 - 0.9) / (1 - 0.999) ** 0.5)


@pytest.mark.parametrize("text", ["momentum(lr=0.05)", "adamw"])
def test_maximize_is_the_mirror_image(text: str) -> None:
    up, down = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    one, two = Optimizer([up], text, maximize=True), Optimizer([down], text)
    for _ in range(5):
        up.grad, down.grad = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([1.0, -2.0, 3.0])
        one.step()
        two.step()
    assert torch.equal(up, -down)
    assert up[0] > 0


def test_groups_override_knobs_and_spell_betas_both_ways() -> None:
    model = net()
    first, second = list(model[0].parameters()), list(model[2].parameters())
    optimizer = Optimizer([{"params": first, "lr": 0.5, "betas": (0.8, 0.9)}, {"params": second}], AdamW())
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1e-3]
    assert (optimizer.param_groups[0]["beta1"], optimizer.param_groups[0]["beta2"]) == (0.8, 0.9)
    optimizer.param_groups[1]["betas"] = (0.7, 0.95)
    train(model, optimizer, 1)  # what reads the knobs reads what was written, in either spelling
    assert optimizer.param_groups[1]["beta1"] == 0.7
    optimizer.param_groups[1]["beta2"] = 0.5
    train(model, optimizer, 1)
    assert optimizer.param_groups[1]["betas"] == (0.7, 0.5)
    optimizer.param_groups[1]["beta1"] = 0.6
    assert optimizer.state_dict()["param_groups"][1]["betas"] == (0.6, 0.5)
    optimizer.param_groups[1]["beta1"] = 0.4
    assert copy.deepcopy(optimizer).state_dict()["param_groups"][1]["betas"] == (0.4, 0.5)
    optimizer.param_groups[1]["betas"] = (0.4, 0.5, 0.6)
    with pytest.raises(KnobError, match=r"betas of a group must be 2 numbers, got \(0.4, 0.5, 0.6\)"):
        optimizer.step()


@pytest.mark.parametrize("spelling", ["betas", "beta1"])
def test_either_spelling_of_betas_steers_the_step_as_torchs(spelling: str) -> None:
    one, two = net(), net()
    ours, theirs = Optimizer(one.parameters(), "adamw"), torch.optim.AdamW(two.parameters())
    for t, beta in enumerate((0.9, 0.5, 0.5, 0.8)):
        ours.param_groups[0][spelling] = (beta, 0.999) if spelling == "betas" else beta
        theirs.param_groups[0]["betas"] = (beta, 0.999)
        train(one, ours, 1, seed=t)
        train(two, theirs, 1, seed=t)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"lr": -1.0}, r"adamw: lr must be a finite number >= 0, got -1\.0"),
        ({"momentum": 0.9}, "adamw: has no knob 'momentum'"),
        ({"weight_decy": 0.1}, "Did you mean 'weight_decay'"),
        ({"betas": (0.9,)}, "betas of a group must be 2 numbers"),
    ],
)
def test_a_wrong_group_is_an_error_at_once(group: dict[str, Any], message: str) -> None:
    with pytest.raises(KnobError, match=message):
        Optimizer([{"params": [torch.zeros(1, requires_grad=True)], **group}], AdamW())
    optimizer = Optimizer([torch.zeros(1, requires_grad=True)], AdamW())
    with pytest.raises(KnobError, match=message):
        optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], **group})


def test_a_knob_that_turns_illegal_later_is_an_error() -> None:
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = Optimizer([parameter], SGD())
    optimizer.param_groups[0]["lr"] = float("nan")
    parameter.grad = torch.ones(1)
    with pytest.raises(KnobError, match="lr must be"):
        optimizer.step()


def test_unknown_rule_suggests_the_nearest() -> None:
    with pytest.raises(SpecError, match="Did you mean 'nesterov'"):
        Optimizer([torch.zeros(1, requires_grad=True)], "nestrov(lr=1e-3)")


def test_one_cycle_of_torch_moves_lr_and_beta1() -> None:
    model = net()
    optimizer = Optimizer(model.parameters(), "adamw")
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    seen = []
    for _ in range(9):
        train(model, optimizer, 1)
        cycle.step()
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["beta1"]))
    assert max(lr for lr, _ in seen) == pytest.approx(0.1, rel=0.1)
    assert min(beta for _, beta in seen) < 0.87


@pytest.mark.parametrize("revive", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))], ids=["deepcopy", "pickle"])
def test_copies_go_on_where_the_original_stands(revive: Callable[[Any], Any]) -> None:
    model = net()
    optimizer = Optimizer(model.named_parameters(), "adamw", gradients="clip_norm(max_norm=0.1)", nonfinite="skip")
    train(model, optimizer, 3)
    twin_model, twin = revive((model, optimizer))
    train(model, optimizer, 3, seed=2)
    train(twin_model, twin, 3, seed=2)
    assert twin.stages == (ClipNorm(max_norm=0.1),)
    for one, two in zip(model.parameters(), twin_model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_loading_copies_and_checks_the_rule() -> None:
    model = net()
    optimizer = Optimizer(model.parameters(), "adam")
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    kept = copy.deepcopy(saved)
    other = Optimizer(model.parameters(), "adam")
    other.load_state_dict(saved)
    train(model, other, 2)
    for key, slots in kept["state"].items():
        assert torch.equal(saved["state"][key]["m"], slots["m"])
    with pytest.raises(KnobError, match=r"state must be of rule 'adamw', got 'adam'"):
        Optimizer(model.parameters(), "adamw").load_state_dict(saved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("text", ["adamw", "momentum", "ema(sgd(lr=0.1))", "adafactor"])
def test_state_in_double_precision_takes_the_precision_of_a_step(text: str, dtype: torch.dtype) -> None:
    exact, coarse = net(), net(dtype)
    before = Optimizer(exact.parameters(), text)
    train(exact, before, 3)
    after = Optimizer(coarse.parameters(), text)
    after.load_state_dict(before.state_dict())
    for one, two in zip(exact.parameters(), coarse.parameters(), strict=True):
        tensors = {name: slot for name, slot in before.state[one].items() if isinstance(slot, Tensor)}
        assert tensors
        for name, slot in tensors.items():
            assert after.state[two][name].dtype == torch.float32
            assert torch.equal(after.state[two][name], slot.float())
    train(coarse, after, 2)
    assert {slot.dtype for slots in after.state.values() for slot in slots.values() if isinstance(slot, Tensor)} == {
        torch.float32
    }


def bad_gradients() -> tuple[Tensor, Tensor]:
    good, bad = torch.zeros(2, requires_grad=True), torch.zeros(2, 2, requires_grad=True)
    good.grad, bad.grad = torch.ones(2), torch.tensor([[1.0, float("nan")], [float("inf"), 0.0]])
    return good, bad


def test_a_gradient_that_is_not_finite_names_its_parameter() -> None:
    good, bad = bad_gradients()
    optimizer = Optimizer([("head.bias", good), ("head.weight", bad)], "sgd")
    with pytest.raises(TrainingError, match=r"head.weight \(2, 2\) must be finite, got '2 NaN or infinite of 4'"):
        optimizer.step()
    assert not good.any()


def test_a_gradient_that_is_not_finite_may_skip_the_step_or_pass() -> None:
    good, bad = bad_gradients()
    optimizer = Optimizer([good, bad], "adamw", nonfinite="skip")
    optimizer.step()
    assert optimizer.skipped == 1
    assert not good.any()
    assert not optimizer.state[good]
    Optimizer([good, bad], "sgd", nonfinite="ignore").step()
    assert good.all()
    assert bad.isnan().any()


def test_large_finite_gradients_are_not_mistaken_for_infinite_ones() -> None:
    parameter = torch.zeros(3, requires_grad=True)
    parameter.grad = torch.full((3,), 1e30)
    optimizer = Optimizer([parameter], "sgd(lr=1e-30)")
    optimizer.step()
    assert optimizer.gradient_norm == pytest.approx(3**0.5 * 1e30)


def test_parameters_that_are_parts_of_a_distributed_whole_are_refused_by_name() -> None:
    distributed = pytest.importorskip("torch.distributed")
    from torch.distributed.fsdp import fully_shard

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = nn.Linear(4, 2)
        fully_shard(model, mesh=distributed.device_mesh.init_device_mesh("cpu", (1,)))
        model(torch.ones(3, 4)).sum().backward()
        for nonfinite in ("error", "skip", "ignore"):
            optimizer = Optimizer(model.named_parameters(), "adamw", nonfinite=nonfinite)
            with pytest.raises(ModelError, match=r"that of weight \(2, 4\) is one part of many \(a DTensor of FSDP2, say\)"):
                optimizer.step()
    finally:
        distributed.destroy_process_group()


def test_sparse_and_complex_gradients_are_refused_by_name() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ModelError, match=r"weight \(4, 2\) is sparse"):
        Optimizer(table.named_parameters(), "sgd").step()
    wave = torch.zeros(3, dtype=torch.complex64, requires_grad=True)
    wave.grad = torch.zeros(3, dtype=torch.complex64)
    ours = Optimizer([wave], "sgd")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"\(3,\) is complex"):
            ours.step()


@pytest.mark.parametrize("rule", ["sgd", "momentum", "nadam", "rmsprop", "schedule_free_adamw"])
@pytest.mark.parametrize("stages", [(), ("accumulate(n=2)",)], ids=["plain", "windows"])
def test_parameters_that_are_taken_together_move_as_each_for_itself(
    rule: str, stages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where gradients are missing at some steps, there are several groups, and states came from a file."""

    def walked() -> list[Tensor]:
        torch.manual_seed(1)
        params = [torch.randn(shape, requires_grad=True) for shape in ((3, 4), (4,), (2, 2), (5,))]
        groups = [{"params": params[:3], "lr": 0.1}, {"params": params[3:]}]
        ours = Optimizer(groups, rule, gradients=stages)
        for step in range(8):
            for number, parameter in enumerate(params):
                parameter.grad = None if (step + number) % 5 == 0 else torch.randn_like(parameter)
            ours.step()
            if step == 4:
                ours.load_state_dict(copy.deepcopy(ours.state_dict()))
        return [parameter.detach() for parameter in params]

    together = walked()
    monkeypatch.setattr(buckets, "_alike", lambda *_: False)
    assert all(map(torch.equal, together, walked()))


def test_no_parameter_is_looked_at_for_itself_after_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    params = [torch.zeros(2, requires_grad=True) for _ in range(3)]
    ours = Optimizer(params, "adamw")
    for parameter in params[1:]:
        parameter.grad = torch.ones(2)
    ours.step()
    monkeypatch.setattr(buckets, "_parted", lambda *_: pytest.fail("taken apart"))
    ours.step()


def test_clipping_agrees_with_torch_and_leaves_grad_alone() -> None:
    one, two = net(), net()
    x = torch.ones(4, 5, dtype=torch.float64)
    for model in (one, two):
        model(x).square().sum().backward()
    before = [parameter.grad.clone() for parameter in one.parameters() if parameter.grad is not None]
    ours = Optimizer(one.parameters(), "sgd(lr=1.0)", gradients="clip_norm(max_norm=0.5)")
    ours.step()
    norm = nn.utils.clip_grad_norm_(two.parameters(), 0.5)
    torch.optim.SGD(two.parameters(), lr=1.0).step()
    assert ours.gradient_norm == pytest.approx(float(norm), rel=1e-12)
    for a, b, grad in zip(one.parameters(), two.parameters(), before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert a.grad is not None
        assert torch.equal(a.grad, grad)


def test_stages_run_in_order() -> None:
    def step(stages: list[str]) -> Tensor:
        parameter = torch.zeros(2, requires_grad=True)
        parameter.grad = torch.tensor([3.0, 4.0])
        Optimizer([parameter], "sgd(lr=1.0)", gradients=stages).step()
        return -parameter.detach()

    torch.testing.assert_close(step(["clip_norm(max_norm=1.0)", "clip_value(max_value=0.7)"]), torch.tensor([0.6, 0.7]))
    torch.testing.assert_close(step(["clip_value(max_value=0.7)", "clip_norm(max_norm=0.5)"]), torch.full((2,), 0.5 / 2**0.5))


def test_parameters_that_join_late_count_their_own_steps() -> None:
    early, late = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = Optimizer([early, late], "adam(lr=0.1)")
    early.grad = torch.ones(1)
    for _ in range(3):
        optimizer.step()
    late.grad = torch.ones(1)
    optimizer.step()
    assert (optimizer.state[early]["step"], optimizer.state[late]["step"]) == (4, 1)
    assert late.item() == pytest.approx(-0.1)


def test_a_slot_never_aliases_the_gradient() -> None:
    parameter = torch.zeros(2, requires_grad=True)
    optimizer = Optimizer([parameter], "momentum")
    parameter.grad = torch.ones(2)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    assert optimizer.state[parameter]["v"].all()


def test_grad_scaler_skips_and_unscales() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    parameter = torch.ones(1, requires_grad=True)
    optimizer = Optimizer([parameter], "sgd(lr=1.0)")
    scaler.scale(parameter.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert parameter.item() == 0.0
    parameter.grad = torch.full((1,), float("inf"))
    scaler.step(optimizer)
    assert parameter.item() == 0.0


def test_memory_layout_and_views_are_respected() -> None:
    strided = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)
    weight = strided.clone(memory_format=torch.preserve_format).requires_grad_()
    weight.grad = strided.clone(memory_format=torch.contiguous_format)
    Optimizer([weight], "sgd(lr=1.0)").step()
    assert not weight.any()


def test_schedule_free_answers_with_the_mean_of_its_steps() -> None:
    parameter = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([parameter], "schedule_free_sgd(lr=0.1, beta=0.9)")
    for slope in (1.0, 2.0, 3.0):
        parameter.grad = torch.full((1,), slope, dtype=torch.float64)
        optimizer.step()
    training = parameter.item()
    z = [-0.1, -0.3, -0.6]
    with optimizer.evaluation_weights():
        assert parameter.item() == pytest.approx(sum(z) / 3)
    assert parameter.item() == training == pytest.approx(0.1 * z[-1] + 0.9 * sum(z) / 3)


def test_schedule_free_in_the_form_of_its_authors_package_ends_where_that_ends() -> None:
    # written by schedulefree 1.4.1: AdamWScheduleFree([p], lr=0.05, betas=(0.9, 0.99), weight_decay=0.1), .eval() after 40 steps
    package = torch.tensor([0.46436400581961457, -1.1555282549072412, 0.3754648893467901], dtype=torch.float64)
    ends = {}
    for form in ("package", "paper"):
        p = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
        optimizer = Optimizer([p], "schedule_free_adamw(beta=0.9, beta2=0.99, weight_decay=0.1)", form=form)
        for t in range(1, 41):
            optimizer.param_groups[0]["lr"] = 0.05 * min(1.0, t / 10) * (1.0 if t <= 25 else 0.1)  # the largest rate counts on
            noise = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).mul(t).sin()
            p.grad = torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64) * p.detach() + noise
            optimizer.step()
        with optimizer.evaluation_weights():
            ends[form] = p.detach().clone()
    torch.testing.assert_close(ends["package"], package, rtol=1e-13, atol=0.0)
    assert (ends["paper"] - package).abs().max() > 0.05


def test_evaluation_weights_change_nothing_for_plain_rules() -> None:
    model = net()
    optimizer = Optimizer(model.parameters(), "adamw")
    train(model, optimizer, 2)
    before = copy.deepcopy(model.state_dict())
    with optimizer.evaluation_weights():
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_muon_makes_updates_orthogonal() -> None:
    weight = torch.zeros(6, 4, dtype=torch.float64, requires_grad=True)
    weight.grad = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    Optimizer([weight], "muon(lr=1.0, n_steps=8)").step()
    values = torch.linalg.svdvals(weight.detach()) / 1.5**0.5
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_says_what_it_needs_and_whether_it_moved() -> None:
    good, bad = bad_gradients()
    optimizer = Optimizer([good, bad], "sgd", nonfinite="skip")
    assert (optimizer.moved, optimizer.needs_closure, optimizer.averages) == (False, False, False)
    optimizer.step()
    assert not optimizer.moved
    bad.grad = torch.ones(2, 2)
    optimizer.step()
    assert optimizer.moved
    optimizer.zero_grad()
    optimizer.step()  # nothing has a gradient
    assert not optimizer.moved
    assert Optimizer([good], "nesterov(form='lookahead')").needs_closure
    assert Optimizer([good], "schedule_free_adamw").averages

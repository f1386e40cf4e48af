"""Rules around rules: what is added, what shines through, what may not be combined."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from descend.errors import KnobError
from descend.landscape import Course, Ravine
from descend.optim import EMA, SAM, SGD, AdamW, Momentum, Nesterov, Optimizer, Rule, Wrapper, knob_names, with_knobs
from descend.optim.rule import Rate
from descend.technique import build, record


def point(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_knobs_are_seen_and_set_through_wrappers() -> None:
    rule = build("ema(lookahead(adamw(lr=0.1), k=3), decay=0.5)", Rule)
    assert knob_names(rule) == ("decay", "warmup", "k", "alpha", "lr", "beta1", "beta2", "eps", "weight_decay")
    changed = with_knobs(rule, weight_decay=0.3, k=7, decay=0.9)
    assert changed == build("ema(lookahead(adamw(lr=0.1, weight_decay=0.3), k=7), decay=0.9)", Rule)
    assert with_knobs(SGD(), lr=0.5) == SGD(lr=0.5)
    assert rule.lr == 0.1
    with pytest.raises(KnobError, match=r"adamw: has no knob 'momentum'. Its knobs: lr, beta1"):
        with_knobs(rule, momentum=0.9)
    with pytest.raises(KnobError, match=r"adamw: weight_decay must be a finite number >= 0, got -1\.0"):
        with_knobs(rule, weight_decay=-1.0)


def test_groups_override_knobs_at_every_depth() -> None:
    one, two = point(1.0), point(1.0)
    optimizer = Optimizer([{"params": [one]}, {"params": [two], "lr": 0.5, "decay": 0.0}], "ema(sgd(lr=0.1), decay=0.5)")
    for _ in range(4):
        one.grad = two.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    assert (one.item(), two.item()) == (pytest.approx(0.6), pytest.approx(-1.0))
    with optimizer.evaluation_weights():
        assert one.item() > 0.6
        assert two.item() == pytest.approx(-1.0)  # an average that keeps nothing is the point itself


def test_a_rate_written_by_a_schedule_reaches_the_inner_rule() -> None:
    parameter = point(1.0)
    optimizer = Optimizer([parameter], "ema(sgd(lr=0.1))")
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(2):
        parameter.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        scheduler.step()
    assert parameter.item() == pytest.approx(1 - 0.1 - 0.05)


def test_the_walk_under_an_average_is_the_inner_rules_to_the_bit() -> None:
    def walk(text: str, *, compiled: bool) -> Tensor:
        parameter = torch.linspace(-1, 1, 50).requires_grad_()
        optimizer = Optimizer([parameter], text, compiled=compiled)
        for _ in range(5):
            parameter.grad = parameter.detach().sin()
            optimizer.step()
        return parameter.detach()

    for compiled in (True, False):
        plain = walk("adamw", compiled=compiled)
        assert torch.equal(plain, walk("ema(adamw)", compiled=compiled))
        assert torch.equal(plain, walk("swa(adamw, every=2)", compiled=compiled))


def test_swa_agrees_with_torch() -> None:
    model = torch.nn.Linear(3, 2).double()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = Optimizer(model.parameters(), "swa(sgd(lr=0.1), begin=3, every=2)")
    for t in range(1, 10):
        optimizer.zero_grad()
        model(torch.full((1, 3), float(t), dtype=torch.float64)).square().sum().mul(0.001).backward()
        optimizer.step()
        if t >= 3 and t % 2:
            averaged.update_parameters(model)
        if t == 2:
            assert all("mean" not in slots for slots in optimizer.state.values())  # takes no memory before it begins
    with optimizer.evaluation_weights():
        for ours, theirs in zip(model.parameters(), averaged.module.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_ema_agrees_with_timm() -> None:
    timm_utils = pytest.importorskip("timm.utils")
    model = torch.nn.Linear(3, 2).double()
    for warmup in (True, False):
        shadow = timm_utils.ModelEmaV3(model, decay=0.7, use_warmup=warmup)
        optimizer = Optimizer(model.parameters(), EMA(inner=SGD(lr=0.01), decay=0.7, warmup=warmup))
        for t in range(1, 12):
            optimizer.zero_grad()
            model(torch.full((1, 3), float(t), dtype=torch.float64)).square().sum().mul(0.01).backward()
            optimizer.step()
            shadow.update(model, step=t)
        with optimizer.evaluation_weights():
            for ours, theirs in zip(model.parameters(), shadow.module.parameters(), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)  # timm's weight is a float32 number


@pytest.mark.parametrize("rule", ["schedule_free_sgd(lr=0.1)", "schedule_free_adamw(lr=0.1)", "ema(schedule_free_sgd(lr=0.1))"])
def test_a_block_of_evaluation_within_another_stays_at_its_weights(rule: str) -> None:
    parameter = point(1.0, -2.0)
    optimizer = Optimizer([parameter], rule)
    for _ in range(5):
        parameter.grad = parameter.detach().clone()
        optimizer.step()
    walked = parameter.detach().clone()
    with optimizer.evaluation_weights():
        answered = parameter.detach().clone()
        with optimizer.evaluation_weights():
            assert torch.equal(parameter, answered)
        assert torch.equal(parameter, answered)
    assert torch.equal(parameter, walked)
    with optimizer.evaluation_weights():  # which is not inside any more
        assert torch.equal(parameter, answered)
        assert not torch.equal(parameter, walked)


def _walk_with_rests(text: str, gives: list[str], *, compiled: bool, resume_at: int = 0) -> list[dict[str, float]]:
    """Return weights "p", "q" and what they are evaluated at, "P", "Q", after steps in which those named have a gradient of 1."""
    weights = {name: torch.zeros(3, requires_grad=True) for name in "pq"}
    optimizer = Optimizer(weights.values(), text, compiled=compiled)
    seen = []
    for t, given in enumerate(gives, 1):
        for name, parameter in weights.items():
            parameter.grad = torch.ones(3) if name in given else None
        if t == resume_at:
            saved, optimizer = optimizer.state_dict(), Optimizer(weights.values(), text, compiled=compiled)
            optimizer.load_state_dict(saved)
        optimizer.step()
        seen.append({name: parameter[0].item() for name, parameter in weights.items()})
        with optimizer.evaluation_weights():
            seen[-1] |= {name.upper(): parameter[0].item() for name, parameter in weights.items()}
    return seen


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("resume_at", [0, 4, 6])
def test_averages_are_of_the_steps_of_the_whole_optimizer(compiled: bool, resume_at: int) -> None:
    gives = ["pq", "p", "p", "pq", "p", "q", "p"]  # both rest at times, as blocks under stochastic depth do
    q = [-1.0, -1.0, -1.0, -2.0, -2.0, -3.0, -3.0]
    swa = _walk_with_rests("swa(sgd(lr=1.0), begin=3)", gives, compiled=compiled, resume_at=resume_at)
    assert [point["q"] for point in swa] == q
    assert [point["Q"] for point in swa] == pytest.approx(q[:2] + [sum(q[2:n]) / (n - 2) for n in range(3, 8)])
    ema, mean = _walk_with_rests("ema(sgd(lr=1.0), decay=0.5, warmup=False)", gives, compiled=compiled, resume_at=resume_at), q[0]
    for point, weight in zip(ema, q, strict=True):
        mean = 0.5 * mean + 0.5 * weight
        assert point["Q"] == pytest.approx(mean)


def test_averages_agree_with_torch_where_layers_rest_and_come_later() -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(3))).double()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = Optimizer(model.parameters(), "swa(momentum(lr=0.1), begin=3, every=2)")
    for t in range(1, 12):
        model[0].requires_grad_(t < 5)  # frozen on the way
        model[2].requires_grad_(t > 7)  # thawed after averaging has begun
        optimizer.zero_grad()
        model(torch.full((1, 2), float(t), dtype=torch.float64)).square().sum().mul(0.001).backward()
        optimizer.step()
        if t >= 3 and t % 2:
            averaged.update_parameters(model)
    with optimizer.evaluation_weights():
        for ours, theirs in zip(model.parameters(), averaged.module.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("compiled", [False, True])
def test_all_parameters_meet_their_slow_weights_at_one_step(compiled: bool) -> None:
    walk = _walk_with_rests("lookahead(sgd(lr=1.0), k=2, alpha=0.5)", ["p", "pq", "p", "pq", "pq", "p"], compiled=compiled)
    assert [point["p"] for point in walk] == [-1.0, -1.0, -2.0, -2.0, -3.0, -3.0]
    assert [point["q"] for point in walk] == [0.0, -0.5, -0.5, -1.0, -2.0, -1.5]


def test_an_average_of_half_precision_weights_that_rest_goes_on() -> None:
    weights = [torch.zeros(2, dtype=dtype, requires_grad=True) for dtype in (torch.bfloat16, torch.float32)]
    optimizer = Optimizer(weights, "ema(sgd(lr=1.0), decay=0.5, warmup=False)")
    for given in (1.0, 1.0, None):
        weights[0].grad = None if given is None else torch.full_like(weights[0], given)
        weights[1].grad = torch.ones(2)
        optimizer.step()
    assert optimizer.state[weights[0]]["mean"].tolist() == [-1.75, -1.75]  # of -1, -2 and -2
    assert (optimizer.moves, optimizer.state[weights[0]]["step"]) == (3, 2)


def test_steps_of_the_whole_are_saved_where_no_parameter_made_them_all() -> None:
    weights = {name: point(0.0) for name in "pq"}
    optimizer = Optimizer(weights.values(), "swa(sgd, begin=3)")
    for given in "pq":
        for name, parameter in weights.items():
            parameter.grad = torch.ones_like(parameter) if name == given else None
        optimizer.step()
    saved = optimizer.state_dict()
    assert saved["moves"] == 2
    assert copy.deepcopy(optimizer).moves == 2
    again = Optimizer(weights.values(), "swa(sgd, begin=3)")
    again.load_state_dict(saved)
    assert again.moves == 2
    del saved["moves"]  # as earlier versions saved it
    again.load_state_dict(saved)
    assert again.moves == 1


def test_an_average_of_half_precision_weights_moves_where_they_cannot() -> None:
    parameter = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    optimizer = Optimizer([parameter], "ema(sgd(lr=0.01), decay=0.99, warmup=False)")
    for _ in range(20):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    mean = optimizer.state[parameter]["mean"]
    assert mean.dtype == torch.float32
    assert 0.8 < mean[0] < 1
    assert mean[0] != mean[0].bfloat16()


def test_sam_perturbs_by_the_norm_of_all_parameters_and_comes_back() -> None:
    one, two = point(3.0), point(4.0)
    seen, losses = [], iter((1.0, 2.0))
    optimizer = Optimizer([one, two], SAM(inner=SGD(lr=0.0), rho=0.5))

    def closure() -> float:
        seen.append((one.item(), two.item()))
        one.grad, two.grad = one.detach().clone(), two.detach().clone()
        return next(losses)

    assert optimizer.step(closure) == 1.0
    assert seen == [(3.0, 4.0), (pytest.approx(3.3), pytest.approx(4.4))]
    assert (one.item(), two.item()) == (3.0, 4.0)
    with pytest.raises(KnobError, match=r"sam: needs the gradient elsewhere too, by step\(closure\)"):
        optimizer.step()


def test_sam_perturbs_downwards_when_maximizing() -> None:
    parameter, seen = point(3.0), []
    optimizer = Optimizer([parameter], SAM(inner=SGD(lr=0.0), rho=0.5), maximize=True)

    def closure() -> None:
        seen.append(parameter.item())
        parameter.grad = torch.ones(1, dtype=torch.float64)

    optimizer.step(closure)
    assert seen == [3.0, 2.5]


def test_sam_does_not_perturb_along_a_gradient_that_is_not_finite() -> None:
    parameter = point(3.0, 1.0)
    optimizer = Optimizer([parameter], "sam(sgd)", nonfinite="skip")
    optimizer.step(lambda: setattr(parameter, "grad", torch.tensor([float("nan"), 1.0], dtype=torch.float64)))
    assert (optimizer.moved, optimizer.skipped, parameter.tolist()) == (False, 1, [3.0, 1.0])


@record("halving")
class Halving(Wrapper):
    """A wrapper written elsewhere: halves the weights after every second step, and remembers what they were."""

    inner: Rule = SGD()

    slots: ClassVar = ("before",)

    def coefficients(self, t: int) -> tuple[Any, ...] | None:
        return None if t % 2 else (0.5,)

    @staticmethod
    def after_step(p, before, factor):
        return p * factor, p


Halving.name = "halving"


@pytest.mark.parametrize("compiled", [False, True])
def test_a_wrapper_is_a_rule_plus_what_it_adds(compiled: bool) -> None:
    parameter = torch.full((3,), 8.0, requires_grad=True)
    optimizer = Optimizer([parameter], Halving(inner=SGD(lr=1.0)), compiled=compiled)
    weights = []
    for _ in range(4):
        parameter.grad = torch.ones(3)
        optimizer.step()
        weights.append(parameter[0].item())
    assert weights == [7.0, 3.0, 2.0, 0.5]
    assert optimizer.state[parameter]["before"].tolist() == [1.0] * 3
    members = {name for name in vars(Wrapper) if not name.startswith("_")}  # none that hands on what the inner rule has
    assert members == {"begun", "lr", "coefficients"}


def test_a_rule_that_neither_steps_nor_wraps_is_refused() -> None:
    @record("idle")
    class Idle(Rule):
        lr: Rate = 0.1

    with pytest.raises(KnobError, match="Idle: a rule must extend UpdateRule or Wrapper"):
        Optimizer([point(1.0)], Idle())


def test_wrappers_that_share_a_name_or_a_gradient_are_refused() -> None:
    with pytest.raises(KnobError, match=r"ema: cannot wrap a rule that has decay, mean, warmup too, got 'ema\(inner=sgd\(\)\)'"):
        EMA(inner=EMA(inner=SGD()))
    with pytest.raises(KnobError, match="swa: cannot wrap a rule that has mean too"):
        build("swa(ema)", Rule)
    with pytest.raises(KnobError, match="sam: the inner rule must take its gradient at the parameters"):
        SAM(inner=Nesterov(form="lookahead"))


def test_state_belongs_to_the_whole_chain() -> None:
    parameter = point(1.0)
    saved = Optimizer([parameter], EMA(inner=AdamW())).state_dict()
    assert saved["param_groups"][0]["rule"] == "ema(adamw)"
    with pytest.raises(KnobError, match=r"state must be of rule 'ema\(momentum\)', got 'ema\(adamw\)'"):
        Optimizer([parameter], EMA(inner=Momentum())).load_state_dict(saved)
    assert str(copy.deepcopy(Optimizer([parameter], "ema(momentum)")).rule) == "ema(inner=momentum())"


def test_the_landscape_walks_wrapped_rules() -> None:
    course = Course(surface=Ravine(), n_steps=40)
    plain, flat = course.walk("sgd(lr=0.1)"), course.walk("sam(sgd(lr=0.1), rho=0.3)")
    assert not (plain.points == flat.points).all()
    x = plain.points[0, 0]
    g = course.surface.gradient(x)
    top = x + 0.3 * g / (g**2).sum() ** 0.5
    assert flat.points[1, 0] == pytest.approx(x - 0.1 * course.surface.gradient(top))
    averaged = course.walk("ema(sgd(lr=0.1), decay=0.9)")
    assert averaged.points[1] == pytest.approx(plain.points[1])
    assert averaged.points[2] != pytest.approx(plain.points[2])

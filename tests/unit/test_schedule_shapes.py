"""Decay curves beside torch's stepwise schedulers, and the formulas they are named for."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as theirs

from descend.errors import KnobError
from descend.schedule import (
    Constant,
    Cosine,
    CosineRestarts,
    During,
    Exponential,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStep,
    Polynomial,
    Repeat,
    Schedule,
    Step,
    Then,
    Warmup,
    WarmupStableDecay,
)  # fmt: skip
from descend.technique import build

N = 120


def stepwise(make: Callable[[torch.optim.Optimizer], theirs.LRScheduler], n: int = N) -> list[float]:
    """Learning rates of torch's scheduler for steps 0 .. n - 1, relative to a base rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, seen = make(optimizer), []
    for _ in range(n):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


PAIRS: list[tuple[Schedule, Callable[[torch.optim.Optimizer], theirs.LRScheduler]]] = [
    (Constant(), lambda o: theirs.ConstantLR(o, factor=1.0)),
    (Step(every=0.25, gamma=0.1), lambda o: theirs.StepLR(o, 30, 0.1)),
    (Step(every=0.1, gamma=0.5), lambda o: theirs.StepLR(o, 12, 0.5)),
    (MultiStep(milestones=(0.3, 0.6, 0.7), gamma=0.2), lambda o: theirs.MultiStepLR(o, [36, 72, 84], 0.2)),
    (Exponential(final=0.01), lambda o: theirs.ExponentialLR(o, 0.01 ** (1 / N))),
    (Linear(floor=0.1), lambda o: theirs.LinearLR(o, 1.0, 0.1, N)),
    (Polynomial(power=3.0), lambda o: theirs.PolynomialLR(o, N, 3.0)),
    (Cosine(floor=0.05), lambda o: theirs.CosineAnnealingLR(o, N, 0.05)),
    (CosineRestarts(n_cycles=3, floor=0.01), lambda o: theirs.CosineAnnealingWarmRestarts(o, 40, 1, 0.01)),
    (CosineRestarts(n_cycles=4, stretch=2.0), lambda o: theirs.CosineAnnealingWarmRestarts(o, 8, 2)),
    (InverseTime(decline=24.0), lambda o: theirs.LambdaLR(o, lambda k: 1 / (1 + 0.2 * k))),
    (InverseSqrt(decline=24.0), lambda o: theirs.LambdaLR(o, lambda k: (1 + 0.2 * k) ** -0.5)),
    (Warmup(fraction=0.25, start=0.1), lambda o: theirs.LinearLR(o, 0.1, 1.0, 30)),
    (
        Then(parts=(Warmup(fraction=0.25, start=0.1), Cosine())),
        lambda o: theirs.SequentialLR(o, [theirs.LinearLR(o, 0.1, 1.0, 30), theirs.CosineAnnealingLR(o, 90)], [30]),
    ),
]


@pytest.mark.parametrize(("ours", "make"), PAIRS, ids=[str(ours) for ours, _ in PAIRS])
def test_closed_form_is_the_stepwise_form_of_torch(ours: Schedule, make: Callable[..., theirs.LRScheduler]) -> None:
    assert [ours.factor(k / N) for k in range(N)] == pytest.approx(stepwise(make), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_one_cycle_is_torchs(anneal: str) -> None:
    # torch counts its flanks from the first to the last step, so its n steps are our progress 0 .. 1 in n - 1 parts
    n = 101
    ours = build(f"one_cycle(peak_at=0.3, start=0.04, floor=0.0004, anneal={anneal})", Schedule)
    name = {"cosine": "cos", "linear": "linear"}[anneal]

    def make(optimizer: torch.optim.Optimizer) -> theirs.LRScheduler:
        # pct_start such that torch's rise ends at its step number 30
        return theirs.OneCycleLR(
            optimizer, 1.0, n, pct_start=31 / n, anneal_strategy=name, final_div_factor=100, cycle_momentum=False
        )

    assert [ours.factor(k / (n - 1)) for k in range(n - 1)] == pytest.approx(stepwise(make, n - 1), rel=1e-9)


def test_wsd_rises_stays_and_falls() -> None:
    wsd = WarmupStableDecay(warmup=0.1, decay=0.4, start=0.2, floor=0.1)
    assert [wsd.factor(p) for p in (0.0, 0.05, 0.1, 0.5, 0.6, 0.8, 1.0)] == pytest.approx([0.2, 0.6, 1.0, 1.0, 1.0, 0.55, 0.1])
    root = WarmupStableDecay(warmup=0.0, decay=0.4, form="sqrt")
    assert root.factor(0.7) == pytest.approx(1 - math.sqrt(0.25))
    with pytest.raises(KnobError, match=r"wsd: warmup \+ decay must be <= 1"):
        WarmupStableDecay(warmup=0.5, decay=0.6)


@pytest.mark.parametrize("milestones", [(), (0.5, 0.5), (0.7, 0.2), (0.0, 0.5), (0.5, 1.0)])
def test_milestones_must_increase_within_the_run(milestones: tuple[float, ...]) -> None:
    with pytest.raises(KnobError, match="milestones must be increasing"):
        MultiStep(milestones=milestones)


def test_parts_share_the_run() -> None:
    both = Then(parts=(Warmup(fraction=0.2, start=0.0), Linear(), During(inner=Linear(floor=0.5), fraction=0.4), Constant()))
    ends = [end for _, end in both.stretches()]
    assert ends == pytest.approx([0.2, 0.4, 0.8, 1.0])
    expected = {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.3: 0.5, 0.4: 1.0, 0.6: 0.75, 0.8: 1.0, 1.0: 1.0}
    assert {p: both.factor(p) for p in expected} == pytest.approx(expected)


def test_text_by_position() -> None:
    assert build("then(warmup(fraction=0.05), cosine())", Schedule) == Then(parts=(Warmup(fraction=0.05), Cosine()))
    nested = build("repeat(then(warmup(fraction=0.5, start=0.0), linear()), n_cycles=2)", Schedule)
    assert isinstance(nested, Repeat)
    assert [nested.factor(p) for p in (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)] == pytest.approx([0, 0.5, 1, 0.5, 0, 1, 0])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((Cosine(),), "two schedules or more"),
        ((Warmup(), During(inner=Cosine(), fraction=0.5)), "shares must add up to 1"),
        ((During(inner=Constant(), fraction=0.6), During(inner=Constant(), fraction=0.4), Cosine()), "must be < 1"),
    ],
)
def test_parts_that_do_not_fit_are_errors(parts: tuple[Schedule, ...], message: str) -> None:
    with pytest.raises(KnobError, match=message):
        Then(parts=parts)


@given(st.floats(0.01, 0.9), st.floats(0, 1))
def test_a_border_belongs_to_the_later_part(fraction: float, start: float) -> None:
    both = Then(parts=(Warmup(fraction=fraction, start=start), Cosine()))
    assert both.factor(fraction) == pytest.approx(1.0)
    assert both.factor(1.0) == pytest.approx(0.0, abs=1e-12)
    assert both.factor(0.0) == pytest.approx(start)


@given(st.sampled_from(PAIRS), st.floats(0, 1), st.floats(0, 1))
def test_plain_decays_never_rise(pair: tuple[Schedule, object], one: float, two: float) -> None:
    schedule = pair[0]
    if not isinstance(schedule, (CosineRestarts, Warmup, Then)):
        assert schedule.factor(max(one, two)) <= schedule.factor(min(one, two)) + 1e-12


@pytest.mark.parametrize(("stretch", "n_cycles"), [(1e308, 3), (1e5, 200), (1.5, 1751)])
def test_cycles_beyond_what_a_float_holds_leave_the_last_ones(stretch: float, n_cycles: int) -> None:
    shape = build(f"cosine_restarts(stretch={stretch}, n_cycles={n_cycles})", Schedule)
    last = 1 - 1 / stretch  # the share of the last cycle, the others being a geometric series
    for progress in (1 - last, 0.75, 1.0):
        inside = (progress - (1 - last)) / last
        assert shape.factor_at(progress, None) == pytest.approx((1 + math.cos(math.pi * inside)) / 2, abs=1e-9)

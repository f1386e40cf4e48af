"""Schedules that listen: beside torch's scheduler, a textbook's test, and simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles.schedule_trend import slope_above

from descend.errors import KnobError
from descend.schedule import Cosine, During, Exponential, History, PerEpoch, Plateau, Repeat, Schedule, Step, Then, Warmup, Watch
from descend.schedule.plateau import fall_test
from descend.technique import build


def history(losses: list[float], n_epochs: int | None = None) -> History:
    return History(n_epochs or len(losses), train_loss=tuple(losses), val_loss=tuple(losses), val_metric=tuple(losses))


def halting(stop: int, n: int = 40) -> list[float]:
    return [0.9 ** min(k, stop) for k in range(n)]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0.01, 2.0), min_size=1, max_size=40),
    mode=st.sampled_from(["min", "max"]),
    patience=st.integers(0, 4),
    cooldown=st.integers(0, 3),
    threshold=st.sampled_from([0.0, 1e-4, 0.05]),
    floor=st.sampled_from([0.0, 0.02]),
)
def test_plateau_walks_in_step_with_torch(
    values: list[float], mode: str, patience: int, cooldown: int, threshold: float, floor: float
) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=0.1, patience=patience, threshold=threshold, cooldown=cooldown, min_lr=floor, eps=0.0
    )  # fmt: skip
    monitor = "val_loss" if mode == "min" else "val_metric"
    ours = Plateau(monitor=monitor, patience=patience, threshold=threshold, cooldown=cooldown, floor=floor)
    rates = [1.0]
    for value in values:
        theirs.step(value)
        rates.append(optimizer.param_groups[0]["lr"])
    told = history(values)
    assert [ours.factor(k / len(values), told) for k in range(len(values) + 1)] == pytest.approx(rates, rel=1e-12)
    drops = [k for k in range(1, len(rates)) if rates[k] != rates[k - 1]]
    assert [found.epoch for found in ours.decisions(told)] == drops


def test_plateau_says_what_it_saw() -> None:
    (found,) = Plateau(patience=2).decisions(history([1.0, 0.5, 0.6, 0.5, 0.55]))
    assert (found.epoch, found.what) == (5, "rate drops to 0.1 of where it began")
    assert found.why == "val_loss has not fallen below 0.5 by 0.01% in the last 3 epochs that count"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.05, 5.0), min_size=3, max_size=30, unique=True), st.floats(0.001, 0.2))
def test_the_test_is_the_textbooks(losses: list[float], worth: float) -> None:
    found = fall_test(tuple(losses), worth)
    slope, p = slope_above([math.log(loss) for loss in losses], math.log(1 - worth))
    assert found.slope == pytest.approx(slope, rel=1e-9, abs=1e-12)
    assert found.p == pytest.approx(p, rel=1e-6, abs=1e-12)


def test_a_curve_without_noise_decides_by_its_slope() -> None:
    assert fall_test((1.0,) * 6, 0.01).p == 0.0
    assert fall_test(tuple(0.9**k for k in range(6)), 0.05).p == 1.0
    assert fall_test((1.0, 0.5, 0.0, 0.0), 0.05).p > 0.9  # a loss of zero has no logarithm


def stopped(fall: float, noise: float, *, n_runs: int = 400, n_epochs: int = 30, **knobs: float) -> list[float]:
    """The epochs at which ``watch`` stopped simulated runs whose loss falls by ``fall`` an epoch; inf where it never did."""
    rng, watch, found = np.random.default_rng(7), Watch(**knobs), []
    for _ in range(n_runs):
        line = np.exp(math.log1p(-fall) * np.arange(n_epochs) + noise * rng.standard_normal(n_epochs))
        (decision,) = watch.decisions(history(line.tolist()))
        found.append(decision.epoch if decision.why.startswith("progress has stopped") else math.inf)
    return found


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("level", [0.1, 0.3])
def test_a_run_worth_waiting_for_is_stopped_as_rarely_as_promised(noise: float, level: float) -> None:
    n = sum(map(math.isfinite, stopped(0.02, noise, level=level)))
    assert n / 400 <= level + 2.6 * math.sqrt(level * (1 - level) / 400)
    assert n > 0  # the border is meant: a rule that never stops would pass the line above
    assert sum(map(math.isfinite, stopped(0.06, noise, level=level))) <= max(n, 4)  # faster progress, fewer mistakes


def test_a_flat_run_is_stopped_the_sooner_the_quieter_it_is() -> None:
    medians = [float(np.median(stopped(0.0, noise))) for noise in (0.003, 0.03, 0.06)]
    assert medians[0] == 6  # the first look
    assert medians[0] < medians[1] < medians[2] < 24
    assert np.median(stopped(0.0, 0.5)) == math.inf  # too noisy to say: it waits for the latest point


def test_watch_holds_then_decays_to_the_end() -> None:
    told, watch = history(halting(10)), Watch(window=4)
    (found,) = watch.decisions(told)
    assert 10 < found.epoch < 20
    assert found.what == f"decay begins (linear, over the last {1 - found.epoch / 40:.0%} of the run)"
    assert found.why.startswith("progress has stopped: over 9 epochs val_loss changed by +0.00% an epoch; ")
    curve = [watch.factor(k / 400, told) for k in range(401)]
    begin = 10 * found.epoch
    assert curve[: begin + 1] == [1.0] * (begin + 1)
    assert curve[begin:] == pytest.approx([1 - (k - begin) / (400 - begin) for k in range(begin, 401)], abs=1e-9)


@pytest.mark.parametrize("latest", [0.5, 0.8, 0.85])
def test_what_never_stops_decays_from_the_latest_border(latest: float) -> None:
    told, watch, border = history(halting(99)), Watch(latest=latest), math.floor(latest * 40)
    (found,) = watch.decisions(told)
    assert found.epoch == border
    assert found.why.startswith(f"the latest point, {latest:g} of the run: over")
    assert watch.factor(border / 40, told) == 1.0
    assert watch.factor(border / 40 + 0.01, told) < 1.0
    assert watch.factor(1.0, told) == pytest.approx(0.0, abs=1e-9)
    assert watch.decisions(history(halting(99)[: border - 1], 40)) == []


def test_a_run_too_short_to_look_is_an_error_at_its_start() -> None:
    with pytest.raises(KnobError, match=r"watch: window must be at most the 4 epochs up to latest=0.8, got 6. Train 8 epochs"):
        Watch().decisions(History(5))
    assert Watch().decisions(History(8)) == []


def test_a_part_hears_its_own_epochs_alone() -> None:
    loud = [9.0] * 10 + halting(99, 30)  # the warm-up stands still; what follows does not
    both = Then(parts=(Warmup(fraction=0.25), Watch()))
    (found,) = both.decisions(history(loud))
    assert found.epoch == 34  # 10 epochs of warm-up, then 0.8 of 30
    assert "of its stretch" in found.what
    assert both.factor(34 / 40, history(loud)) == 1.0
    twice = Repeat(inner=Plateau(patience=1), n_cycles=2).decisions(history([1.0] * 8))
    assert [found.epoch for found in twice] == [3, 7]
    held = During(inner=Plateau(patience=1), fraction=0.5)
    assert [found.epoch for found in held.decisions(history([1.0] * 8))] == [3]
    assert held.factor(1.0, history([1.0] * 8)) == pytest.approx(0.1)


def test_per_epoch_is_a_scheduler_stepped_once_an_epoch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs, rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12), []
    for _ in range(12):
        rates += [optimizer.param_groups[0]["lr"]] * 7
        optimizer.step()
        theirs.step()
    told = history([1.0] * 12)
    assert [PerEpoch(inner=Cosine()).factor(k / 84, told) for k in range(84)] == pytest.approx(rates, abs=1e-12)


def test_per_epoch_on_a_stretch_keeps_to_the_epochs_of_the_run() -> None:
    text = "then(per_epoch(warmup(fraction=0.25, start=0.0)), per_epoch(exponential()))"
    ours, told = build(text, Schedule), history([1.0] * 8)
    expected = [0.0, 0.5] + [Exponential().factor(k / 6) for k in range(6)]
    for step in range(40):
        assert ours.factor(step / 40, told) == pytest.approx(expected[step // 5])


def test_a_history_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(KnobError, match=r"one number a finished epoch, of 2 at most, got \[3, 0, 0\]"):
        History(2, train_loss=(1.0, 1.0, 1.0))
    with pytest.raises(KnobError, match=r"got \[3, 2, 0\]"):
        History(4, train_loss=(1.0, 1.0, 1.0), val_loss=(1.0, 1.0))
    with pytest.raises(KnobError, match="n_epochs must be a whole number >= 1"):
        History(0)
    with pytest.raises(KnobError, match=r"must hold the 2 epochs that have finished at progress 0.5"):
        Step().factor(0.5, History(4, val_loss=(1.0,)))
    with pytest.raises(KnobError, match="plateau: monitor must be something that the run measures, got 'val_metric'"):
        Plateau(monitor="val_metric").factor(0.5, History(4, val_loss=(1.0, 1.0)))

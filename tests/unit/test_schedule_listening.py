"""Schedules that listen: beside torch's scheduler, a textbook's test, and simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles.schedule_trend import averaged, integrated

from descend.errors import KnobError
from descend.schedule import Cosine, During, Exponential, History, PerEpoch, Plateau, Repeat, Schedule, Step, Then, Warmup, Watch
from descend.schedule.trend import CORRELATIONS, fall_test
from descend.technique import build


def history(losses: list[float], n_epochs: int | None = None) -> History:
    return History(n_epochs or len(losses), train_loss=tuple(losses), val_loss=tuple(losses), val_metric=tuple(losses))


def halting(stop: int, n: int = 40) -> list[float]:
    return [0.9 ** min(k, stop) for k in range(n)]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0.01, 2.0) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=40),
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
    values = values if mode == "min" else [-value if math.isinf(value) else value for value in values]
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


@pytest.mark.parametrize("first", [math.nan, math.inf])
def test_plateau_is_not_poisoned_by_a_first_epoch_that_is_not_finite(first: float) -> None:
    told = history([first, 1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8])
    assert [found.epoch for found in Plateau(patience=3).decisions(told)] == [7]
    assert "below 0.9 by" in Plateau(patience=3).decisions(told)[0].why


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.05, 5.0), min_size=3, max_size=30, unique=True), st.floats(0.001, 0.2))
def test_the_test_is_the_textbooks(losses: list[float], worth: float) -> None:
    found = fall_test(tuple(losses), worth)
    slope, p, correlation = averaged([math.log(loss) for loss in losses], math.log(1 - worth), CORRELATIONS.tolist())
    assert found.slope == pytest.approx(slope, rel=1e-6, abs=1e-9)
    assert found.p == pytest.approx(p, rel=1e-6, abs=1e-9)
    assert found.correlation == pytest.approx(correlation, rel=1e-6)


@pytest.mark.parametrize("n", [4, 6, 12, 30])
def test_sixteen_correlations_are_as_good_as_all(n: int) -> None:
    for seed in range(5):
        y = (-0.01 * np.arange(n) + 0.03 * np.random.default_rng(seed).standard_normal(n)).tolist()
        assert fall_test(tuple(map(math.exp, y)), 0.02).p == pytest.approx(integrated(y, math.log(0.98)), abs=2e-3)


def test_correlated_noise_is_recognized() -> None:
    white = np.random.default_rng(1).standard_normal(60)
    walk = np.cumsum(white)
    by_noise = [fall_test(tuple(np.exp(0.03 * noise)), 0.02).correlation for noise in (white, walk)]
    assert by_noise[0] < 0.3
    assert by_noise[1] > 0.8


def test_a_loss_that_is_not_finite_says_nothing() -> None:
    for value in (math.nan, math.inf):
        assert fall_test((1.0, 1.0, value, 1.0), 0.02).p == 1.0
    told = history([math.nan, *[1.0] * 39])
    assert [found.what.split(" (")[0] for found in Watch().decisions(told)][-1] == "decay begins"
    (found,) = Watch(window=32, confirm=1).decisions(history([math.nan] * 40))
    assert "over 32 epochs val_loss was not always finite; no test" in found.why


def test_a_curve_without_noise_decides_by_its_slope() -> None:
    assert fall_test((1.0,) * 6, 0.01).p == 0.0
    assert fall_test(tuple(0.9**k for k in range(6)), 0.05).p == 1.0
    assert fall_test((*(0.1**k for k in range(9)), 0.0), 0.05).p > 0.9  # a loss of zero has no logarithm


def simulated(fall: float, noise: float, correlation: float, n_epochs: int, rng: np.random.Generator) -> list[float]:
    """A loss that falls by ``fall`` per epoch, times autoregressive log-normal noise of the size ``noise``."""
    draws, drift = rng.standard_normal(n_epochs), [0.0]
    for draw in draws[1:]:
        drift.append(correlation * drift[-1] + math.sqrt(1 - correlation**2) * float(draw))
    start = float(draws[0]) * correlation ** np.arange(n_epochs)
    return np.exp(math.log1p(-fall) * np.arange(n_epochs) + noise * (np.array(drift) + start)).tolist()


def stopped(
    fall: float, noise: float, *, correlation: float = 0.0, n_runs: int = 300, n_epochs: int = 30, **knobs: float
) -> list[float]:
    """The epochs at which ``watch`` stopped simulated runs whose loss falls by ``fall`` per epoch; inf where it never did."""
    rng, watch, found = np.random.default_rng(7), Watch(**knobs), []
    for _ in range(n_runs):
        decision = watch.decisions(history(simulated(fall, noise, correlation, n_epochs, rng)))[-1]
        found.append(decision.epoch if decision.why.startswith("progress has stopped") else math.inf)
    return found


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("level", [0.1, 0.3])
def test_a_run_worth_waiting_for_is_stopped_as_rarely_as_promised(correlation: float, level: float) -> None:
    n = sum(map(math.isfinite, stopped(0.02, 0.05, correlation=correlation, level=level)))
    assert n / 300 <= level + 2.6 * math.sqrt(level * (1 - level) / 300)
    assert n > 0 or correlation < 0.8  # the border is meant: a rule that never stops would pass the line above
    assert sum(map(math.isfinite, stopped(0.06, 0.05, correlation=correlation, level=level))) <= max(n, 3)


@pytest.mark.parametrize("n_epochs", [12, 60])
def test_the_level_does_not_depend_on_the_length_of_the_run(n_epochs: int) -> None:
    n = sum(map(math.isfinite, stopped(0.02, 0.02, correlation=0.8, n_epochs=n_epochs, n_runs=200)))
    assert n / 200 <= 0.1 + 2.6 * math.sqrt(0.09 / 200)


def test_a_flat_run_is_stopped_the_sooner_the_quieter_it_is() -> None:
    medians = [float(np.median(stopped(0.0, noise, n_epochs=40, n_runs=100))) for noise in (0.003, 0.03, 0.04)]
    assert medians[0] == 18  # the first look is after 16 epochs, and two more have to agree
    assert medians[0] < medians[1] < medians[2] < 32
    assert np.median(stopped(0.0, 0.5, n_runs=100)) == math.inf  # too noisy to say: it waits for the latest point


@pytest.mark.parametrize("noise", [0.001, 0.005, 0.01, 0.03])
@pytest.mark.parametrize("n_epochs", [20, 30, 60])
def test_a_run_that_starts_late_is_not_stopped(noise: float, n_epochs: int) -> None:
    """Eight flat epochs, then ten per cent per epoch."""
    rng, line = np.random.default_rng(3), np.maximum(np.arange(n_epochs) - 7, 0) * math.log(0.9)
    for _ in range(50):
        losses = np.exp(line + noise * rng.standard_normal(n_epochs)).tolist()
        assert "the latest point" in Watch().decisions(history(losses))[-1].why


def test_it_changes_its_mind_before_the_rate_has_fallen() -> None:
    losses = [1.0] * 17 + [0.9**k for k in range(1, 24)]
    told, watch = history(losses), Watch()
    whats = [(found.epoch, found.what.split(" (")[0]) for found in watch.decisions(told)]
    assert whats == [
        (16, "progress seems to have stopped, the rate is held"),
        (18, "watching goes on"),
        (32, "decay begins"),
    ]
    assert all(watch.factor(k / 40, told) == 1.0 for k in range(33))
    by_then = history(losses[:17], 40)  # what an interrupted run had heard
    assert watch.decisions(by_then) == watch.decisions(told)[:1]
    hasty = Watch(confirm=1).decisions(told)
    assert [(found.epoch, found.what.split(" (")[0]) for found in hasty] == [(16, "decay begins")]


def test_it_does_not_look_before_the_earliest_point() -> None:
    for earliest in (0.2, 0.5):
        first, *_ = Watch(earliest=earliest).decisions(history([1.0] * 40))
        assert first.epoch == 40 * earliest
    with pytest.raises(KnobError, match=r"watch: earliest must be smaller than latest=0.8, got 0.8"):
        Watch(earliest=0.8)


def test_watch_holds_then_decays_to_the_end() -> None:
    told, watch = history(halting(10)), Watch(window=4, earliest=0.0, confirm=1)
    (found,) = watch.decisions(told)
    assert 10 < found.epoch < 20
    assert found.what == f"decay begins (linear, over the last {1 - found.epoch / 40:.0%} of the run)"
    assert found.why.startswith("progress has stopped: over 9 epochs val_loss changed by +0.00% per epoch; ")
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
    must = r"watch: must have 3 looks between 0.4 and 0.8, after window=6 epochs or more, got '9 epochs'. Train 10 epochs or more"
    with pytest.raises(KnobError, match=must):
        Watch().decisions(History(9))
    assert Watch().decisions(History(10)) == []


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
    with pytest.raises(KnobError, match=r"one number per finished epoch, of 2 at most, got \[3, 0, 0\]"):
        History(2, train_loss=(1.0, 1.0, 1.0))
    with pytest.raises(KnobError, match=r"got \[3, 2, 0\]"):
        History(4, train_loss=(1.0, 1.0, 1.0), val_loss=(1.0, 1.0))
    with pytest.raises(KnobError, match="n_epochs must be a whole number >= 1"):
        History(0)
    with pytest.raises(KnobError, match=r"must hold the 2 epochs that have finished at progress 0.5"):
        Step().factor(0.5, History(4, val_loss=(1.0,)))
    with pytest.raises(KnobError, match="plateau: monitor must be something that the run measures, got 'val_metric'"):
        Plateau(monitor="val_metric").factor(0.5, History(4, val_loss=(1.0, 1.0)))

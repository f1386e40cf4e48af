"""The learning-rate range test: its grid, its end, its smoothing and its suggestion, on losses known by formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from tests.oracles.schedule_sweep import clear_rise, share_of_orders

from descend.errors import KnobError, TrainingError
from descend.schedule import RangeTest, Sweep
from descend.schedule.rate_sweep import N_PERMUTED, fall_by_chance, first_rise


def sweep_rates(step: Callable[[float], float], *, low: float = 1e-6, high: float = 1.0, n_steps: int = 100) -> RangeTest:
    """Sweep as a loop of one's own does. step: takes one training step at a rate and returns the loss before it."""
    sweep = Sweep(low=low, high=high, n_steps=n_steps)
    for rate in sweep.rates:
        if not sweep.tell(step(float(rate))):
            break
    return sweep.result()


def curve(shape: Callable[[float], float], *, noise: float = 0.0, seed: int = 0) -> Callable[[float], float]:
    rng = np.random.default_rng(seed)
    return lambda rate: shape(math.log10(rate)) + noise * float(rng.standard_normal())


def falls_at(center: float) -> Callable[[float], float]:
    """A loss that falls like the normal law around 10 ** center, and grows without bound from a hundred times that on."""
    return lambda x: 2.3 - 2.0 * float(norm.cdf(x, center, 0.4)) + 30 * max(0.0, x - center - 2) ** 2


def test_rates_are_an_even_factor_apart() -> None:
    seen: list[float] = []
    found = sweep_rates(lambda rate: seen.append(rate) or 1.0, low=1e-5, high=1e-1, n_steps=41)
    assert seen == pytest.approx([10 ** (-5 + k / 10) for k in range(41)])
    assert found.rates.tolist() == seen
    assert not found.diverged
    assert found.suggestion is None  # a loss that never falls suggests nothing


@pytest.mark.parametrize("center", [-3.5, -2.0, -1.5])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_suggestion_is_where_the_loss_falls_most_steeply(center: float, noise: float) -> None:
    found = sweep_rates(curve(falls_at(center), noise=noise), n_steps=200)
    assert found.suggestion is not None
    assert math.log10(found.suggestion) == pytest.approx(center, abs=0.1 if noise == 0 else 0.3)
    assert found.suggestion < found.lowest


def test_it_ends_where_the_loss_diverges() -> None:
    found = sweep_rates(curve(falls_at(-3.5)), n_steps=200)
    assert found.diverged
    assert found.losses[-1] > 4 * found.smooth.min()
    assert math.log10(found.rates[-1]) < -0.5
    taken: list[float] = []
    cut = sweep_rates(lambda rate: taken.append(rate) or (1 / len(taken) if rate < 0.1 else math.nan), low=1e-3, high=1.0)
    assert cut.diverged
    assert np.isfinite(cut.losses).all()
    assert len(taken) == len(cut.rates) + 1  # the step with no finite loss is left out
    assert len(cut.smooth) == len(cut.rates)


def explodes_bounded(center: float) -> Callable[[float], float]:
    """Falls around 10 ** center, explodes to 3 a decade later, and falls again behind it, deeper and more steeply."""
    return lambda x: (
        2.3 - 1.0 * float(norm.cdf(x, center, 0.3)) if x < center + 1 else 3.2 - 2.6 * float(norm.cdf(x, center + 2, 0.2))
    )


@pytest.mark.parametrize("center", [-3.0, -2.0, -1.5])
@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_suggested_from_beyond_an_explosion_that_stays_bounded(center: float, seed: int) -> None:
    found = sweep_rates(curve(explodes_bounded(center), noise=0.05, seed=seed), low=1e-5, high=10.0, n_steps=120)
    assert not found.diverged  # it never reaches four times the lowest loss
    assert found.smooth.argmin() > found.n_before_rise  # the deepest point lies behind it
    assert found.suggestion is not None
    assert found.rise is not None
    assert math.log10(found.suggestion) == pytest.approx(center, abs=0.25)
    assert math.log10(found.rise) == pytest.approx(center + 1, abs=0.3)
    assert found.suggestion < found.lowest < found.rise


@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "uniform"])
def test_batch_noise_alone_suggests_nothing(draw: str) -> None:
    rng = np.random.default_rng(3)
    rates, n_suggested = np.geomspace(1e-6, 1, 100), 0
    for _ in range(300):
        losses = 2.3 + 0.1 * getattr(rng, draw)(size=100)
        n_suggested += RangeTest(rates, losses, 100, 1e-6, 1.0).suggestion is not None
    assert n_suggested <= 9  # a level of 1 %, and 2.6 standard errors of 300 draws


def test_a_fall_of_three_times_the_noise_is_found() -> None:
    rng = np.random.default_rng(5)
    x = np.linspace(-6, 0, 100)
    losses = (2.3 - 0.3 * norm.cdf(x, -2, 0.4) + 0.1 * rng.standard_normal(100) for _ in range(100))
    found = [RangeTest(10**x, row, 100, 1e-6, 1.0) for row in losses]
    assert sum(one.suggestion is not None for one in found) > 95


@pytest.mark.parametrize("seed", range(6))
def test_the_p_value_is_the_share_of_all_orders(seed: int) -> None:
    losses, width = np.random.default_rng(seed).random(7), 0.8
    exact = share_of_orders(losses.tolist(), width)
    assert fall_by_chance(losses, width) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / N_PERMUTED) + 0.002)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.1, 5.0), min_size=6, max_size=60), st.sampled_from([0.0, 0.02, 3.0]), st.integers(3, 8))
def test_the_first_rise_is_the_plain_counts(values: list[float], drift: float, window: int) -> None:
    losses = [value * 0.05 + drift * (at / len(values)) ** 2 + 1 for at, value in enumerate(values)]
    assert first_rise(np.array(losses), window) == clear_rise(losses, window)


def test_flat_noisy_sweeps_are_rarely_cut() -> None:
    rng = np.random.default_rng(0)
    n_cut = sum(first_rise(2.3 + 0.1 * rng.standard_normal(100), 8) < 100 for _ in range(500))
    assert n_cut <= 15


def test_smoothing_has_no_lag_and_keeps_the_mean() -> None:
    losses = np.zeros(101)
    losses[50] = 1.0
    smooth = RangeTest(np.geomspace(1e-6, 1, 101), losses, 101, 1e-6, 1.0).smooth
    assert smooth.argmax() == 50
    np.testing.assert_allclose(smooth, smooth[::-1], atol=1e-15)
    assert smooth.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("knobs", "match"),
    [
        ({"low": 0.0}, "0 < low < high"), ({"low": 1.0, "high": 0.1}, "0 < low < high"), ({"high": math.inf}, "0 < low < high"),
        ({"n_steps": 19}, "n_steps must be a whole number >= 20"), ({"n_steps": True}, "n_steps"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(knobs: dict[str, float], match: str) -> None:
    with pytest.raises(KnobError, match=match):
        sweep_rates(lambda rate: rate, **knobs)  # pyright: ignore[reportArgumentType]


def test_the_luck_of_the_first_batch_does_not_end_a_sweep() -> None:
    sweep = Sweep(n_steps=20)
    losses = [0.001, 0.02, 0.015, 0.01, 0.012] + [0.01] * 15  # a head that is fitted already: small losses, far apart
    assert [sweep.tell(loss) for loss in losses] == [True] * 19 + [False]
    assert len(sweep.result().losses) == 20


def test_a_network_that_explodes_at_once_is_an_error() -> None:
    taken: list[float] = []
    with pytest.raises(TrainingError, match=r"needs five steps with a finite loss, got 2. Begin lower"):
        sweep_rates(lambda rate: taken.append(rate) or (1.0 if len(taken) < 3 else math.inf))

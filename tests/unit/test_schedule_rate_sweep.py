"""The learning-rate range test: its grid, its end, its smoothing and its suggestion, on losses known by formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from descend.errors import KnobError, TrainingError
from descend.schedule import RangeTest, Sweep


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


def test_smoothing_has_no_lag_and_keeps_the_mean() -> None:
    losses = np.zeros(101)
    losses[50] = 1.0
    smooth = RangeTest(np.geomspace(1e-6, 1, 101), losses, 101, 1e-6, 1.0).smooth
    assert smooth.argmax() == 50
    np.testing.assert_allclose(smooth, smooth[::-1], atol=1e-15)
    assert smooth.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"low": 0.0}, "0 < low < high"), ({"low": 1.0, "high": 0.1}, "0 < low < high"), ({"high": math.inf}, "0 < low < high"),
        ({"n_steps": 19}, "n_steps must be a whole number >= 20"), ({"n_steps": True}, "n_steps"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(settings: dict[str, float], match: str) -> None:
    with pytest.raises(KnobError, match=match):
        sweep_rates(lambda rate: rate, **settings)  # pyright: ignore[reportArgumentType]


def test_a_network_that_explodes_at_once_is_an_error() -> None:
    taken: list[float] = []
    with pytest.raises(TrainingError, match=r"needs five steps with a finite loss, got 2. Begin lower"):
        sweep_rates(lambda rate: taken.append(rate) or (1.0 if len(taken) < 3 else math.inf))

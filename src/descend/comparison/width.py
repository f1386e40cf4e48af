"""How many decades of learning rates are good enough, with an interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.stats import Interval
from descend.stats.intervals import interval_of

WITHIN = 0.01
"""What a rate may cost to be good enough: a point."""


def in_points(share: float) -> str:
    """Return a share of the pictures in words: ``a point``, ``0.5 points``."""
    return "a point" if share == 0.01 else f"{100 * share:g} points"


@dataclass(frozen=True, eq=False)
class Width:
    """The range of rates around the best one within which accuracy stays close to the best.

    best: the rate with the highest mean. accuracy: there. low, high: ends of the range. decades: log10(high / low), with an
    interval over seeds; open where one seed, or equal ones, leave it so. by_seed: (n_seeds,) what each seed says of it, the
    jackknife's pseudo-values. open_low, open_high: whether the range reaches the end of the grid, so that the width is at least
    this. noise: the standard error of the difference that chance makes between two rates of the range, or, where it holds one
    rate of the grid, between that and its neighbors; NaN with one seed, or a grid of one rate.
    """

    best: float
    accuracy: Interval
    low: float
    high: float
    decades: Interval
    by_seed: NDArray[np.float64]
    open_low: bool
    open_high: bool
    noise: float

    @property
    def n_seeds(self) -> int:
        """How many seeds it is from."""
        return len(self.by_seed)

    @property
    def bounded(self) -> bool:
        """Whether both ends lie within the grid, so that the width is known and not only that it is no less."""
        return not (self.open_low or self.open_high)

    @property
    def text(self) -> str:
        """The width in words, with its interval."""
        known = f"{'' if self.bounded else 'at least '}{self.decades.mean:.1f}"
        if not math.isfinite(self.decades.high):
            return known
        return f"{known} [{max(self.decades.low, 0.0):.1f}, {self.decades.high:.1f}]" if self.bounded else known

    @property
    def range_text(self) -> str:
        """The range in words; an end that the grid cuts off is marked."""
        return f"{'<' if self.open_low else ''}{self.low:.2g} to {'>' if self.open_high else ''}{self.high:.2g}"

    def facts(self) -> dict[str, Any]:
        """Return the width as plain data."""
        return {
            "best_rate": self.best, "accuracy": vars(self.accuracy), "low": self.low, "high": self.high,
            "decades": vars(self.decades), "by_seed": self.by_seed.tolist(), "open_low": self.open_low,
            "open_high": self.open_high, "noise": self.noise,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Curve:
    """One rule's runs. rates: ascending. accuracy: (n_seeds, n_rates) of validation; NaN where the run diverged.

    failed: runs that failed for another reason; there is no width then. test: at the best rate, None without one. level: of the
    width's intervals.
    """

    optimizer: str
    rates: tuple[float, ...]
    accuracy: NDArray[np.float64]
    n_failed: int
    test: Interval | None
    within: float = WITHIN
    level: float = 0.95

    @cached_property
    def width(self) -> Width | None:
        """The width; None without seeds that ran at every rate, or where a run failed other than by diverging."""
        if not len(self.accuracy) or self.n_failed:
            return None
        return width_of(self.rates, self.accuracy, self.within, self.level)

    @property
    def n_diverged(self) -> int:
        """How many runs diverged."""
        return int(np.isnan(self.accuracy).sum())

    def facts(self) -> dict[str, Any]:
        """Return the curve as plain data."""
        return {
            "optimizer": self.optimizer, "rates": list(self.rates), "accuracy": self.accuracy.tolist(), "n_failed": self.n_failed,
            "width": None if self.width is None else self.width.facts(), "test": None if self.test is None else vars(self.test),
        }  # fmt: skip


def width_of(rates: Sequence[float], accuracy: NDArray[np.float64], within: float = WITHIN, level: float = 0.95) -> Width:
    """Return the width of the mean curve over seeds.

    rates: (n_rates,) ascending. accuracy: (n_seeds, n_rates) in [0, 1]; NaN where a run diverged, which counts as 0. within: what
    is forgiven. Between rates the mean runs straight in the logarithm of the rate; the range is the one around the best rate, up
    to the first crossing on either side.

    The interval is that of Student's t over the jackknife's pseudo-values: n times the width of all seeds minus n - 1 times that
    of all but one. The width of each seed's own curve is no substitute: its best rate is best by luck too, so it is too narrow.
    Source: Tukey 1958; Miller 1974, Biometrika 61, 1-15; checked in ``benchmarks/width_coverage.py``.
    """
    scores = np.nan_to_num(accuracy, nan=0.0)
    x = np.log10(np.asarray(rates, np.float64))
    curve = scores.mean(0)
    low, high = _range(x, curve, within)
    n = len(scores)
    whole = high - low
    by_seed = np.array([whole])
    if n > 1:
        left_out = [np.delete(scores, seed, 0).mean(0) for seed in range(n)]
        ends = np.array([_range(x, other, within) for other in left_out])
        without = ends[:, 1] - ends[:, 0]
        by_seed = n * whole - (n - 1) * without
    best = int(curve.argmax())
    return Width(
        best=rates[best], accuracy=interval_of(scores[:, best], level), low=10**low, high=10**high,
        decades=_around(whole, by_seed, level), by_seed=by_seed, open_low=bool(low <= x[0]), open_high=bool(high >= x[-1]),
        noise=_noise(scores[:, _about(x, low, high)]),
    )  # fmt: skip


def _about(x: NDArray[np.float64], low: float, high: float) -> slice:
    """Return which x lie within the range; of one alone, which tells nothing of what chance does, its neighbors too."""
    first, last = np.flatnonzero((x >= low) & (x <= high))[[0, -1]].tolist()
    return slice(first, last + 1) if last > first else slice(max(0, first - 1), first + 2)


def _range(x: NDArray[np.float64], curve: NDArray[np.float64], within: float) -> tuple[float, float]:
    """Return the ends of the range around the best x where the curve stays within its best."""
    best = int(curve.argmax())
    least = curve[best] - within
    return _end(x, curve, best, least, -1), _end(x, curve, best, least, +1)


def _end(x: NDArray[np.float64], curve: NDArray[np.float64], best: int, least: float, step: int) -> float:
    here = best
    while 0 <= here + step < len(x):
        beyond = here + step
        if curve[beyond] < least:
            share = (curve[here] - least) / (curve[here] - curve[beyond])
            return float(x[here] + share * (x[beyond] - x[here]))
        here = beyond
    return float(x[here])


def _noise(scores: NDArray[np.float64]) -> float:
    """Return by how much the means of two rates differ by chance: what seeds do to one rate and not to the others."""
    n_seeds, n_rates = scores.shape
    if n_seeds < 2 or n_rates < 2:
        return math.nan
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    return math.sqrt(2 * float((rest**2).sum()) / ((n_seeds - 1) * (n_rates - 1)) / n_seeds)


def _around(whole: float, by_seed: NDArray[np.float64], level: float) -> Interval:
    """Return the width with the interval of its pseudo-values, about itself."""
    known = interval_of(by_seed, level)
    if len(by_seed) < 2 or np.ptp(by_seed) <= 1e-9:  # equal widths tell nothing about their spread
        return Interval(whole, -math.inf, math.inf, len(by_seed))
    return Interval(whole, whole - (known.mean - known.low), whole + (known.high - known.mean), len(by_seed))

"""Intervals of a mean, a paired difference, a share and a median, each from one row of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from descend.errors import DataError

ROUNDING = 1e-12
"""What arithmetic may do to scores, relative to them. The smallest real difference, a picture of a million, is 1e-6."""


@dataclass(frozen=True)
class Interval:
    """A mean (or a share, or a median) with its confidence interval, from ``n`` observations."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes zero (for differences)."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.4g} [{self.low:+.4g}, {self.high:+.4g}] (n={self.n})"


def checked(values: Sequence[float], who: str, least: int) -> NDArray[np.float64]:
    """Return ``values`` as float64 (n,), or say that they are too few, not in one row or not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < least or not np.isfinite(array).all():
        raise DataError(who, f"needs {least} finite numbers or more in one row", got=list(np.ravel(array)[:8]))
    return array


def check_level(level: float, who: str) -> None:
    """Refuse a level (or a power) outside (0, 1)."""
    if not 0 < level < 1:
        raise DataError(who, "level must lie in (0, 1)", got=level)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where ``function`` changes its sign between ``low`` and ``high``: Brent's method."""
    return float(scipy.optimize.brentq(function, low, high, xtol=1e-10))  # pyright: ignore[reportArgumentType] (a number unless full_output)


def mean(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of ``values`` with Student's t interval, which has no width where all are equal; cf. ``interval_of``."""
    sample = checked(values, "mean", 2)
    check_level(level, "mean")
    centre, error = float(sample.mean()), float(scipy.stats.sem(sample))
    reach = float(scipy.stats.t.ppf((1 + level) / 2, sample.size - 1)) * error
    return Interval(centre, centre - reach, centre + reach, sample.size)


def paired(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of ``a - b`` over paired runs with Student's t interval; open where all differences are equal.

    a, b: one number per seed, in the same order of seeds. Two or more equal differences tell nothing about their spread: accuracy
    goes in steps of one picture, and three seeds that differ by the same picture are no certainty. Raises DataError unless both
    have the same two or more seeds.
    Source: Student 1908; the use for paired runs: Dietterich 1998, section 3.
    """
    check_level(level, "paired")
    return interval_of(paired_differences(a, b, "paired"), level)


def interval_of(scores: NDArray[np.float64], level: float) -> Interval:
    """Return the mean of (n_seeds,) scores, or of their differences, with the interval of ``paired``; open for one seed, too."""
    if all_equal(scores):
        return Interval(float(scores[0]), -math.inf, math.inf, scores.size)
    return mean(scores.tolist(), level)


def paired_p_value(differences: NDArray[np.float64]) -> float:
    """Return the p value of Student's t test of (n_seeds,) differences: below 1 - level where the interval leaves out zero."""
    if all_equal(differences):
        return 1.0
    return float(2 * scipy.stats.t.sf(abs(differences.mean()) / scipy.stats.sem(differences), differences.size - 1))


def paired_differences(a: Sequence[float], b: Sequence[float], who: str) -> NDArray[np.float64]:
    """Return ``a - b``, (n_seeds,), or say why they cannot be paired."""
    first, second = checked(a, who, 2), checked(b, who, 2)
    if first.size != second.size:
        raise DataError(who, "both sides must have the same seeds", got=f"{first.size} and {second.size} runs")
    apart = apart_from_rounding(first, second)
    equal = np.ptp(apart) <= ROUNDING * max(np.abs(first).max(), np.abs(second).max())
    return np.full_like(apart, apart[0]) if equal else apart


def apart_from_rounding(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``a - b``, 0 where they differ by what arithmetic does to equal numbers: 0.1 + 0.2 and 0.3."""
    apart = a - b
    return np.where(np.abs(apart) <= ROUNDING * np.maximum(np.abs(a), np.abs(b)), 0.0, apart)


def all_equal(differences: NDArray[np.float64]) -> bool:
    """Whether (n,) differences are one and the same number, but for rounding."""
    return bool(np.ptp(differences) <= ROUNDING * np.abs(differences).max())  # .91 - .90 and .81 - .80 differ in the last bit


def proportion(k: int, n: int, level: float = 0.95) -> Interval:
    """Return ``k / n`` with Wilson's score interval: sound near 0 and 1 and for small ``n``.

    k, n: whole numbers. Raises DataError otherwise.
    Source: Wilson 1927, through ``scipy.stats.binomtest``.
    """
    if not (0 <= k <= n and n > 0 and float(k).is_integer() and float(n).is_integer()):
        raise DataError("proportion", "needs whole numbers with 0 <= k <= n and n > 0", got=f"k={k}, n={n}")
    check_level(level, "proportion")
    bounds = scipy.stats.binomtest(int(k), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return Interval(k / n, float(bounds.low), float(bounds.high), int(n))


def lower_tail(k: int, n: int, share: float) -> float:
    """Return the chance that ``k`` or fewer of ``n`` independent answers are right where each is with chance ``share``.

    The p value of the exact binomial test that fewer are right than ``share``, in [0, 1]. Raises DataError unless k and n are
    whole numbers with 0 <= k <= n and n > 0, and share lies in [0, 1].

    >>> from descend.stats import lower_tail
    >>> round(lower_tail(18, 20, 0.95), 3)
    0.264
    """
    if not (0 <= k <= n and n > 0 and 0 <= share <= 1):
        raise DataError("lower_tail", "needs 0 <= k <= n, n > 0 and a share in [0, 1]", got=f"k={k}, n={n}, share={share}")
    return float(scipy.stats.binomtest(k, n, share, alternative="less").pvalue)


def median(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the (lower) median of ``values`` with an interval that needs no distribution; inf stands for "never" and is allowed.

    The interval holds every t for which one half lies in Wilson's interval of the share of values up to t. It is open (-inf or
    inf) where too few values were seen to bound it, or where too many are inf. Raises DataError without values, or with NaN.
    Source: inversion of the sign test, Thompson 1936, Annals of Mathematical Statistics 7, 122-128.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.ndim != 1 or ordered.size == 0 or np.isnan(ordered).any():
        raise DataError("median", "needs one number or more in one row, none of them NaN", got=list(np.ravel(ordered)[:8]))
    n = ordered.size
    shares = [proportion(k, n, level) for k in range(n + 1)]  # of the values up to the k-th
    low = next(k for k, share in enumerate(shares) if share.high >= 0.5)
    high = next((k for k, share in enumerate(shares) if k and share.low >= 0.5), None)
    bounds = -math.inf if low == 0 else float(ordered[low - 1]), math.inf if high is None else float(ordered[high - 1])
    return Interval(float(ordered[(n - 1) // 2]), *bounds, n)

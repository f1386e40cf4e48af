"""The statistics of every comparison, in one place, on SciPy: intervals first, verdicts second.

Two techniques are compared on the *same* seeds, so the difference within a seed is the observation: the spread that the
seeds share cancels. A lone best run says nothing; an interval that holds zero says "not distinguishable", and
``runs_needed`` says how many more seeds would settle it.

>>> from descend.stats import paired
>>> print(paired([0.93, 0.95, 0.94], [0.90, 0.91, 0.91]))
+0.03333 [+0.01899, +0.04768] (n=3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from descend.errors import DataError


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


def _checked(values: Sequence[float], who: str, least: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < least or not np.isfinite(array).all():
        raise DataError(who, f"needs {least} finite numbers or more in one row", got=list(np.ravel(array)[:8]))
    return array


def _check_level(level: float, who: str) -> None:
    if not 0 < level < 1:
        raise DataError(who, "level must lie in (0, 1)", got=level)


def mean(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of ``values`` with Student's t interval."""
    sample = _checked(values, "mean", 2)
    _check_level(level, "mean")
    centre, error = float(sample.mean()), float(stats.sem(sample))
    reach = float(stats.t.ppf((1 + level) / 2, sample.size - 1)) * error
    return Interval(centre, centre - reach, centre + reach, sample.size)


def paired(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of ``a - b`` over paired runs with Student's t interval.

    a, b: one number a seed, in the same order of seeds. Raises DataError unless both have the same two or more seeds.
    Source: Student 1908; the use for paired runs: Dietterich 1998, section 3.
    """
    first, second = _checked(a, "paired", 2), _checked(b, "paired", 2)
    if first.size != second.size:
        raise DataError("paired", "both sides must have the same seeds", got=f"{first.size} and {second.size} runs")
    return mean(list(first - second), level)


def proportion(k: int, n: int, level: float = 0.95) -> Interval:
    """Return ``k / n`` with Wilson's score interval: sound near 0 and 1 and for small ``n``.

    Source: Wilson 1927, through ``scipy.stats.binomtest``.
    """
    if not (0 <= k <= n and n > 0):
        raise DataError("proportion", "needs 0 <= k <= n and n > 0", got=f"k={k}, n={n}")
    _check_level(level, "proportion")
    found = stats.binomtest(int(k), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return Interval(k / n, float(found.low), float(found.high), int(n))


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


def runs_needed(differences: Sequence[float], level: float = 0.95, power: float = 0.8) -> int:
    """Return about how many paired seeds would tell the observed mean difference from zero, or 0 if it *is* zero.

    The normal approximation, at the observed spread; an estimate to plan by, not a promise.
    """
    sample = _checked(differences, "runs_needed", 2)
    _check_level(level, "runs_needed")
    centre, spread = float(sample.mean()), float(sample.std(ddof=1))
    if centre == 0:
        return 0
    reach = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
    return max(2, math.ceil((reach * spread / centre) ** 2))


def verdict(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> str:
    """Say in words whether ``a`` and ``b`` differ on these paired seeds, and if not, how many more runs would tell."""
    found = paired(a, b, level)
    if found.distinguishable:
        return f"{'higher' if found.mean > 0 else 'lower'} by {abs(found.mean):.4g} ({level:.0%} interval {found})"
    differences = [x - y for x, y in zip(a, b, strict=True)]
    more = runs_needed(differences, level) - found.n
    hint = f", run about {more} more" if more > 0 else ""
    return f"not distinguishable with {found.n} seeds{hint} ({level:.0%} interval {found})"

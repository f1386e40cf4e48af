"""The statistics of every comparison, in one place, on SciPy: intervals first, verdicts second.

Two techniques are compared on the *same* seeds, so the difference within a seed is the observation: the spread that the
seeds share cancels. A lone best run says nothing; an interval that holds zero says "not distinguishable", and
``runs_needed`` says how many more seeds would settle it.

Where all runs judge the same pictures (a split that was given), seeds are half of the chance only: further pictures would have
been answered otherwise too. ``paired_runs_and_items`` covers both, and ``mcnemar`` is for one run each. How often each of them
calls two equal settings different is measured in ``docs/comparison``.

>>> from descend.stats import paired
>>> print(paired([0.93, 0.95, 0.94], [0.90, 0.91, 0.91]))
+0.03333 [+0.01899, +0.04768] (n=3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from descend.errors import DataError

_LARGE = 1000  # runs from which the noncentral t is as good as normal


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


@dataclass(frozen=True)
class McNemar:
    """How two runs differ on the same ``n`` pictures. difference: share right by a - share right by b, with its interval."""

    only_a: int  # pictures that only a has right
    only_b: int
    n: int
    p_value: float
    difference: Interval


def _checked(values: Sequence[float], who: str, least: int) -> NDArray[np.float64]:
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
    """Return the mean of ``a - b`` over paired runs with Student's t interval; open where all differences are equal.

    a, b: one number per seed, in the same order of seeds. Two or more equal differences tell nothing about their spread: accuracy
    goes in steps of one picture, and three seeds that differ by the same picture are no certainty. Raises DataError unless both
    have the same two or more seeds.
    Source: Student 1908; the use for paired runs: Dietterich 1998, section 3.
    """
    differences = _differences(a, b, "paired")
    if _all_equal(differences):
        _check_level(level, "paired")
        return Interval(float(differences[0]), -math.inf, math.inf, differences.size)
    return mean(differences.tolist(), level)


def _differences(a: Sequence[float], b: Sequence[float], who: str) -> NDArray[np.float64]:
    first, second = _checked(a, who, 2), _checked(b, who, 2)
    if first.size != second.size:
        raise DataError(who, "both sides must have the same seeds", got=f"{first.size} and {second.size} runs")
    return first - second


def _all_equal(differences: NDArray[np.float64]) -> bool:
    return bool(np.ptp(differences) <= 1e-12 * np.abs(differences).max())  # .91 - .90 and .81 - .80 differ in the last bit


def paired_runs_and_items(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean of ``a - b`` with an interval that covers further seeds and further pictures; n counts the seeds.

    a, b: (n_seeds, n_pictures), what each run scored on each picture (right or wrong, or a share in [0, 1]), the same seeds and
    the same pictures on both sides. Pictures that belong together (one patient) are one column: their mean.

    With the mean squares of d = a - b between seeds, between pictures, and of the remainder, seeds and pictures being crossed
    random effects, the interval reaches

        sqrt((t_seeds^2 ms_seeds + t_pictures^2 max(ms_pictures - ms_rest, 0)) / (n_seeds n_pictures))

    to either side, and no less than pictures alone would have it, t_pictures sqrt(ms_pictures / (n_seeds n_pictures)). Each part
    has its own Student's t, so few seeds make it wide only as far as seeds matter. Two other ways miss their level with two or
    three seeds (``benchmarks/false_alarms.py``): one t with Satterthwaite's degrees of freedom, and percentiles of a bootstrap.
    Raises DataError for one seed (see ``mcnemar``), one picture, or scores outside [0, 1].
    Source: Dorfman, Berbaum & Metz 1992, Investigative Radiology 27, 723-731, for readers and cases; margins added in squares:
    Howe 1974, J. Am. Stat. Assoc. 69, 789-794; Zou & Donner 2008, Statistics in Medicine 27, 1693-1702.
    """
    parts = _crossed(_paired_scores(a, b, "paired_runs_and_items", n_seeds=2), level)
    reach = parts.reach(level)
    if reach == 0:  # every run differs by the same on every picture: as one run each that does
        n = parts.n_pictures
        return Interval(parts.mean, *_wald(max(parts.mean, 0) * n, max(-parts.mean, 0) * n, n, level), parts.n_seeds)
    return Interval(parts.mean, parts.mean - reach, parts.mean + reach, parts.n_seeds)


@dataclass(frozen=True)
class _Crossed:
    """A mean over crossed seeds and pictures. seeds, pictures, rest: mean squares."""

    mean: float
    n_seeds: int
    n_pictures: int
    seeds: float
    pictures: float
    rest: float

    @property
    def pictures_error(self) -> float:
        """The standard error of the mean that would be left if there were any number of seeds."""
        return math.sqrt(max(self.pictures - self.rest, 0) / (self.n_seeds * self.n_pictures))

    def reach(self, level: float) -> float:
        """Return how far the interval reaches to either side of the mean."""
        t_seeds, t_pictures = (float(stats.t.ppf((1 + level) / 2, n - 1)) for n in (self.n_seeds, self.n_pictures))
        n = self.n_seeds * self.n_pictures
        both = math.hypot(t_seeds * math.sqrt(self.seeds / n), t_pictures * self.pictures_error)
        return max(both, t_pictures * math.sqrt(self.pictures / n))


def _crossed(d: NDArray[np.float64], level: float) -> _Crossed:
    _check_level(level, "paired_runs_and_items")
    n_seeds, n_pictures = d.shape
    centre, by_seed, by_picture = float(d.mean()), d.mean(1), d.mean(0)
    rest = d - by_seed[:, None] - by_picture + centre
    return _Crossed(
        centre,
        n_seeds,
        n_pictures,
        seeds=n_pictures * float(by_seed.var(ddof=1)),
        pictures=n_seeds * float(by_picture.var(ddof=1)),
        rest=float((rest**2).sum()) / ((n_seeds - 1) * (n_pictures - 1)),
    )


def _paired_scores(a: ArrayLike, b: ArrayLike, who: str, *, n_seeds: int) -> NDArray[np.float64]:
    """Return ``a - b``, (n_seeds, n_pictures), or say why they cannot be compared."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise DataError(who, "both sides must be (n_seeds, n_pictures), alike", got=f"{first.shape} and {second.shape}")
    if first.shape[0] < n_seeds or first.shape[1] < 2:
        raise DataError(who, f"needs {n_seeds} seeds and 2 pictures or more", got=f"{first.shape[0]} and {first.shape[1]}",
                        fix="Compare one run each by mcnemar." if first.shape[0] == 1 else "")  # fmt: skip
    for side in (first, second):
        if not ((side >= 0) & (side <= 1)).all():
            raise DataError(who, "scores must lie in [0, 1]", got=f"{side.min():g} to {side.max():g}")
    return first - second


def mcnemar(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> McNemar:
    """Compare one run of each of two settings on the same pictures, by the pictures that only one of them has right.

    a, b: (n_pictures,) bool (or 0 and 1), whether each was right. The p value is exact (binomial); the interval adds one to both
    counts (adjusted Wald), so that it has a width where the runs differ on no picture. It speaks of these two networks on
    further pictures: what another seed would have given is not covered.
    Raises DataError unless both hold right or wrong for the same two or more pictures.
    Source: McNemar 1947, Psychometrika 12, 153-157; Bonett & Price 2012, J. Educ. Behav. Stat. 37, 479-488; advised by Fagerland,
    Lydersen & Laake 2014, Statistics in Medicine 33, 2850-2875.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 1 or not np.isin(first, (0, 1)).all() or not np.isin(second, (0, 1)).all():
        raise DataError("mcnemar", "both sides must be (n_pictures,) right or wrong", got=f"{first.shape} and {second.shape}")
    differences = _paired_scores(first[None], second[None], "mcnemar", n_seeds=1)[0]
    _check_level(level, "mcnemar")
    n, only_a, only_b = differences.size, int((differences > 0).sum()), int((differences < 0).sum())
    p_value = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, n, p_value, Interval((only_a - only_b) / n, *_wald(only_a, only_b, n, level), n))


def _wald(only_a: float, only_b: float, n: int, level: float) -> tuple[float, float]:
    """Return the interval of Bonett & Price 2012 for the difference of two paired shares."""
    p, q = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    reach = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return max(p - q - reach, -1.0), min(p - q + reach, 1.0)


def proportion(k: int, n: int, level: float = 0.95) -> Interval:
    """Return ``k / n`` with Wilson's score interval: sound near 0 and 1 and for small ``n``.

    k, n: whole numbers. Raises DataError otherwise.
    Source: Wilson 1927, through ``scipy.stats.binomtest``.
    """
    if not (0 <= k <= n and n > 0 and float(k).is_integer() and float(n).is_integer()):
        raise DataError("proportion", "needs whole numbers with 0 <= k <= n and n > 0", got=f"k={k}, n={n}")
    _check_level(level, "proportion")
    bounds = stats.binomtest(int(k), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return Interval(k / n, float(bounds.low), float(bounds.high), int(n))


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
    """Return how many paired seeds would tell a mean difference like the observed one from zero, or 0 if it *is* zero.

    The power of the two-sided t test (noncentral t), if the observed mean and spread are the true ones: an estimate to plan by,
    not a promise. Raises DataError where all differences are equal, since nothing is known about their spread then.
    Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2.
    """
    sample = _checked(differences, "runs_needed", 2)
    _check_level(level, "runs_needed")
    _check_level(power, "runs_needed")
    if sample.mean() == 0:
        return 0
    if _all_equal(sample):
        raise DataError("runs_needed", "needs differences of which two or more differ", got=sample.tolist()[:8])
    effect = abs(float(sample.mean() / sample.std(ddof=1)))
    n = max(2, math.floor((stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power)) ** 2 / effect**2))  # never more is needed
    while _power(effect, n, level) < power:
        n += 1
    return n


def _power(effect: float, n: int, level: float) -> float:
    """Return the chance that a two-sided t test of n differences, of mean ``effect`` in units of their spread, finds it."""
    limit, shift = float(stats.t.ppf((1 + level) / 2, n - 1)), effect * math.sqrt(n)
    if n > _LARGE:
        return float(stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift))
    return float(stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift))


def verdict(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> str:
    """Say in words whether ``a`` and ``b`` differ, and if that is not known, what would tell.

    a, b: (n_seeds,), one number per seed; or (n_seeds, n_pictures) for runs that judged the same pictures.
    """
    if np.ndim(a) == 2:
        return _verdict_on_pictures(a, b, level)
    first, second = (np.asarray(side, np.float64).tolist() for side in (a, b))
    interval = paired(first, second, level)
    if interval.distinguishable:
        return _apart(interval, level)
    differences = _differences(first, second, "verdict")
    if _all_equal(differences):
        amount = f"{interval.mean:+.4g} on each" if abs(interval.mean) > 0 else "equal on each"
        return f"not distinguishable with {interval.n} seeds: {amount}, and equal differences tell nothing about their spread"
    more = runs_needed(differences.tolist(), level) - interval.n
    hint = f", run about {more} more" if more > 0 else ""
    return f"not distinguishable with {interval.n} seeds{hint} ({level:.0%} interval {interval})"


def _apart(interval: Interval, level: float) -> str:
    return f"{'higher' if interval.mean > 0 else 'lower'} by {abs(interval.mean):.4g} ({level:.0%} interval {interval})"


def _verdict_on_pictures(a: ArrayLike, b: ArrayLike, level: float) -> str:
    if len(np.asarray(a)) == 1:
        return _verdict_on_two_networks(mcnemar(np.asarray(a)[0], np.asarray(b)[0], level), level)
    interval = paired_runs_and_items(a, b, level)
    if interval.distinguishable:
        return _apart(interval, level)
    parts = _crossed(_paired_scores(a, b, "verdict", n_seeds=2), level)
    least = float(stats.norm.ppf((1 + level) / 2)) * parts.pictures_error
    hint = "more pictures would tell, more seeds alone would not" if least >= abs(parts.mean) else "more seeds would tell"
    where = f"{parts.n_seeds} seeds and {parts.n_pictures} pictures"
    return f"not distinguishable with {where}; {hint} ({level:.0%} interval {interval})"


def _verdict_on_two_networks(test: McNemar, level: float) -> str:
    counts = f"{test.only_a} pictures only the first has right, {test.only_b} only the second, p = {test.p_value:.2g}"
    known = f"{level:.0%} interval {test.difference}; other seeds are not covered"
    if test.p_value >= 1 - level:
        return f"not distinguishable with one run each ({counts}; {known})"
    return f"{'higher' if test.difference.mean > 0 else 'lower'} by {abs(test.difference.mean):.4g} ({counts}; {known})"

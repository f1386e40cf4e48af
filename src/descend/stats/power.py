"""How many runs would settle it: the power of the tests that belong to the intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from descend.errors import DataError
from descend.stats.crossed import Crossed, crossed
from descend.stats.intervals import all_equal, check_level, checked

_WIDE = 2.5  # times as wide as many seeds would have it: an interval of few seeds, of which hardly any leaves out zero
_LARGE = 1000  # degrees of freedom from which the noncentral t is as good as normal
_MOST = 100_000  # seeds or pictures: beyond, the answer is "never"


@dataclass(frozen=True)
class Plan:
    """What it takes to tell a difference of ``settle`` from zero, most probably.

    n_seeds: in all, those that were run included; None where no number of seeds would do on these pictures.
    n_pictures: with as many seeds as one likes, or with one run each; None where pictures play no part or cannot be planned.
    least: the smallest difference that any number of seeds could settle on these pictures, if their part in the variance is as
    large as it may be in four of five cases (at the power asked for); 0 where pictures play no part.
    reason: why there is no n_seeds; "" where there is one.
    """

    settle: float
    n_seeds: int | None
    n_pictures: int | None
    least: float
    reason: str


def runs_needed(differences: Sequence[float], level: float = 0.95, power: float = 0.8, *, settle: float | None = None) -> int:
    """Return how many paired seeds would tell a mean difference from zero, or 0 if it *is* zero.

    settle: the difference to be told from zero; by default the one observed. The power of the two-sided t test (noncentral t),
    if that and the observed spread are the true ones: an estimate to plan by, not a promise. For runs that judged the same
    pictures, see ``plan_runs``. Raises DataError where all differences are equal, since nothing is known about their spread then.
    Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2.
    """
    sample = checked(differences, "runs_needed", 2)
    check_level(level, "runs_needed")
    check_level(power, "runs_needed")
    aim = float(sample.mean()) if settle is None else settle
    if aim == 0:
        return 0
    if all_equal(sample):
        raise DataError("runs_needed", "needs differences of which two or more differ", got=sample.tolist()[:8])
    effect = abs(aim / float(sample.std(ddof=1)))
    z = _normal_reach(level, power)
    n = max(2, math.floor(z**2 / effect**2))  # never more is needed
    while _power(effect * math.sqrt(n), float(scipy.stats.t.ppf((1 + level) / 2, n - 1)), n - 1) < power:
        n += 1
    return n


def plan_runs(differences: ArrayLike, settle: float, level: float = 0.95, power: float = 0.8) -> Plan:
    """Return how many seeds would tell a true difference of ``settle`` from zero with chance ``power``.

    differences: of scores, a - b: (n_seeds,), (n_seeds, n_pictures), or one run each, (1, n_pictures). With the variances by
    seeds, by pictures and of the remainder as observed, further seeds shrink the first and the last only: what the pictures leave
    open stays, and below ``Plan.least`` no number of seeds settles anything. An estimate to plan by, not a promise: it inherits
    the uncertainty of a spread that was seen on a few seeds.
    Raises DataError for a ``settle`` of zero or less, and as ``difference`` does.
    Source: Hillis, Obuchowski & Berbaum 2011, Academic Radiology 18, 129-142, for readers and cases.
    """
    d = np.asarray(differences, np.float64)
    check_level(level, "plan_runs")
    check_level(power, "plan_runs")
    if not settle > 0:
        raise DataError("plan_runs", "the difference to settle must be positive", got=settle)
    if d.ndim == 2 and len(d) == 1:
        return _plan_one_run(d[0], settle, level, power)
    if d.ndim == 2:
        return _plan_crossed(crossed(d), settle, level, power)
    sample = checked(d.tolist(), "plan_runs", 2)
    if all_equal(sample):
        return Plan(settle, None, None, 0.0, "equal differences tell nothing about their spread")
    return Plan(settle, runs_needed(sample.tolist(), level, power, settle=settle), None, 0.0, "")


def least_seeds(n_verdicts: int, level: float = 0.95) -> int:
    """Return the fewest seeds from which so many verdicts at one common level can tell much.

    With fewer, Student's t of the first step of Holm's method (at (1 - level) / n_verdicts) makes intervals over seeds more than
    two and a half times as wide as the same spread in many runs would: two seeds take a t of 13 for one verdict, of 115 for nine.
    Raises DataError without verdicts, or with a level outside (0, 1).

    >>> from descend.stats import least_seeds
    >>> least_seeds(1), least_seeds(9)
    (3, 5)
    """
    check_level(level, "least_seeds")
    if n_verdicts < 1:
        raise DataError("least_seeds", "needs a verdict or more", got=n_verdicts)
    tail, n = (1 - level) / n_verdicts / 2, 2
    while scipy.stats.t.isf(tail, n - 1) > _WIDE * scipy.stats.norm.isf(tail):
        n += 1
    return n


def least_difference(n_pictures: int, apart: float, level: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest difference that ``n_pictures`` settle with chance ``power``, however many seeds there are.

    apart: the share of pictures on which the two sides differ, in (0, 1]. A difference of means below it may still be found, but
    in fewer cases. Raises DataError for no pictures, or a share outside (0, 1].
    Source: McNemar's test in its normal approximation, Connor 1987, Biometrics 43, 207-211, where the difference is small.

    >>> from descend.stats import least_difference
    >>> round(least_difference(270, apart=0.1), 3)
    0.054
    """
    check_level(level, "least_difference")
    check_level(power, "least_difference")
    if n_pictures < 1 or not 0 < apart <= 1:
        raise DataError("least_difference", "needs a picture or more, and a share in (0, 1]", got=f"{n_pictures}, {apart}")
    return _normal_reach(level, power) * math.sqrt(apart / n_pictures)


def _plan_one_run(d: NDArray[np.float64], settle: float, level: float, power: float) -> Plan:
    """Plan from (n_pictures,): nothing is known about seeds."""
    z = _normal_reach(level, power)
    apart = (float(np.square(d).sum()) + 2) / (d.size + 2)  # share that one of the two has right, or mean square
    n_pictures = math.ceil(z**2 * max(apart - settle**2, 0) / settle**2)
    least = least_difference(d.size, min(apart, 1.0), level, power)
    return Plan(settle, None, max(n_pictures, 2), least, "one run each tells nothing about further seeds")


def _plan_crossed(parts: Crossed, settle: float, level: float, power: float) -> Plan:
    if parts.constant:
        return Plan(settle, None, None, 0.0, "equal differences tell nothing about their spread")
    z = _normal_reach(level, power)
    least = z * _pictures_error(parts, power)
    n_seeds = _smallest(lambda n: crossed_power(parts, n, settle, level), power) if settle > least else None
    if n_seeds is not None:
        return Plan(settle, n_seeds, None, least, "")
    if settle > least:
        return Plan(settle, None, None, least, f"more than {_MOST:,} seeds would be needed")
    n_pictures = math.ceil(parts.n_pictures * (least / settle) ** 2)
    return Plan(settle, None, n_pictures, least, f"{parts.n_pictures:,} pictures leave it open, however many seeds there are")


def _pictures_error(parts: Crossed, sure: float) -> float:
    """Return the standard error that any number of seeds would leave, no larger than this with confidence ``sure``.

    The estimate itself is 0 where pictures seem to play no part, which few seeds often make them do by luck; thousands of seeds
    would then be said to settle what these pictures never tell. A mean square of pictures below the remainder is such luck.
    """
    freedom = parts.n_pictures - 1, (parts.n_seeds - 1) * (parts.n_pictures - 1)
    most = max(parts.pictures, parts.rest) / float(scipy.stats.f.ppf(1 - sure, *freedom))
    return math.sqrt(max(most - parts.rest, 0) / (parts.n_seeds * parts.n_pictures))


def crossed_power(parts: Crossed, n_seeds: int, settle: float, level: float) -> float:
    """Return the chance that ``paired_runs_and_items`` with ``n_seeds`` finds ``settle``, the variances being as in ``parts``.

    Its reach is taken where the expected mean squares put it, and varies with Satterthwaite's degrees of freedom. Where only
    seeds or only pictures matter, this is the power of the t test.
    """
    by_seeds = max(parts.seeds - parts.rest, 0)
    by_pictures = max(parts.pictures - parts.rest, 0) * n_seeds / parts.n_seeds
    planned = Crossed(
        settle, n_seeds, parts.n_pictures, seeds=by_seeds + parts.rest, pictures=by_pictures + parts.rest, rest=parts.rest
    )
    total = by_seeds + by_pictures + parts.rest
    of_seeds, of_pictures = n_seeds - 1, parts.n_pictures - 1
    spread = planned.seeds**2 / of_seeds + planned.pictures**2 / of_pictures + parts.rest**2 / (of_seeds * of_pictures)
    error = math.sqrt(total / (n_seeds * parts.n_pictures))
    return _power(settle / error, planned.reach((1 - level) / 2) / error, total**2 / spread)


def _smallest(chance: Callable[[int], float], power: float) -> int | None:
    """Return the smallest whole number from 2 on whose chance reaches ``power``; None where none up to 100,000 does."""
    low, high = 1, 2
    while chance(high) < power:
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high


def _normal_reach(level: float, power: float) -> float:
    """Return how many standard errors a difference must be off zero for an interval at ``level`` to leave it out so often."""
    return float(scipy.stats.norm.ppf((1 + level) / 2) + scipy.stats.norm.ppf(power))


def _power(shift: float, limit: float, freedom: float) -> float:
    """Return the chance that |t| passes ``limit``, t being off zero by ``shift`` standard errors."""
    if freedom > _LARGE:
        return float(scipy.stats.norm.sf(limit - shift) + scipy.stats.norm.cdf(-limit - shift))
    return float(scipy.stats.nct.sf(limit, freedom, shift) + scipy.stats.nct.cdf(-limit, freedom, shift))

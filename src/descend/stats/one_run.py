"""One run of each of two settings on the same pictures: McNemar's test and the interval of the difference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from descend.errors import DataError
from descend.stats.intervals import Interval, apart_from_rounding, check_level


@dataclass(frozen=True)
class McNemar:
    """How two runs differ on the same ``n`` pictures. difference: share right by a - share right by b, with its interval."""

    only_a: int  # pictures that only a has right
    only_b: int
    n: int
    p_value: float
    difference: Interval


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
    check_level(level, "mcnemar")
    return mcnemar_of(paired_scores(first[None], second[None], "mcnemar", n_seeds=1)[0], level)


def mcnemar_of(differences: NDArray[np.float64], level: float) -> McNemar:
    """Return the test for (n_pictures,) differences: 1 where only a is right, -1 where only b is."""
    n, only_a, only_b = differences.size, int((differences > 0).sum()), int((differences < 0).sum())
    p_value = float(scipy.stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, n, p_value, Interval((only_a - only_b) / n, *adjusted_wald(only_a, only_b, n, level), n))


def counts_of(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return on how many pictures a and b alone are right, of (n_pictures,) differences.

    Of shares in [-1, 1], the counts whose difference has the same mean and the same mean square.
    """
    total, squares = float(differences.sum()), float(np.square(differences).sum())
    return (squares + total) / 2, (squares - total) / 2


def adjusted_wald(only_a: float, only_b: float, n: int, level: float) -> tuple[float, float]:
    """Return the interval of Bonett & Price 2012 for the difference of two paired shares."""
    difference, error = _adjusted(only_a, only_b, n)
    reach = float(scipy.stats.norm.ppf((1 + level) / 2)) * error
    return max(difference - reach, -1.0), min(difference + reach, 1.0)


def adjusted_wald_p_value(only_a: float, only_b: float, n: int) -> float:
    """Return the p value that belongs to ``adjusted_wald``: below 1 - level exactly where the interval leaves out zero."""
    difference, error = _adjusted(only_a, only_b, n)
    return float(2 * scipy.stats.norm.sf(abs(difference) / error)) if error else 0.0


def _adjusted(only_a: float, only_b: float, n: int) -> tuple[float, float]:
    """Return the difference of two paired shares, each with one success and one failure more, and its standard error."""
    p, q = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    return p - q, math.sqrt((p + q - (p - q) ** 2) / (n + 2))


def paired_scores(a: ArrayLike, b: ArrayLike, who: str, *, n_seeds: int) -> NDArray[np.float64]:
    """Return ``a - b``, (n_seeds, n_pictures), or say why they cannot be compared."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise DataError(who, "both sides must be (n_seeds, n_pictures), alike", got=f"{first.shape} and {second.shape}")
    if first.shape[0] < n_seeds or first.shape[1] < 2:
        raise DataError(who, f"needs {n_seeds} seeds and 2 pictures or more", got=f"{first.shape[0]} and {first.shape[1]}",
                        fix="Compare one run each by difference." if first.shape[0] == 1 else "")  # fmt: skip
    for side in (first, second):
        if not ((side >= 0) & (side <= 1)).all():
            raise DataError(who, "scores must lie in [0, 1]", got=f"{side.min():g} to {side.max():g}")
    return apart_from_rounding(first, second)

"""Several comparisons at once: Holm's step-down method, and the levels at which intervals agree with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from descend.errors import DataError
from descend.stats.intervals import check_level

Look = Callable[[float], float]
"""Overall level -> the level of one look (``Spending.level_at``)."""


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return p values adjusted for their number, (m,): those below 1 - level are differences, all of them together.

    p_values: (m,), in any order. The chance that one or more of the equal settings are called different stays below
    1 - level, whatever the comparisons have in common (a baseline, seeds, pictures).
    Raises DataError unless all lie in [0, 1].
    Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 65-70.

    >>> from descend.stats import holm
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = _checked(p_values, "holm")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def holm_levels(p_values: Sequence[float], level: float = 0.95, at: Sequence[Look] | None = None) -> NDArray[np.float64]:
    """Return the level at which Holm's method looks at each comparison, (m,): there its interval leaves out zero or does not.

    With k differences found before it, a comparison is tested at 1 - (1 - level) / (m - k). An interval at that level
    leaves out zero exactly where ``holm`` calls it a difference, so one rule decides. What holds: at most 1 - level of
    comparisons call any equal pair different, and each interval by itself covers its difference at ``level`` or more. All of
    them together cover all differences, zero or not, only at Bonferroni's level, 1 - (1 - level) / m, which finds less; no
    intervals can be both (Guilbaud 2008, Biometrical Journal 50, 678-692).
    p_values: (m,), of intervals and tests that agree. at: for comparisons that are looked at repeatedly, the look that each
    of them is at.
    Raises DataError unless all p values and ``level`` lie in [0, 1].
    """
    p = _checked(p_values, "holm_levels")
    check_level(level, "holm_levels")
    levels = np.empty_like(p)
    waiting = list(np.argsort(p, kind="stable"))
    while waiting:
        tested = 1 - (1 - level) / len(waiting)
        levels[waiting] = tested if at is None else [at[each](tested) for each in waiting]
        found = next((each for each in waiting if p[each] < 1 - levels[each]), None)  # at one look: the first, or none
        if found is None:
            break
        waiting.remove(found)
    return levels


def _checked(p_values: Sequence[float], who: str) -> NDArray[np.float64]:
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or p.size == 0 or not ((p >= 0) & (p <= 1)).all():
        raise DataError(who, "needs one p value or more in one row, all in [0, 1]", got=list(np.ravel(p)[:8]))
    return p

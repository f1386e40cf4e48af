"""One comparison, or several at once: the interval that decides, its p value, and what it would take to know more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from descend.errors import DataError
from descend.stats.crossed import crossed
from descend.stats.intervals import Interval, check_level, interval_of, paired_differences, paired_p_value
from descend.stats.multiple import Look, holm_levels
from descend.stats.one_run import McNemar, adjusted_wald, adjusted_wald_p_value, counts_of, mcnemar_of, paired_scores
from descend.stats.power import Plan, plan_runs
from descend.stats.sequential import Spending


@dataclass(frozen=True, eq=False)
class Difference:
    """How far a lies above b, and whether that is known. One rule decides: the interval at ``level`` leaves out zero or not.

    scores: a - b, float64: (n_seeds,), (n_seeds, n_pictures), or one run each, (1, n_pictures).
    level: of the interval. Where several comparisons or several looks share one level, it is the one left for this.
    """

    scores: NDArray[np.float64]
    level: float = 0.95

    @property
    def n_seeds(self) -> int:
        """The seeds that both sides ran."""
        return len(self.scores)

    @property
    def n_pictures(self) -> int | None:
        """The pictures that every run judged, where they are covered."""
        return self.scores.shape[1] if self.scores.ndim == 2 else None

    @property
    def covers(self) -> str:
        """What else could have been drawn: ``seeds``, ``seeds and pictures``, or ``pictures`` where there is one run each."""
        return "seeds" if self.n_pictures is None else "pictures" if self.n_seeds == 1 else "seeds and pictures"

    @cached_property
    def mcnemar(self) -> McNemar | None:
        """The test of two networks, where there is one run each and every picture is right or wrong."""
        binary = self.covers == "pictures" and bool(np.isin(self.scores, (-1, 0, 1)).all())
        return mcnemar_of(self.scores[0], self.level) if binary else None

    @cached_property
    def interval(self) -> Interval:
        """The interval that decides: ``paired``, ``paired_runs_and_items``, or, of one run each, that of ``mcnemar``.

        The last is stretched to zero where the exact test does not call the two networks different.
        """
        if self.n_pictures is None:
            return interval_of(self.scores, self.level)
        if self.n_seeds > 1:
            return crossed(self.scores).interval(self.level)
        n, (only_a, only_b) = self.n_pictures, counts_of(self.scores[0])
        known = Interval((only_a - only_b) / n, *adjusted_wald(only_a, only_b, n, self.level), n)
        if self._exact_p_value < 1 - self.level:
            return known
        return replace(known, low=min(known.low, 0.0), high=max(known.high, 0.0))

    @cached_property
    def p_value(self) -> float:
        """The p value of ``interval``: below 1 - level exactly where it leaves out zero, at any level."""
        if self.n_pictures is None:
            return paired_p_value(self.scores)
        if self.n_seeds > 1:
            return crossed(self.scores).p_value()
        return max(self._exact_p_value, adjusted_wald_p_value(*counts_of(self.scores[0]), self.n_pictures))

    @property
    def _exact_p_value(self) -> float:
        """The p value of ``mcnemar``; of shares, which it does not take, the least that turning signs around can give."""
        n_apart = int((self.scores[0] != 0).sum())
        return min(1.0, 2.0 ** (1 - n_apart)) if self.mcnemar is None else self.mcnemar.p_value

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval.distinguishable

    def at(self, level: float) -> Difference:
        """Return the same comparison at another level."""
        check_level(level, "Difference")
        return Difference(self.scores, level)

    def plan(self, settle: float, power: float = 0.8) -> Plan:
        """Return what it takes to tell a difference of ``settle`` from zero at this level; see ``plan_runs``."""
        return plan_runs(self.scores, settle, self.level, power)


def difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Difference:
    """Compare a with b on the same seeds, by what the shape of their scores allows.

    a, b: (n_seeds,), one score per seed: Student's t (``paired``). (n_seeds, n_pictures), scores in [0, 1] of the same pictures:
    seeds and pictures (``paired_runs_and_items``). (1, n_pictures): two networks (``mcnemar``; of shares, such as the mean over
    the pictures of one patient, its interval with their mean square for the share of pictures that differ, and for the
    exact test its lowest p value for so many that differ).
    Raises DataError for unlike shapes, a single score, or scores of pictures outside [0, 1].

    >>> from descend.stats import difference
    >>> difference([0.93, 0.95, 0.94], [0.90, 0.91, 0.91]).p_value < 0.05
    True
    """
    check_level(level, "difference")
    if np.ndim(a) == 1 and np.ndim(b) == 1:
        first, second = (np.asarray(side, np.float64).tolist() for side in (a, b))
        return Difference(paired_differences(first, second, "difference"), level)
    return Difference(paired_scores(a, b, "difference", n_seeds=1), level)


def differences(
    pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], level: float = 0.95, *, looks: Spending | None = None,
    last: bool | Collection[str] = False,
) -> dict[str, Difference]:  # fmt: skip
    """Compare several pairs at one common level: each interval at the level that Holm's method leaves for it.

    pairs: name -> a and b as in ``difference``. All together, equal pairs are called different in at most 1 - level of cases.
    looks: where seeds are added until the intervals decide, the rule that shares the level among the looks (its own level
    counts, not ``level``); last: the budget ends here, for all pairs or for those named, which may have seeds of their own
    number, one too. See ``holm_levels`` for what the intervals promise together.
    Raises DataError as ``difference`` does, without pairs, or with a number of seeds at which no look was planned.
    """
    singles = {name: difference(a, b, level) for name, (a, b) in pairs.items()}
    p_values = [single.p_value for single in singles.values()]
    if looks is None:
        levels = holm_levels(p_values, level)
    else:
        ended = (set(singles) if last else set[str]()) if isinstance(last, bool) else set(last)
        n_seeds = {single.n_seeds for name, single in singles.items() if name not in ended}
        if len(n_seeds) > 1:
            raise DataError("differences", "all pairs must have the same seeds at a look", got=sorted(n_seeds))
        at = [_look(looks, single.n_seeds, last=name in ended) for name, single in singles.items()]
        levels = holm_levels(p_values, looks.level, at)
    return {name: single.at(float(each)) for (name, single), each in zip(singles.items(), levels, strict=True)}


def _look(looks: Spending, n_seeds: int, *, last: bool) -> Look:
    return lambda level: looks.level_at(n_seeds, last=last, level=level)

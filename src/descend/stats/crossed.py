"""Intervals over crossed random effects: further seeds and further pictures at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from descend.stats.intervals import ROUNDING, Interval, check_level, root
from descend.stats.one_run import adjusted_wald, adjusted_wald_p_value, paired_scores

_LEAST_EXPONENT = -300.0  # of p values in float64


def paired_runs_and_items(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean of ``a - b`` with an interval that covers further seeds and further pictures; n counts the seeds.

    a, b: (n_seeds, n_pictures), what each run scored on each picture (right or wrong, or a share in [0, 1]), the same seeds and
    the same pictures on both sides. Pictures that belong together (one patient) are one column: their mean.

    With the mean squares of d = a - b between seeds, between pictures, and of the remainder, seeds and pictures being crossed
    random effects, the interval reaches

        sqrt((t_seeds^2 ms_seeds + t_pictures^2 max(ms_pictures - ms_rest, 0)) / (n_seeds n_pictures))

    to either side, and no less than pictures alone would have it, t_pictures sqrt(ms_pictures / (n_seeds n_pictures)); it ends at
    -1 and 1, beyond which no shares differ. Each part has its own Student's t, so few seeds make it wide only as far as seeds
    matter. Two other ways miss their level with two or three seeds (``benchmarks/false_alarms.py``): one t with Satterthwaite's
    degrees of freedom, and percentiles of a bootstrap.
    Raises DataError for one seed (see ``mcnemar``), one picture, or scores outside [0, 1].
    Source: Dorfman, Berbaum & Metz 1992, Investigative Radiology 27, 723-731, for readers and cases; margins added in squares:
    Howe 1974, J. Am. Stat. Assoc. 69, 789-794; Zou & Donner 2008, Statistics in Medicine 27, 1693-1702.
    """
    check_level(level, "paired_runs_and_items")
    return crossed(paired_scores(a, b, "paired_runs_and_items", n_seeds=2)).interval(level)


@dataclass(frozen=True)
class Crossed:
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

    @property
    def constant(self) -> bool:
        """Whether every run differs by the same on every picture: it is then read as one run each that does."""
        return self.seeds == self.pictures == self.rest == 0

    def interval(self, level: float) -> Interval:
        """Return the mean with its interval."""
        if self.constant:
            return Interval(self.mean, *adjusted_wald(*self._counts, level), self.n_seeds)
        reach = self.reach((1 - level) / 2)
        return Interval(self.mean, max(self.mean - reach, -1.0), min(self.mean + reach, 1.0), self.n_seeds)

    def reach(self, tail: float) -> float:
        """Return how far the interval that leaves out ``tail`` on either side reaches from the mean."""
        n = self.n_seeds * self.n_pictures
        by_seeds = _far(self.n_seeds, tail, math.sqrt(self.seeds / n))
        both = math.hypot(by_seeds, _far(self.n_pictures, tail, self.pictures_error))
        return max(both, _far(self.n_pictures, tail, math.sqrt(self.pictures / n)))

    def p_value(self) -> float:
        """Return the p value that belongs to the interval: 1 - the highest level at which it still leaves out zero."""
        if self.constant:
            return adjusted_wald_p_value(*self._counts)
        if self.mean == 0:
            return 1.0
        if self.reach(10**_LEAST_EXPONENT / 2) <= abs(self.mean):
            return 10**_LEAST_EXPONENT
        return 10 ** root(lambda exponent: self.reach(10**exponent / 2) - abs(self.mean), _LEAST_EXPONENT, 0)

    @property
    def _counts(self) -> tuple[float, float, int]:
        return max(self.mean, 0) * self.n_pictures, max(-self.mean, 0) * self.n_pictures, self.n_pictures


def _far(n: int, tail: float, error: float) -> float:
    """Return how far ``tail`` lies from the mean of n numbers with this standard error; 0 where there is no error."""
    return (
        abs(float(scipy.special.stdtrit(n - 1, tail))) * error if error else 0.0
    )  # far out it is inf, for some n of the wrong sign


def crossed(d: NDArray[np.float64]) -> Crossed:
    """Return the parts of differences d, (n_seeds, n_pictures); what is left of equal ones by rounding is 0."""
    n_seeds, n_pictures = d.shape
    centre, by_seed, by_picture = float(d.mean()), d.mean(1), d.mean(0)
    rest = d - by_seed[:, None] - by_picture + centre
    squares = (
        n_pictures * float(by_seed.var(ddof=1)),
        n_seeds * float(by_picture.var(ddof=1)),
        float((rest**2).sum()) / ((n_seeds - 1) * (n_pictures - 1)),
    )
    return Crossed(centre, n_seeds, n_pictures, *(0.0 if square < ROUNDING**2 else square for square in squares))

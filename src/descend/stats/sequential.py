"""Looking repeatedly without paying for it in false verdicts: alpha spending over looks that are fixed beforehand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

from descend.errors import DataError
from descend.stats.intervals import check_level, root

_N_NODES = 200
_SPENT = 0.95
"""Share of alpha that several looks spend. The t statistics of few seeds differ more between looks than normal ones: five looks,
3 to 20 seeds, gave 5.13% for 5% in 100,000 draws with all of it spent."""
_FARTHEST = 7.0  # |z| with a two-sided p value of 3e-12: no look asks for more, and its level is still below 1 in float64

Spend = Callable[[float, float], float]
"""(alpha, share of the seeds seen so far, in (0, 1]) -> how much of alpha may be spent by then; all of it at 1."""


def obrien_fleming(alpha: float, share: float) -> float:
    """Spend almost nothing early: the last look is nearly as sharp as a single one.

    Source: Lan & DeMets 1983, Biometrika 70, 659-663, after O'Brien & Fleming 1979, Biometrics 35, 549-556.
    """
    return 4 * float(scipy.special.ndtr(scipy.special.ndtri(alpha / 4) / math.sqrt(share)))  # alpha / 2 for either side


@dataclass(frozen=True)
class Spending:
    """Seeds are added until the interval decides: the level that the interval has at each look, so that all looks keep ``level``.

    looks: numbers of seeds at which one looks, rising, the first 2 or more, the last as many as there can be. Fixed before the
    first run.

    The look with n seeds tests at the p value of the normal boundary that spends what is allowed by n / looks[-1], and the
    interval (Student's t) is drawn at that level: the significance level approach. Seeds that are seen later judge the pictures
    of those before, which makes looks more alike than assumed and the rule stricter. Where a budget ends early, for a reason
    that is not the scores, the last look may spend all that is left (``last=True``). With 3 to 20 seeds it finds nearly what one
    look at the end would find (``docs/comparison``); spending evenly (Pocock) found less of small differences and overspent, and
    a confidence sequence for differences in [-1, 1] found none.
    Source: Lan & DeMets 1983, Biometrika 70, 659-663; for Student's t through its level, Pocock 1977, Biometrika 64, 191-199.

    >>> from descend.stats import Spending
    >>> looks = Spending((3, 6, 9, 12))
    >>> [round(looks.level_at(n), 4) for n in looks.looks]
    [1.0, 0.9972, 0.9828, 0.9581]
    """

    looks: tuple[int, ...]
    level: float = 0.95
    spend: Spend = obrien_fleming

    def __post_init__(self) -> None:
        """Refuse looks out of order."""
        check_level(self.level, "Spending")
        looks = self.looks
        if not looks or looks[0] < 2 or any(later <= earlier for earlier, later in itertools.pairwise(looks)):
            raise DataError("Spending", "looks must be rising numbers of seeds from 2 on", got=looks)

    @classmethod
    def between(cls, first: int, last: int, level: float = 0.95) -> Spending:
        """Return the rule that looks with ``first`` seeds, half as many more each time, and with ``last``.

        A look just before the last is left out: it would cost level and save little.

        >>> from descend.stats import Spending
        >>> Spending.between(3, 20).looks
        (3, 5, 8, 12, 20)
        """
        looks = [first]
        while 1 < math.ceil(1.5 * looks[-1]) <= 0.8 * last:
            looks.append(math.ceil(1.5 * looks[-1]))
        return cls((*looks, last) if last != first else (first,), level)

    def level_at(self, n_seeds: int, *, last: bool = False, level: float | None = None) -> float:
        """Return the level of the interval at the look with ``n_seeds``.

        last: the budget ends here, before looks[-1]; this may be one seed. level: overall, instead of ``self.level`` (for
        ``holm_levels``). Raises DataError for a number of seeds at which no look was planned.
        """
        if not 1 <= n_seeds <= self.looks[-1] or not (last or n_seeds in self.looks):
            raise DataError("Spending", f"looks are planned with {', '.join(map(str, self.looks))} seeds", got=n_seeds)
        level = self.level if level is None else level
        check_level(level, "Spending")
        looks = (*(n for n in self.looks if n < n_seeds), n_seeds) if last else self.looks
        if len(looks) == 1:
            return level
        shares = tuple(n / self.looks[-1] for n in looks)
        alpha = (1 - level) * _SPENT
        spent = tuple(alpha if last and n == n_seeds else self.spend(alpha, n / self.looks[-1]) for n in looks)
        return 1 - 2 * float(scipy.special.ndtr(-boundaries(shares, spent)[looks.index(n_seeds)]))


@lru_cache(maxsize=1024)
def boundaries(shares: tuple[float, ...], spent: tuple[float, ...]) -> tuple[float, ...]:
    """Return the limits of |z| at each look for which the chance to have passed one is what is spent so far.

    shares: of the information, rising. spent: alpha up to each look, rising. The density of the sum that has passed no limit yet
    is carried from look to look by Gauss-Legendre integration.
    Source: Armitage, McPherson & Rowe 1969, J. R. Statist. Soc. A 132, 235-244.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    sums, mass = np.zeros(1), np.ones(1)  # before the first look: certainly at zero
    limits: list[float] = []
    for share, before, now, earlier in zip(shares, (0.0, *shares), spent, (0.0, *spent), strict=False):
        step = math.sqrt(share - before)
        limits.append(_limit(sums / step, mass, math.sqrt(share) / step, now - earlier))
        edge = limits[-1] * math.sqrt(share)
        density = np.exp(-0.5 * ((edge * nodes[:, None] - sums) / step) ** 2) @ mass / (step * math.sqrt(2 * math.pi))
        sums, mass = edge * nodes, edge * weights * density
    return tuple(limits)


def _limit(sums: NDArray[np.float64], mass: NDArray[np.float64], stretch: float, allowed: float) -> float:
    """Return the |z| that the next sum passes with chance ``allowed``. sums: so far, in steps; stretch: of its spread."""

    def passes(z: float) -> float:
        return float(mass @ (scipy.special.ndtr(sums - z * stretch) + scipy.special.ndtr(-z * stretch - sums)))

    if passes(_FARTHEST) >= allowed:
        return _FARTHEST
    return root(lambda z: passes(z) - allowed, 0.0, _FARTHEST)

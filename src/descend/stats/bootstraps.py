"""The bootstrap over seeds and pictures: an interval that assumes no curve, printed beside the one that decides."""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from descend.stats.crossed import crossed
from descend.stats.intervals import Interval, all_equal, check_level, paired_differences
from descend.stats.one_run import paired_scores


def bootstrap_runs_and_items(a: ArrayLike, b: ArrayLike, level: float = 0.95, seed: int = 0, *, n: int = 4000) -> Interval:
    """Return the mean of ``a - b`` with the percentile interval of ``n`` resamples of seeds and of pictures.

    a, b: as in ``difference``: (n_seeds,), (n_seeds, n_pictures) or one run each, (1, n_pictures). Each resample draws seeds with
    replacement and, independently, pictures with replacement, and adds how far both move the mean. *Differs from the plain
    bootstrap* in two ways, without which two or three seeds gave false verdicts in up to 28% of cases: the movement of n
    seeds is stretched by sqrt(n / (n - 1)) t / z (Student's quantile over the normal one); and what is left over between
    seeds and pictures, which would count three times, counts once. As the deciding interval, it is no narrower than pictures
    alone would have it, and open where all seeds differ by the same number.
    seed: of the resamples. The same input gives the same interval.
    Raises DataError as ``difference`` does.
    Source: Efron 1979, Ann. Statist. 7, 1-26; for crossed data Owen 2007, Ann. Appl. Statist. 1, 386-411; the stretch: Hesterberg
    2015, The American Statistician 69, 371-386, section 5.2.
    """
    who = "bootstrap_runs_and_items"
    check_level(level, who)
    draw = np.random.default_rng(seed)
    if np.ndim(a) == 1:
        d = paired_differences(np.asarray(a, np.float64).tolist(), np.asarray(b, np.float64).tolist(), who)
        if all_equal(d):
            return Interval(float(d[0]), -math.inf, math.inf, d.size)
        return _interval(float(d.mean()), d.size, level, _movements(d, level, n, draw))
    d = paired_scores(a, b, who, n_seeds=1)
    pictures = _movements(d.mean(0), level, n, draw)
    if len(d) == 1:
        return _interval(float(d.mean()), 1, level, pictures)
    parts = crossed(d)
    if parts.constant:
        return parts.interval(level)
    share = math.sqrt(max(parts.pictures - parts.rest, 0) / parts.pictures) if parts.pictures else 0.0
    both = _interval(parts.mean, len(d), level, _movements(d.mean(1), level, n, draw) + share * pictures)
    least = _interval(parts.mean, len(d), level, pictures)
    return Interval(both.mean, min(both.low, least.low), max(both.high, least.high), both.n)


def _movements(values: NDArray[np.float64], level: float, n: int, draw: np.random.Generator) -> NDArray[np.float64]:
    """Return how far the mean of ``values`` moves in ``n`` resamples, (n,), stretched to what so few values leave open."""
    size, tail = values.size, (1 - level) / 2
    distinct, counts = np.unique(values - values.mean(), return_counts=True)  # right and wrong: a few values, drawn at once
    stretch = math.sqrt(size / (size - 1)) * float(scipy.stats.t.isf(tail, size - 1) / scipy.stats.norm.isf(tail))
    return stretch * (draw.multinomial(size, counts / size, n) @ distinct) / size


def _interval(centre: float, n_seeds: int, level: float, movements: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(movements, [(1 - level) / 2, (1 + level) / 2])
    return Interval(centre, centre + float(low), centre + float(high), n_seeds)

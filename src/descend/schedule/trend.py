"""Does a loss still fall? A test of a line's slope that knows that the noise of neighboring epochs is alike.

The losses of one run are not independent draws: what one epoch's weights happen to do well, the next ones mostly do too. A test
that ignores this takes slow wandering for a trend; with noise whose neighbors correlate by 0.5 the textbook's Student test errs
two to five times as often as it says. Estimating the correlation and trusting the estimate is not enough either: from six or ten
points it is far too uncertain. So every correlation between none and a random walk is considered, each weighed by how likely it
makes the losses at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TINY = 1e-12
"""A loss below this counts as this: its logarithm has to exist."""
N_CORRELATIONS = 16
CORRELATIONS: Floats = np.sin((np.arange(N_CORRELATIONS) + 0.5) / N_CORRELATIONS * np.pi / 2)
"""Between neighboring epochs, 0.05 to 0.999, equally spaced in arc sine: as dense as Jeffreys' prior, so they weigh alike."""


@dataclass(frozen=True)
class Look:
    """One test of the loss curve.

    slope: of log(loss), per epoch. p: how probable it is that the loss still falls by the share in question or more. n: the
    epochs looked at. correlation: of the noise of neighboring epochs, its mean over what is likely.
    """

    slope: float
    p: float
    n: int
    correlation: float


@lru_cache(maxsize=1024)  # a run asks again about all its epochs whenever one has been added
def fall_test(losses: tuple[float, ...], worth: float) -> Look:
    """Test whether ``losses``, one per epoch, still fall by the share ``worth`` per epoch or faster.

    A line plus first-order autoregressive noise is fitted to log(loss), so ``worth`` is relative and scales cancel. For a known
    correlation, prewhitening (Prais & Winsten 1954) makes the noise independent, and Student's test of the slope is exact. The
    correlation is not known: the p values of ``CORRELATIONS`` are averaged with the weights that the losses give them, which
    integrates it out under Jeffreys' prior. Source: Zellner & Tiao 1964, Journal of the American Statistical Association 59,
    763-778; the prior: Zellner 1971, An Introduction to Bayesian Inference in Econometrics, section 7.1.

    p is 1 where one of the losses is not finite: then nothing can be said.
    """
    n = len(losses)
    if not np.isfinite(losses).all():
        return Look(math.nan, 1.0, n, math.nan)
    y, x = np.log(np.maximum(losses, TINY)), np.arange(n, dtype=np.float64) - (n - 1) / 2
    bar = math.log1p(-worth)
    plain = float(x @ y) / float(x @ x)
    spread = float(np.linalg.norm(y - y.mean() - plain * x))
    if spread <= TINY * abs(plain - bar) * math.sqrt(float(x @ x)):  # a curve without noise says it all
        return Look(plain, 0.0 if plain > bar else 1.0, n, 0.0)
    slopes, errors, weights = _fits(y, x)
    p = scipy.special.stdtr(n - 2, (bar - slopes) / errors)
    return Look(float(weights @ slopes), float(weights @ p), n, float(weights @ CORRELATIONS))


def _fits(y: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the slope of the line through ``y``, its standard error and the weight of each of ``CORRELATIONS``: (K,) each.

    The weight is the likelihood of the correlation with intercept, slope and size of the noise integrated out.
    """
    one, x, y = (_whitened(row) for row in (np.ones_like(x), x, y))
    one_one, one_x, x_x = (one * one).sum(1), (one * x).sum(1), (x * x).sum(1)
    one_y, x_y = (one * y).sum(1), (x * y).sum(1)
    determinant = one_one * x_x - one_x**2
    slopes = (one_one * x_y - one_x * one_y) / determinant
    starts = (x_x * one_y - one_x * x_y) / determinant
    rest = ((y - starts[:, None] * one - slopes[:, None] * x) ** 2).sum(1)
    n_free = x.shape[1] - 2
    errors = np.sqrt(rest / n_free * one_one / determinant)
    logs = (np.log(1 - CORRELATIONS**2) - np.log(determinant) - n_free * np.log(rest)) / 2
    weights = np.exp(logs - logs.max())
    return slopes, errors, weights / weights.sum()


def _whitened(row: Floats) -> Floats:
    """Return ``row`` (n,) with each of ``CORRELATIONS`` taken out of its noise: (K, n)."""
    first = np.sqrt(1 - CORRELATIONS**2)[:, None] * row[0]
    return np.concatenate([first, row[1:] - CORRELATIONS[:, None] * row[:-1]], axis=1)

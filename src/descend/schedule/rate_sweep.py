"""The learning-rate range test: raise the rate from step to step, watch the loss, and see which rates train.

A ``Sweep`` knows no network: a training loop takes each step at the rate that it names and tells it the loss before that step.
Two questions come before a suggestion. Where does the loss first clearly *rise*? A bounded loss need not diverge, and may fall
again behind an explosion, so nothing from there on counts. And is there a clear *fall* before it, or only batch noise?
Source: Smith 2017, Cyclical Learning Rates, arXiv:1506.01186, section 3.3; exponential with an early end: fastai, Howard & Gugger
2020. The two questions are ours; their pieces are named at each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

from descend import rng
from descend.errors import KnobError, TrainingError, check_count

Floats = NDArray[np.float64]
WIDTH = 0.04
"""Of the Gaussian that smooths the losses, as a part of the whole sweep: a quarter of a decade where six decades are swept."""
DIVERGED = 4.0
"""The smoothed loss that ends the sweep, in units of the lowest so far; fastai's choice."""
MEMORY = 0.9
"""Of the running mean that is compared with ``DIVERGED`` while the sweep goes on."""
RISE_NOISE, RISE_OF_FALL, RISE_OF_LOSS = 6.0, 0.25, 0.05
"""What makes a rise clear: more than this many standard errors of batch noise, and more than these parts of the fall before it
and of the loss itself. At 6, one flat noisy sweep in fifty is cut; at 5, one in thirty (measured on normal noise, 100 steps)."""
FEWEST = 5
"""Losses that a sweep needs; before that, a running mean is the luck of one batch."""
LEVEL, N_PERMUTED = 0.01, 999
"""A fall is clear where no more than this part of so many random orders of the same losses fall as far ..."""
FALL_OF_LOSS = 0.005
"""... and where it is more than this part of the loss: a network without noise in its first losses falls clearly at any rate."""


@dataclass(frozen=True)
class RangeTest:
    """A finished sweep. rates, losses: (n,) float64, one per step taken. n_steps: planned. low, high: the rates planned."""

    rates: Floats
    losses: Floats
    n_steps: int
    low: float
    high: float

    @cached_property
    def smooth(self) -> Floats:
        """The losses without most of their noise: (n,) float64, a Gaussian mean over neighbors on both sides, so without lag."""
        return scipy.ndimage.gaussian_filter1d(self.losses, WIDTH * self.n_steps, mode="nearest")

    @cached_property
    def n_before_rise(self) -> int:
        """The number of steps before the loss first rises clearly; all steps if it never does."""
        return first_rise(self.losses, max(3, round(2 * WIDTH * self.n_steps)))

    @property
    def rise(self) -> float | None:
        """The rate at which the loss begins to rise clearly; None if it never does."""
        return float(self.rates[self.n_before_rise]) if self.n_before_rise < len(self.rates) else None

    @cached_property
    def p_fall(self) -> float:
        """The probability that batch noise alone falls as far as the losses before the rise do; see ``fall_by_chance``."""
        return fall_by_chance(self.losses[: self.n_before_rise], WIDTH * self.n_steps)

    @property
    def fall(self) -> float:
        """How far the smoothed loss falls before it rises, as a part of the highest value before its lowest."""
        before = self.smooth[: self._lowest_step + 1]
        return float(1 - before[-1] / before.max()) if before.max() > 0 else 0.0

    @property
    def falls_clearly(self) -> bool:
        """Whether the loss falls before it rises by more than batch noise does (``LEVEL``), and at all (``FALL_OF_LOSS``)."""
        return self.fall > FALL_OF_LOSS and self.p_fall <= LEVEL

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest before it rises: from here on the rate does harm."""
        return float(self.rates[self._lowest_step])

    @property
    def _lowest_step(self) -> int:
        return int(self.smooth[: self.n_before_rise].argmin())

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply over log(rate), before its lowest point, if it falls clearly.

        At the lowest point itself the loss is about to rise; where it falls most steeply each step brings most.
        """
        slopes = np.gradient(self.smooth)[: self._lowest_step + 1]
        return float(self.rates[slopes.argmin()]) if self.falls_clearly and slopes.min() < 0 else None

    @property
    def diverged(self) -> bool:
        """Whether the sweep ended before its last step."""
        return len(self.rates) < self.n_steps


def first_rise(losses: Floats, window: int) -> int:
    """Return the first step from which the median of ``window`` losses lies clearly above that of an earlier window, else n.

    losses: (n,) float64. Clear is what exceeds all three of ``RISE_NOISE`` standard errors, ``RISE_OF_FALL`` of the fall so far
    and ``RISE_OF_LOSS`` of the lowest median. Medians, because an explosion shows in single losses first and may sink again. The
    noise is measured before the rise, from what each loss differs from the mean of its neighbors, whose spread no trend enters:
    Gasser, Sroka & Jennen-Steinmetz 1986, Biometrika 73, 625-633; its median, times 1.4826, makes it robust.
    """
    n = len(losses)
    if n < 2 * window:
        return n
    medians = np.median(np.lib.stride_tricks.sliding_window_view(losses, window), axis=1)
    residuals = 1.4826 * math.sqrt(2 / 3) * np.abs(losses[1:-1] - (losses[:-2] + losses[2:]) / 2)
    lowest = 0
    for step in range(window, len(medians)):
        if medians[step - window] <= medians[lowest]:
            lowest = step - window
        known = residuals[: lowest + window - 1]
        noise = max(np.median(known), np.median(known[-3 * window :]))  # it may grow on the way
        error = noise * math.sqrt(2 * (math.pi / 2) / window)  # of a difference of two medians
        fall = medians[: lowest + 1].max() - medians[lowest]
        if medians[step] - medians[lowest] > max(RISE_NOISE * error, RISE_OF_FALL * fall, RISE_OF_LOSS * abs(medians[lowest])):
            return step
    return n


def fall_by_chance(losses: Floats, width: float) -> float:
    """Return the share of random orders of ``losses`` that fall as far as their own order: the p value of "this is noise".

    losses: (n,) float64. width: of the Gaussian, steps. How far a row falls is the largest fall from any smoothed value to a
    later one, of ranks, so that single outliers do not decide. Exact for losses that are exchangeable where nothing is learned.
    Source: a permutation test, Fisher 1935; its p value with the order seen counted in: Phipson & Smyth 2010,
    doi:10.2202/1544-6115.1585.
    """
    ranks = scipy.stats.rankdata(losses)
    orders = rng.uniform(0, "schedule/fall", ids=np.arange(N_PERMUTED), n=len(ranks)).argsort(axis=1)
    seen, *others = _largest_fall(np.concatenate([ranks[None], ranks[orders]]), width)
    return (1 + sum(other >= seen * (1 - 1e-12) for other in others)) / (N_PERMUTED + 1)


def _largest_fall(rows: Floats, width: float) -> Floats:
    smooth = scipy.ndimage.gaussian_filter1d(rows, width, axis=1, mode="nearest")
    return (np.maximum.accumulate(smooth, axis=1) - smooth).max(axis=1)


class Sweep:
    """A range test while it runs: ``rates`` says which rate step k is taken at, ``tell`` takes its loss.

    Raises KnobError unless 0 < low < high and n_steps >= 20.
    """

    def __init__(self, *, low: float = 1e-6, high: float = 1.0, n_steps: int = 100) -> None:
        if not 0 < low < high < math.inf:
            raise KnobError("range test", "rates must be finite numbers with 0 < low < high", got=(low, high))
        check_count("range test", n_steps, knob="n_steps", least=20)
        self.low, self.high, self.n_steps = low, high, n_steps
        self.rates: Floats = np.geomspace(low, high, n_steps)
        self.losses: list[float] = []
        self._running, self._least = 0.0, math.inf

    def tell(self, loss: float) -> bool:
        """Take the loss of the next step; returns whether the sweep goes on.

        It ends after its last step, at a loss that is not finite (which is left out), and when the running mean of the losses
        exceeds ``DIVERGED`` times its lowest value.
        """
        if not math.isfinite(loss):
            return False
        self.losses.append(loss)
        self._running = MEMORY * self._running + (1 - MEMORY) * loss
        mean = self._running / (1 - MEMORY ** len(self.losses))
        if len(self.losses) < FEWEST:
            return True
        self._least = min(self._least, mean)
        return mean <= DIVERGED * self._least and len(self.losses) < self.n_steps

    def result(self) -> RangeTest:
        """Return what was measured; TrainingError where fewer than five steps had a finite loss."""
        n = len(self.losses)
        if n < FEWEST:
            raise TrainingError("range test", "needs five steps with a finite loss", got=n, fix="Begin lower: --low 1e-8.")
        return RangeTest(self.rates[:n], np.array(self.losses), self.n_steps, self.low, self.high)

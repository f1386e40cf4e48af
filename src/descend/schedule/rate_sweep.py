"""The learning-rate range test: raise the rate from step to step, watch the loss, and see which rates train.

A ``Sweep`` knows no network: a training loop takes each step at the rate that it names and tells it the loss before that step.
Source: Smith 2017, Cyclical Learning Rates, arXiv:1506.01186, section 3.3; exponential with an early end: fastai, Howard & Gugger
2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from descend.errors import KnobError, TrainingError

Floats = NDArray[np.float64]
WIDTH = 0.04
"""Of the Gaussian that smooths the losses, as a part of the whole sweep: a quarter of a decade where six decades are swept."""
DIVERGED = 4.0
"""The smoothed loss that ends the sweep, in units of the lowest so far; fastai's choice."""
MEMORY = 0.9
"""Of the running mean that is compared with ``DIVERGED`` while the sweep goes on."""


@dataclass(frozen=True)
class RangeTest:
    """A finished sweep. rates, losses: (n,) float64, one a step taken. n_steps: planned. low, high: the rates planned."""

    rates: Floats
    losses: Floats
    n_steps: int
    low: float
    high: float

    @cached_property
    def smooth(self) -> Floats:
        """The losses without most of their noise: (n,) float64, a Gaussian mean over neighbours on both sides, so without lag."""
        return gaussian_filter1d(self.losses, WIDTH * self.n_steps, mode="nearest")

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest: from here on the rate does harm."""
        return float(self.rates[self.smooth.argmin()])

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply over log(rate), before its lowest point; None if it never falls.

        At the lowest point itself the loss is about to rise; where it falls most steeply each step brings most.
        """
        end = int(self.smooth.argmin()) + 1
        slopes = np.gradient(self.smooth)[:end]
        return float(self.rates[slopes.argmin()]) if slopes.min() < 0 and end > 1 else None

    @property
    def diverged(self) -> bool:
        """Whether the sweep ended before its last step."""
        return len(self.rates) < self.n_steps


class Sweep:
    """A range test while it runs: ``rates`` says which rate step k is taken at, ``tell`` takes its loss.

    Raises KnobError unless 0 < low < high and n_steps >= 20.
    """

    def __init__(self, *, low: float = 1e-6, high: float = 1.0, n_steps: int = 100) -> None:
        if not 0 < low < high < math.inf:
            raise KnobError("range test", "rates must be finite numbers with 0 < low < high", got=(low, high))
        if isinstance(n_steps, bool) or not isinstance(n_steps, int) or n_steps < 20:
            raise KnobError("range test", "n_steps must be a whole number >= 20", got=n_steps)
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
        self._least = min(self._least, mean)
        return mean <= DIVERGED * self._least and len(self.losses) < self.n_steps

    def result(self) -> RangeTest:
        """Return what was found; TrainingError where fewer than five steps had a finite loss."""
        n = len(self.losses)
        if n < 5:
            raise TrainingError("range test", "needs five steps with a finite loss", got=n, fix="Begin lower: --low 1e-8.")
        return RangeTest(self.rates[:n], np.array(self.losses), self.n_steps, self.low, self.high)

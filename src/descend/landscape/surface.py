"""What a test surface is: a loss with its exact gradient, a place to start, a place to arrive, and sometimes a trap."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from descend.technique import Search, Technique

Floats = NDArray[np.float64]

Dimension = Annotated[int, Ge(2), Le(100_000), Search(2, 50)]
"""The number of parameters."""


class Surface(Technique, family="surface"):
    """The base of every test surface: smooth enough to walk on, its least loss 0, its minimum known.

    Points are (..., D) float64: any number of leading axes (walkers, grid rows), D coordinates last. Losses are (...).
    """

    def loss(self, x: Any) -> Floats:
        """Return the loss at ``x`` (..., D): (...) float64, at least 0."""
        raise NotImplementedError

    def gradient(self, x: Any) -> Floats:
        """Return the exact gradient at ``x`` (..., D): (..., D) float64."""
        raise NotImplementedError

    def start(self) -> tuple[float, ...]:
        """Return where walks begin unless told otherwise: D numbers."""
        raise NotImplementedError

    def minimum(self) -> tuple[float, ...]:
        """Return a point of loss 0 (one of them, where there are several): D numbers."""
        raise NotImplementedError

    def target(self) -> float:
        """Return the loss at which a walk has arrived unless told otherwise."""
        return 1e-3

    def window(self) -> tuple[float, float, float, float]:
        """Return the part worth drawing, of the first and last coordinate: left, right, bottom, top."""
        raise NotImplementedError

    def trap(self) -> str:
        """Return what a walk has to escape from, in words; "": there is no trap."""
        return ""

    def escaped(self, x: Any) -> NDArray[np.bool_]:
        """Return whether ``x`` (..., D) is out of the trap: (...) bool; all True where there is none."""
        return np.ones(np.shape(x)[:-1], bool)


def fixed(numbers: Floats) -> Floats:
    """Return ``numbers`` themselves, to be read only: an array that many calls share."""
    numbers.flags.writeable = False
    return numbers

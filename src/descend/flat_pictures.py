"""Rows of numbers as pictures: what scikit-learn calls X, (n, n_features), becomes (n, H, W) or (n, H, W, 3) uint8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import KnobError

_SMALLEST = 8  # pixels per side, from which on rows may be color pictures: of fewer columns, tables of numbers have as many


@dataclass(frozen=True)
class FlatPictures:
    """How rows become pictures. shape: (H, W) or (H, W, 3), what a row lacks is black. low, high: of black and of white."""

    shape: tuple[int, ...]
    low: float
    high: float

    @classmethod
    def of(cls, rows: NDArray[np.float64], shape: Sequence[int] | None) -> FlatPictures:
        """Learn from training rows (n, n_features).

        shape: (H, W), (H, W, 3), or None for the smallest square that holds a row. Raises KnobError for a shape that does not
        fit, and for none where rows may be square pictures in color.
        """
        n_features = rows.shape[1]
        shape = _square(n_features) if shape is None else _checked(shape, n_features)
        return cls(shape, float(rows.min()), float(rows.max()))

    def pixels(self, rows: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return rows (n, n_features) as pictures (n, *shape) uint8; values beyond low and high are cut off."""
        share = (rows - self.low) / max(self.high - self.low, np.finfo(np.float64).tiny)
        levels = np.zeros((len(rows), math.prod(self.shape)), np.uint8)
        levels[:, : rows.shape[1]] = np.rint(255 * share.clip(0, 1))
        return levels.reshape(-1, *self.shape)


def _checked(shape: Any, n_features: int) -> tuple[int, ...]:
    """Return a shape that was given as plain numbers. Raises KnobError unless it is one of pictures with as many values."""
    sides = tuple(shape) if isinstance(shape, (tuple, list, np.ndarray)) else ()
    are_whole = all(isinstance(side, Integral) and int(side) > 0 for side in sides)
    if len(sides) not in (2, 3) or not are_whole or sides[2:] not in ((), (3,)):
        raise KnobError("image_shape", "must be (H, W), or (H, W, 3) of pictures in color, in pixels", got=shape)
    if math.prod(sides) != n_features:
        raise KnobError("image_shape", f"must be of {n_features} values, as X has columns", got=sides)
    return tuple(map(int, sides))


def _square(n_features: int) -> tuple[int, int]:
    """Return the smallest square that holds a row. Raises KnobError where a row may be a square picture in color."""
    side, of_color = math.isqrt(n_features - 1) + 1, math.isqrt(n_features // 3)
    if side**2 != n_features == 3 * of_color**2 and of_color >= _SMALLEST:
        raise KnobError("image_shape", f"must be given: rows of {n_features} columns may be pictures of {of_color}x{of_color} "
                        "pixels in 3 channels",
                        fix=f"Write image_shape=({of_color}, {of_color}, 3), or (H, W) for gray pictures.")  # fmt: skip
    return side, side

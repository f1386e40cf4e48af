"""Rows of numbers as pictures: what scikit-learn calls X, (n, n_features), becomes (n, H, W) uint8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from descend.errors import KnobError


@dataclass(frozen=True)
class FlatPictures:
    """How rows become pictures. shape: (H, W), what a row lacks is black. low, high: the values of black and of white."""

    shape: tuple[int, int]
    low: float
    high: float

    @classmethod
    def of(cls, rows: NDArray[np.float64], shape: Sequence[int] | None) -> FlatPictures:
        """Learn from training rows (n, n_features). shape: (H, W), or None for the smallest square that holds a row."""
        n_features = rows.shape[1]
        side = math.isqrt(n_features - 1) + 1
        height, width = (side, side) if shape is None else shape
        if shape is not None and height * width != n_features:
            raise KnobError("image_shape", f"must be of {n_features} pixels, as X has columns", got=tuple(shape))
        return cls((height, width), float(rows.min()), float(rows.max()))

    def pixels(self, rows: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return rows (n, n_features) as pictures (n, H, W) uint8; values beyond low and high are cut off."""
        share = (rows - self.low) / max(self.high - self.low, np.finfo(np.float64).tiny)
        levels = np.zeros((len(rows), self.shape[0] * self.shape[1]), np.uint8)
        levels[:, : rows.shape[1]] = np.rint(255 * share.clip(0, 1))
        return levels.reshape(-1, *self.shape)

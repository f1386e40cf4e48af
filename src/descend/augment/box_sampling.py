"""Boxes of random area and shape, of which the first that fits into the picture is taken: for crops and for erasing."""

from __future__ import annotations

import numpy as np

from descend.augment.array_types import Bools, Floats

N_ATTEMPTS = 10
"""As in torchvision's crop, and as in the loop of random erasing, which retries until a box fits: ten leave a miss in about 1 of
10,000. The first that fits wins, so area and ratio keep their laws."""


def draw_boxes(
    u: Floats, area_range: tuple[float, float], ratio_range: tuple[float, float], canvas: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return the sides of boxes, sqrt(a r) and sqrt(a / r) pixels, (N_ATTEMPTS, B) each: the first is r times the second.

    u: (2 N_ATTEMPTS, B) in (0, 1), of the areas a and then of the ratios r. area_range: shares of the canvas (height, width),
    uniform. ratio_range: log-uniform.
    """
    h, w = canvas
    low, high = area_range
    area = h * w * (low + u[:N_ATTEMPTS] * (high - low))
    first, last = np.log(ratio_range)
    ratio = np.exp(first + u[N_ATTEMPTS:] * (last - first))
    return np.sqrt(area * ratio), np.sqrt(area / ratio)


def first_fit(one: Floats, other: Floats, fits: Bools) -> tuple[Floats, Floats, Bools]:
    """Return the sides (B,) of the first box that fits, and whether any does (B,); else those of the first. All (N, B)."""
    pick = fits.argmax(0)[None]
    return np.take_along_axis(one, pick, 0)[0], np.take_along_axis(other, pick, 0)[0], np.asarray(fits.any(0))

"""Which stored pixels a view reads, so that operations before the one pass need not make the others."""

from __future__ import annotations

import numpy as np

from descend.augment.array_types import Ints
from descend.augment.factors import Draws

_MARGIN = 3  # pixels: half of one to a center, two that cubic convolution looks further, and what positions are rounded by


def seen(draws: Draws) -> Ints:
    """Return top, bottom, left and right of the stored pixels that each image is made of, half open: (B, 4) int64.

    A line that the view leaves is given whole, because the border may mirror any of it; so is an image that is not mapped by an
    affine map alone, which takes the canvas to what lies between its corners.
    """
    n, (height, width), m = len(draws), draws.source, draws.matrix
    corners = np.array([(x, y, 1.0) for x in (0, draws.canvas[1]) for y in (0, draws.canvas[0])])
    places = corners @ m[:, :2].transpose(0, 2, 1)  # (B, 4, 2) x and y
    low, high = np.floor(places.min(1)) - _MARGIN, np.ceil(places.max(1)) + _MARGIN
    size = np.array([width, height])
    whole = (low < 0) | (high > size)
    bent = (m[:, 2] != (0.0, 0.0, 1.0)).any(1)
    for bend in draws.bends:
        bent |= bend.any((1, 2, 3))
    whole |= bent[:, None]
    windows = np.empty((n, 4), np.int64)
    windows[:, 2::-2] = np.where(whole, 0, low)
    windows[:, 3::-2] = np.where(whole, size, high)
    return windows

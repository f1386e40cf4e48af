"""Textbook pixels: every function is written from its definition, loops and all, and imports nothing of ours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Levels = NDArray[np.float64]


def reflect_crop(picture: Picture, top: int, left: int, padding: int) -> Picture:
    """Pad by reflection and cut the old size out again."""
    h, w = picture.shape[:2]
    padded = np.pad(picture, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    return padded[padding + top : padding + top + h, padding + left : padding + left + w]


def bilinear(picture: Picture, x: float, y: float) -> Levels:
    """Read one point, pixel centres at whole numbers, mirrored about the outermost centres."""
    h, w = picture.shape[:2]
    padded = np.pad(picture.astype(np.float64), ((h - 1, h - 1), (w - 1, w - 1), (0, 0)), mode="reflect")
    x, y = x + w - 1, y + h - 1
    i, j = int(np.floor(y)), int(np.floor(x))
    fy, fx = y - i, x - j
    top = (1 - fx) * padded[i, j] + fx * padded[i, j + 1]
    return (1 - fy) * top + fy * ((1 - fx) * padded[i + 1, j] + fx * padded[i + 1, j + 1])


def grey(levels: Levels) -> Levels:
    """Return ITU-R BT.601 luma."""
    return 0.299 * levels[..., 0] + 0.587 * levels[..., 1] + 0.114 * levels[..., 2]


def brightness(levels: Levels, factor: float) -> Levels:
    """Blend with black."""
    return factor * levels


def contrast(levels: Levels, factor: float) -> Levels:
    """Blend with the mean grey of the picture."""
    return factor * levels + (1 - factor) * grey(levels).mean()


def saturation(levels: Levels, factor: float) -> Levels:
    """Blend each pixel with its own grey."""
    return factor * levels + (1 - factor) * grey(levels)[..., None]


def hue(levels: Levels, share: float) -> Levels:
    """Turn chroma in the NTSC YIQ plane, which leaves luma as it is."""
    y = grey(levels)
    i = 0.596 * levels[..., 0] - 0.274 * levels[..., 1] - 0.322 * levels[..., 2]
    q = 0.211 * levels[..., 0] - 0.523 * levels[..., 1] + 0.312 * levels[..., 2]
    c, s = np.cos(2 * np.pi * share), np.sin(2 * np.pi * share)
    i, q = c * i - s * q, s * i + c * q
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    return np.stack([y, i, q], -1) @ np.linalg.inv(to_yiq).T

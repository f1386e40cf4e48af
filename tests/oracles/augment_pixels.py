"""Textbook pixels: every function is written from its definition, loops and all, and imports nothing of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import map_coordinates

Picture = NDArray[np.uint8]
Levels = NDArray[np.float64]


def reflect_crop(picture: Picture, top: int, left: int, padding: int) -> Picture:
    """Pad by reflection and cut the old size out again."""
    h, w = picture.shape[:2]
    padded = np.pad(picture, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    return padded[padding + top : padding + top + h, padding + left : padding + left + w]


def bilinear(picture: Picture, x: float, y: float) -> Levels:
    """Read one point, pixel centers at whole numbers, mirrored about the outermost centers."""
    h, w = picture.shape[:2]
    padded = np.pad(picture.astype(np.float64), ((h - 1, h - 1), (w - 1, w - 1), (0, 0)), mode="reflect")
    x, y = x + w - 1, y + h - 1
    i, j = int(np.floor(y)), int(np.floor(x))
    fy, fx = y - i, x - j
    top = (1 - fx) * padded[i, j] + fx * padded[i, j + 1]
    return (1 - fy) * top + fy * ((1 - fx) * padded[i + 1, j] + fx * padded[i + 1, j + 1])


SCIPY_MODES = {"reflect": "mirror", "constant": "grid-constant", "replicate": "nearest", "wrap": "grid-wrap"}
NUMPY_MODES = {"reflect": "reflect", "constant": "constant", "replicate": "edge", "wrap": "wrap"}


def read(image: Picture | Levels, x: Levels, y: Levels, border: str = "reflect", fill: Levels | None = None) -> Levels:
    """Read many points as ``bilinear`` does, by SciPy: x, y (h, w) pixel centers -> (h, w, 3). fill: of a constant border."""
    planes, mode = np.moveaxis(image.astype(np.float64), -1, 0), SCIPY_MODES[border]
    levels = np.zeros(3) if fill is None else fill
    return np.stack(
        [map_coordinates(plane, [y, x], order=1, mode=mode, cval=level) for plane, level in zip(planes, levels, strict=True)], -1
    )


def keys(x: float) -> float:
    """Keys 1981, equation 15: the cubic convolution kernel."""
    s = abs(x)
    if s < 1:
        return 3 / 2 * s**3 - 5 / 2 * s**2 + 1
    return -1 / 2 * s**3 + 5 / 2 * s**2 - 4 * s + 2 if s < 2 else 0.0


def read_cubic(image: Picture | Levels, x: Levels, y: Levels, border: str = "reflect", fill: Levels | None = None) -> Levels:
    """Read many points by cubic convolution over an image that is padded: x, y (h, w) pixel centers -> (h, w, 3)."""
    pad = int(np.ceil(max(np.abs(x).max(), np.abs(y).max()))) + 3
    planes = []
    for c in range(3):
        constant = {"constant_values": 0.0 if fill is None else fill[c]} if border == "constant" else {}
        planes.append(np.pad(image[..., c].astype(np.float64), pad, mode=NUMPY_MODES[border], **constant))
    out = np.zeros((*x.shape, 3))
    for at in np.ndindex(x.shape):
        i, j = int(np.floor(y[at])), int(np.floor(x[at]))
        down = np.array([keys(y[at] - (i + k)) for k in (-1, 0, 1, 2)])
        across = np.array([keys(x[at] - (j + k)) for k in (-1, 0, 1, 2)])
        for c in range(3):
            out[at][c] = down @ planes[c][pad + i - 1 : pad + i + 3, pad + j - 1 : pad + j + 3] @ across
    return out


def project(matrix: Levels, x: Levels, y: Levels) -> Levels:
    """Apply a homography to points: (2, ...)."""
    u, v, depth = np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), 1)
    return np.stack([u, v]) / depth


def n_samples(matrix: Levels, h: int, w: int) -> tuple[int, int]:
    """Return how many samples down and across a pixel averages: the length of its footprint, up to 1.25 counting as one."""
    y, x = np.meshgrid((0.0, h / 2, h - 1.0), (0.0, w / 2, w - 1.0), indexing="ij")
    start = project(matrix, x, y)
    lengths = [np.linalg.norm(project(matrix, x + dx, y + dy) - start, axis=0).max() for dx, dy in ((0, 1), (1, 0))]
    down, across = (max(1, int(np.ceil(length - 0.25 - 1e-9))) for length in lengths)
    return down, across


def warp(image: Picture, matrix: Levels, size: tuple[int, int] | None = None, *, cubic: bool = False, **how: Any) -> Levels:
    """Fill an image of ``size`` (h, w) from where ``matrix`` takes the edges of its pixels; how: border and fill."""
    h, w = size or image.shape[:2]
    down, across = n_samples(matrix, h, w)
    y, x = np.meshgrid((np.arange(h * down) + 0.5) / down, (np.arange(w * across) + 0.5) / across, indexing="ij")
    u, v = project(matrix, x, y)
    samples = (read_cubic if cubic else read)(image, u - 0.5, v - 0.5, **how)
    return samples.reshape(h, down, w, across, 3).mean((1, 3))


def stretch(image: Picture, box: tuple[float, float, float, float], size: tuple[int, int]) -> Levels:
    """Spread a box (left, top, width, height) over an image of ``size`` (h, w)."""
    left, top, width, height = box
    return warp(image, np.array([[width / size[1], 0.0, left], [0.0, height / size[0], top], [0.0, 0.0, 1.0]]), size)


def sharpness(image: Picture, factor: float) -> Levels:
    """Blend with Pillow's smoothed image, which keeps its outermost pixels; whole levels."""
    smooth = np.asarray(Image.fromarray(image).filter(ImageFilter.SMOOTH), np.float64)
    return np.clip(np.floor(factor * image + (1 - factor) * smooth + 0.5), 0, 255)


def autocontrast(levels: Picture | Levels) -> Levels:
    """Stretch each channel over 0..255; one whose levels lie less than half a level apart stays."""
    low, high = levels.min((0, 1)).astype(np.float64), levels.max((0, 1)).astype(np.float64)
    flat = high - low < 0.5
    return (levels - np.where(flat, 0.0, low)) * 255 / np.where(flat, 255.0, high - low)


def equalize(levels: Levels) -> Levels:
    """Flatten each channel's histogram by Pillow's rule; a level between two whole ones counts for both in proportion."""
    out = levels.copy()
    for c in range(3):
        values = levels[..., c].ravel()
        counts = np.zeros(257)
        np.add.at(counts, np.floor(values).astype(int), 1 - values % 1)
        np.add.at(counts, np.floor(values).astype(int) + 1, values % 1)
        used = np.flatnonzero(counts[:256] > 0.5)
        step = int((values.size - counts[used[-1]] + 1e-3) // 255)
        if step and len(used) > 1:
            below = step // 2 + np.concatenate([[0.0], np.cumsum(counts[:255])])
            out[..., c] = np.interp(levels[..., c], np.arange(256), np.minimum((below + 1e-3) // step, 255))
    return out


def gray(levels: Levels) -> Levels:
    """Return ITU-R BT.601 luma."""
    return 0.299 * levels[..., 0] + 0.587 * levels[..., 1] + 0.114 * levels[..., 2]


def brightness(levels: Levels, factor: float) -> Levels:
    """Blend with black."""
    return factor * levels


def contrast(levels: Levels, factor: float) -> Levels:
    """Blend with the mean gray of the picture."""
    return factor * levels + (1 - factor) * gray(levels).mean()


def saturation(levels: Levels, factor: float) -> Levels:
    """Blend each pixel with its own gray."""
    return factor * levels + (1 - factor) * gray(levels)[..., None]


def hue(levels: Levels, share: float) -> Levels:
    """Turn chroma in the NTSC YIQ plane, which leaves luma as it is."""
    y = gray(levels)
    i = 0.596 * levels[..., 0] - 0.274 * levels[..., 1] - 0.322 * levels[..., 2]
    q = 0.211 * levels[..., 0] - 0.523 * levels[..., 1] + 0.312 * levels[..., 2]
    c, s = np.cos(2 * np.pi * share), np.sin(2 * np.pi * share)
    i, q = c * i - s * q, s * i + c * q
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    return np.stack([y, i, q], -1) @ np.linalg.inv(to_yiq).T

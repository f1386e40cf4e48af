"""The matrices of geometry, from the output back to the image before it, and how an image is brought to a size."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from descend.augment.array_types import Floats
from descend.augment.factors import Draws

Canvas: TypeAlias = tuple[int, int]  # height and width in pixels


def stack(rows: list[list[Floats | float]], n: int) -> Floats:
    """Return matrices (n, 3, 3) from two rows of scalars or (n,) arrays."""
    matrix = np.zeros((n, 3, 3))
    matrix[:, 2, 2] = 1
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            matrix[:, i, j] = entry
    return matrix


def translation(x: Floats, y: Floats) -> Floats:
    """Return the matrices (B, 3, 3) that read ``x`` pixels to the right and ``y`` pixels below: (B,) pixels each."""
    return stack([[1.0, 0.0, x], [0.0, 1.0, y]], len(x))


def about_center(linear: Floats, canvas: Canvas) -> Floats:
    """Return the matrices (B, 3, 3) of a linear map (B, 2, 2) about the middle of the canvas."""
    center = np.array([canvas[1] / 2, canvas[0] / 2])
    matrix = stack([], len(linear))
    matrix[:, :2, :2] = linear
    matrix[:, :2, 2] = center - linear @ center
    return matrix


def rotation(angle: Floats, canvas: Canvas) -> Floats:
    """Return the matrices (B, 3, 3) that turn the image by ``angle``: (B,) degrees, counter-clockwise."""
    turn = np.deg2rad(angle)
    return turning(np.cos(turn), np.sin(turn), canvas)


def turning(cos: Floats, sin: Floats, canvas: Canvas) -> Floats:
    """Return the matrices (B, 3, 3) that turn the image by angles of which the cosine and the sine are given, (B,)."""
    return about_center(np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1), canvas)


def zoom(x: Floats, y: Floats, canvas: Canvas) -> Floats:
    """Return the matrices (B, 3, 3) that enlarge the image ``x`` times in width and ``y`` times in height."""
    zero = np.zeros_like(x)
    return about_center(np.stack([np.stack([1 / x, zero], -1), np.stack([zero, 1 / y], -1)], 1), canvas)


def shearing(x: Floats, y: Floats, canvas: Canvas) -> Floats:
    """Return the matrices (B, 3, 3) that read ``x`` pixels aside per pixel of height, ``y`` below per pixel of width."""
    one = np.ones_like(x)
    return about_center(np.stack([np.stack([one, x], -1), np.stack([y, one], -1)], 1), canvas)


def crop_resize(left: Floats, top: Floats, width: Floats, height: Floats, canvas: Canvas) -> Floats:
    """Return the matrices (B, 3, 3) that spread a box, (B,) pixels each, over a new canvas."""
    return stack([[width / canvas[1], 0.0, left], [0.0, height / canvas[0], top]], len(left))


def fit(draws: Draws, canvas: Canvas) -> Draws:
    """Cut the middle of that size; where the image is too small, enlarge it just enough first."""
    h, w = draws.canvas
    factor = max(canvas[0] / h, canvas[1] / w, 1.0)
    draws = resized(draws, (max(round(h * factor), canvas[0]), max(round(w * factor), canvas[1])))
    return center_cut(draws, canvas)


def resized(draws: Draws, canvas: Canvas) -> Draws:
    """Stretch the whole present canvas over another."""
    if canvas == draws.canvas:
        return draws
    zero = np.zeros(len(draws))
    h, w = draws.canvas
    return draws.warp(crop_resize(zero, zero, zero + w, zero + h, canvas), canvas)


def center_cut(draws: Draws, canvas: Canvas) -> Draws:
    """Cut the middle of the present canvas; an odd margin leaves the extra pixel below and to the right."""
    if canvas == draws.canvas:
        return draws
    top, left = ((have - want) // 2 for have, want in zip(draws.canvas, canvas, strict=True))
    zero = np.zeros(len(draws))
    return draws.warp(translation(zero + left, zero + top), canvas)

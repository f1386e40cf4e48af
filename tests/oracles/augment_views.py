"""One textbook form per way to look at an image several times: slices of NumPy. Imports nothing of ours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


def middle(images: Images, size: int) -> Images:
    """Cut the middle of images (B, H, W, 3)."""
    top, left = ((side - size) // 2 for side in images.shape[1:3])
    return images[:, top : top + size, left : left + size]


def flip(images: Images, size: int) -> list[Images]:
    """The middle and its mirror image."""
    return [middle(images, size), middle(images, size)[:, :, ::-1]]


def five_crop(images: Images, size: int) -> list[Images]:
    """The corners, row by row, and the middle."""
    corners = [images[:, rows][:, :, columns] for rows in _ends(size) for columns in _ends(size)]
    return [*corners, middle(images, size)]


def ten_crop(images: Images, size: int) -> list[Images]:
    """Those and their mirror images."""
    plain = five_crop(images, size)
    return [*plain, *(view[:, :, ::-1] for view in plain)]


def views(images: Images, size: int) -> list[Images]:
    """Views of a transform without chance, here a sure mirror: each is the same."""
    return [middle(images, size)[:, :, ::-1]]


def _ends(size: int) -> tuple[slice, slice]:
    return slice(None, size), slice(-size, None)

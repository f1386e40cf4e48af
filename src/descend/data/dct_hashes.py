"""Perceptual hashes of pictures from their lowest frequencies: as they are, mirrored, turned, and of their parts.

A bit of a hash tells whether one of the 8 x 8 lowest coefficients of the discrete cosine transform is above their median.

Source: the DCT hash of C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), bit for bit as the
package ImageHash computes it, here for many pictures at once: picture by picture, two threads waited for each other in its many
small calls, and were slower than one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 32  # pixels: what a hash is computed of
LOWEST = 8  # frequencies each way that a hash is made of
WAVES = 12  # frequencies each way that are kept: in a part of 4/5 of a side, those of the hash are 8 * 5/4 of the whole and less
_MIDDLES = (2 * np.arange(SIDE) + 1) / (2 * SIDE)  # of the pixels, as shares of the side
_COSINES = 2 * np.cos(np.pi * np.arange(WAVES)[:, None] * _MIDDLES)  # DCT-II, (F, S)
_ODD = 1.0 - 2 * (np.arange(LOWEST) % 2)  # what a mirror does to the frequencies along it


def waves(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the lowest coefficients of pictures: (B, S, S) -> (B, F, F), those down first."""
    return _COSINES @ gray.astype(np.float64) @ _COSINES.T


def hashes(coefficients: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return the hashes of pictures as they are, mirrored left to right, top to bottom, and both ways: (B, F, F) -> (B, 4).

    In a mirror image the coefficients whose frequency along the mirror is odd change their sign.
    """
    lowest, across, down = coefficients[:, :LOWEST, :LOWEST], _ODD, _ODD[:, None]
    return np.stack([_packed(values) for values in (lowest, lowest * across, lowest * down, lowest * across * down)], 1)


def all_hashes(four: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hashes of pictures in the order of ``orientations.TURNS``: (N, 4), as ``hashes`` gives them -> (N, 8).

    Transposing a picture transposes its coefficients, and so the bits, for their median stays what it was.
    Source of the transposition: H. S. Warren, Hacker's Delight (2nd ed., 2012), figure 7-6.
    """
    words = four.copy()
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        n_bits = np.uint64(shift)
        differing = (words ^ (words >> n_bits)) & np.uint64(mask)
        words ^= differing ^ (differing << n_bits)
    return np.concatenate([four, words], axis=1)


def part_hashes(coefficients: NDArray[np.float32], across: tuple[float, float], down: tuple[float, float]) -> NDArray[np.uint64]:
    """Return the hashes that a part of pictures would have: (B, F, F) -> (B,).

    across, down: where it begins and ends, as shares of width and height. What the kept frequencies do not tell is missing.
    """
    return _packed(_of_part(*down) @ coefficients @ _of_part(*across).T)


def _of_part(start: float, end: float) -> NDArray[np.float32]:
    """Return what turns the lowest frequencies along a side into those of a part of it: (LOWEST, F)."""
    there = np.cos(np.pi * np.arange(WAVES) * (start + (end - start) * _MIDDLES)[:, None]) / SIDE  # the inverse transform, (S, F)
    there[:, 0] /= 2
    return (_COSINES[:LOWEST] @ there).astype(np.float32)


def _packed(coefficients: NDArray[Any]) -> NDArray[np.uint64]:
    values = coefficients.reshape(-1, LOWEST**2)
    above = values > np.median(values, axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8")[:, 0].astype(np.uint64)

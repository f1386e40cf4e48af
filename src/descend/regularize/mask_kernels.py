"""The compiled kernels of the drop layers: ``fill`` draws masks, ``stamp`` grows DropBlock's squares.

The masks are those of ``rng.bits``, word for word, and the generator is compiled from the same text.

Drawing a mask is the whole cost of dropout. torch fills one from a sequential generator at about 11 ns per unit (one core
of an AVX2 machine); this kernel takes 0.8 ns, because the numbers of a counter-based generator do not wait for each other.
The stamp takes an eighth of the time of growing squares by max-pooling (64 maps of 32 x 28 x 28, squares of 3), because few
begin anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend import rng
from descend.compiled import helper, kernel

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_philox = helper(rng.philox_rounds, inline="always")  # as a call it would keep LLVM from drawing several numbers at once


@kernel
def _fill_masks(out: Any, ids: Any, k0: Any, k1: Any, threshold: Any, scale: Any, zero: Any) -> None:
    for i in range(ids.size):
        row, low, high = out[i], ids[i] & _LOW, ids[i] >> _HALF
        whole = row.size // 4
        for j in range(whole):
            block = np.uint64(j)
            a, b, c, d = _philox(block & _LOW, block >> _HALF, low, high, k0, k1)
            row[4 * j] = scale if a >= threshold else zero
            row[4 * j + 1] = scale if b >= threshold else zero
            row[4 * j + 2] = scale if c >= threshold else zero
            row[4 * j + 3] = scale if d >= threshold else zero
        block = np.uint64(whole)
        words = _philox(block & _LOW, block >> _HALF, low, high, k0, k1)
        for j in range(row.size - 4 * whole):
            row[4 * whole + j] = scale if words[j] >= threshold else zero


def fill(out: NDArray[Any], ids: NDArray[np.int64], key: tuple[int, int], p: float, scale: float) -> None:
    """Write ``scale`` where a unit is kept and 0 where it is dropped: out (B, n) float32 or float64, ids (B,) int64.

    Unit ``j`` of sample ``i`` is dropped exactly when word ``j`` of ``rng.bits`` lies below ``p * 2**32``.
    """
    real = out.dtype.type
    threshold = np.uint64(round(p * 2**32))
    _fill_masks(out, ids.view(np.uint64), np.uint64(key[0]), np.uint64(key[1]), threshold, real(scale), real(0))


@kernel
def _stamp(out: Any, quiet: Any, side_h: Any, side_w: Any) -> None:
    samples, rows, columns, channels = quiet.shape
    one, zero = out.dtype.type(1), out.dtype.type(0)
    for b in range(samples):
        out[b] = one
        for i in range(rows):
            for j in range(columns):
                for c in range(channels):
                    if quiet[b, i, j, c] == zero:
                        for h in range(i, i + side_h):
                            for w in range(j, j + side_w):
                                out[b, h, w, c] = zero
        kept = out[b].sum()
        if kept > 0:
            out[b] *= out.dtype.type(out[b].size / kept)


def stamp(quiet: NDArray[Any], side_h: int, side_w: int) -> NDArray[Any]:
    """Return DropBlock's mask: 0 on each square that starts where ``quiet`` is 0, else the sample's size / number kept.

    quiet: (B, H - side_h + 1, W - side_w + 1, C) float32 or float64 of 0 and 1 -> (B, H, W, C), the same type.
    """
    b, rows, columns, c = quiet.shape
    out = np.empty((b, rows + side_h - 1, columns + side_w - 1, c), quiet.dtype)
    _stamp(out, quiet, side_h, side_w)
    return out

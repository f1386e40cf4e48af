"""Kernels of blur and sharpness, in whole numbers, so that they agree with ``neighborhood`` to the bit.

A *window* is what they make of an image: (4,) int64, its top, bottom, left and right in pixels, half open.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from descend.augment.simd_integers import N, all_ints, copy_bytes, put_shorts, put_twice_weighed, weighed
from descend.compiled import LEAN, helper, kernel

_I, _F = np.int32, np.float32
_CHUNK = 2 * N
_MIDDLE = 255 * 64  # of the levels in 1/128: their distances from it, and sums of two such, fit in 16 bits
lean = helper(**LEAN)


class BlurWork(NamedTuple):
    """Memory for the blur of a window of w columns with reach r: it is written, read and forgotten."""

    halves: Any  # (2 p,) int16, weights
    places: Any  # (8 p,) int64, where the lines begin that these weigh
    stored: Any  # (pitch + 6 r,) uint8, a row of the image, from r columns before the window to r after it
    rows: Any  # ((2 r + 1) pitch + 32,) int16, the last rows after the sums across
    done: Any  # (pitch,) uint8, a row of the result


def blur_work(reach: int, width: int) -> BlurWork:
    """Return memory for a window of this width."""
    n_pairs, pitch = (reach + 2) // 2, -(-3 * width // _CHUNK) * _CHUNK
    shapes = ((2 * n_pairs, np.int16), (8 * n_pairs, np.int64), (pitch + 6 * reach, np.uint8),
              ((2 * reach + 1) * pitch + 32, np.int16), (pitch, np.uint8))  # fmt: skip
    return BlurWork(*(np.empty(shape, kind) for shape, kind in shapes))


@lean
def _mirrored(i, n, reach):
    """Fold a place into 0..n-1: mirrored about the last pixels, or held there where the reach is longer than the line."""
    if n <= reach:
        return min(max(i, 0), n - 1)
    return abs(i) if i < n else 2 * n - 2 - i


@lean
def _pair(weights, halves):
    """Write the weights (reach + 1,) and perhaps a 0. The middle one may have 17 bits: it is halved, its pixel counts twice."""
    halves[halves.size - 1] = 0
    for t in range(weights.size):
        halves[t] = np.int16(weights[t] // 2 if t == 0 else weights[t])


@lean
def _sums(lines, places, at, pairs, start):
    """Return ``start`` and the weighed sums of lines at 32 places, in the order of ``weighed``."""
    low = high = all_ints(start)
    for p in range(pairs.size):
        low, high = weighed(low, high, lines, places, 4 * p, at, pairs[p])
    return low, high


@lean
def _read(row, left, right, width, reach, line):
    """Write the pixels ``left - reach`` to ``right + reach`` of a row (3 width,) to a line, mirrored beyond the border."""
    first, last = max(left - reach, 0), min(right + reach, width)
    copy_bytes(line, 3 * (first - left + reach), row, 3 * first, 3 * (last - first))
    for beyond in (range(left - reach, 0), range(width, right + reach)):
        for j in beyond:
            for c in range(3):
                line[3 * (j - left + reach) + c] = row[3 * _mirrored(j, width, reach) + c]


@kernel(**LEAN)
def blur(image, window, weights, work, out):
    """Convolve a window of an image (H, W, 3) uint8 across and down, into ``out`` (H, W, 3); work: ``blur_work``.

    weights: (reach + 1,) int32 in 2**-16, middle first. Each row is read once, and what becomes of it is kept while it is within
    reach; see ``neighborhood._blurred`` for the fractions.
    """
    height, width, reach = image.shape[0], image.shape[1], weights.size - 1
    top, bottom, left, right = window
    flat, done, n, n_rows, pitch = image.reshape(-1), out.reshape(-1), 3 * (right - left), 2 * reach + 1, work.done.size
    rows = work.rows[-work.rows.ctypes.data % 64 // 2 :]  # vectors that cross no line of the cache are read in half the time
    across, down, pairs = work.places[: work.places.size // 2], work.places[work.places.size // 2 :], work.halves.view(_I)
    _pair(weights, work.halves)
    for t in range(work.halves.size):
        step = t if t <= reach else 0  # the weight after the last is 0
        across[2 * t], across[2 * t + 1] = 3 * (reach - step), 3 * (reach + step)
    read = max(top - reach, 0) if height > reach else 0
    for i in range(top, bottom):
        while read < min(height, i + reach + 1):
            _read(flat[3 * width * read : 3 * width * (read + 1)], left, right, width, reach, work.stored)
            line = rows[read % n_rows * pitch :]
            for k in range(0, n, _CHUNK):
                low, high = _sums(work.stored, across, k, pairs, (1 << 8) - (_MIDDLE << 9))
                put_shorts(line, k, low >> 9)
                put_shorts(line, k + N, high >> 9)
            read += 1
        for t in range(work.halves.size):
            step = t if t <= reach else 0
            down[2 * t] = _mirrored(i - step, height, reach) % n_rows * pitch
            down[2 * t + 1] = _mirrored(i + step, height, reach) % n_rows * pitch
        for k in range(0, n, _CHUNK):
            low, high = _sums(rows, down, k, pairs, (1 << 22) + (_MIDDLE << 16))
            put_twice_weighed(work.done, k, low >> 23, high >> 23)
        copy_bytes(done, 3 * (i * width + left), work.done, 0, n)


@lean
def _sharpened(above, row, below, factor, rest, out):
    """Blend the inner pixels of a row with their smoothed form, 13ths of the sum of nine and four times the middle."""
    for k in range(out.size):
        s = _I(above[k]) + _I(above[k + 3]) + _I(above[k + 6]) + _I(row[k]) + _I(row[k + 6])
        s += _I(below[k]) + _I(below[k + 3]) + _I(below[k + 6]) + _I(5) * _I(row[k + 3])
        smooth = _F((_I(2) * s + _I(13)) // _I(26))
        out[k] = np.uint8(min(max(factor * _F(row[k + 3]) + rest * smooth + _F(0.5), _F(0)), _F(255)))


@kernel(**LEAN)
def sharpen(image, window, factor, rest, out):
    """Blend a window of an image (H, W, 3) uint8 with its smoothed form: factor and rest float32, ``rest = 1 - factor``."""
    height, width, flat, done = image.shape[0], image.shape[1], image.reshape(-1), out.reshape(-1)
    top, bottom, left, right = window
    first, last = max(left, 1), min(right, width - 1)
    for i in range(top, bottom):
        start, n = 3 * (i * width + left), 3 * (right - left)
        copy_bytes(done, start, flat, start, n)
        if 0 < i < height - 1 and first < last:
            start, n = 3 * (i * width + first), 3 * (last - first)
            above, row, below = flat[start - 3 - 3 * width :], flat[start - 3 :], flat[start - 3 + 3 * width :]
            _sharpened(above, row, below, factor, rest, done[start : start + n])

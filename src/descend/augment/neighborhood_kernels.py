"""Kernels of blur and sharpness, in whole numbers, so that they agree with ``neighborhood`` to the bit."""

from __future__ import annotations

import numpy as np

from descend.compiled import LEAN, helper, kernel

_I, _F = np.int32, np.float32
lean = helper(**LEAN)


@lean
def _mirrored(i, n, reach):
    """Fold a place into 0..n-1: mirrored about the last pixels, or held there where the reach is longer than the line."""
    if n <= reach:
        return min(max(i, 0), n - 1)
    return abs(i) if i < n else 2 * n - 2 - i


@lean
def _weigh(below, above, weight, sums):
    """Add a weight times two lines."""
    for k in range(sums.size):
        sums[k] += weight * (_I(below[k]) + _I(above[k]))


@lean
def _weigh_two(a, b, p, c, d, q, sums):
    """Add a weight times two lines and another times two more: sums are read and written once for both."""
    for k in range(sums.size):
        sums[k] += p * (_I(a[k]) + _I(b[k])) + q * (_I(c[k]) + _I(d[k]))


@kernel(**LEAN)
def blur(image, weights, line, sums, out):
    """Convolve an image (H, W, 3) uint8 down and across, into ``out``, with symmetric weights (reach + 1,) int32, middle first.

    line: (3 (W + 2 reach),) int32 and sums: (3 W,) int32 are overwritten; see ``neighborhood._blurred`` for the fractions.
    """
    height, width, reach, n = image.shape[0], image.shape[1], weights.size - 1, sums.size
    flat, done = image.reshape(-1), out.reshape(-1)
    middle = line[3 * reach : 3 * reach + n]
    for i in range(height):
        row = flat[i * n : (i + 1) * n]
        for k in range(n):
            sums[k] = weights[0] * _I(row[k])
        for t in range(reach, 0, -2):
            a, b = _mirrored(i - t, height, reach) * n, _mirrored(i + t, height, reach) * n
            if t == 1:
                _weigh(flat[a:], flat[b:], weights[t], sums)
            else:
                c, d = _mirrored(i - t + 1, height, reach) * n, _mirrored(i + t - 1, height, reach) * n
                _weigh_two(flat[a:], flat[b:], weights[t], flat[c:], flat[d:], weights[t - 1], sums)
        for k in range(n):
            middle[k] = (sums[k] + _I(1 << 8)) >> _I(9)
        for t in range(1, reach + 1):
            a, b = 3 * _mirrored(-t, width, reach), 3 * _mirrored(width - 1 + t, width, reach)
            for c in range(3):
                line[3 * (reach - t) + c], line[3 * (reach + width - 1 + t) + c] = middle[a + c], middle[b + c]
        for k in range(n):
            sums[k] = weights[0] * middle[k]
        for t in range(reach, 0, -2):
            a, b = line[3 * (reach - t) :], line[3 * (reach + t) :]
            if t == 1:
                _weigh(a, b, weights[t], sums)
            else:
                _weigh_two(a, b, weights[t], line[3 * (reach - t + 1) :], line[3 * (reach + t - 1) :], weights[t - 1], sums)
        finished = done[i * n : (i + 1) * n]
        for k in range(n):
            finished[k] = np.uint8((sums[k] + _I(1 << 22)) >> _I(23))


@lean
def _sharpened(above, row, below, factor, rest, out):
    """Blend the inner pixels of a row with their smoothed form, 13ths of the sum of nine and four times the middle."""
    for k in range(out.size):
        s = _I(above[k]) + _I(above[k + 3]) + _I(above[k + 6]) + _I(row[k]) + _I(row[k + 6])
        s += _I(below[k]) + _I(below[k + 3]) + _I(below[k + 6]) + _I(5) * _I(row[k + 3])
        smooth = _F((_I(2) * s + _I(13)) // _I(26))
        out[k] = np.uint8(min(max(factor * _F(row[k + 3]) + rest * smooth + _F(0.5), _F(0)), _F(255)))


@kernel(**LEAN)
def sharpen(image, factor, rest, out):
    """Blend an image (H, W, 3) uint8 with its smoothed form: factor and rest float32, ``rest = 1 - factor``; into ``out``."""
    n, flat, done = 3 * image.shape[1], image.reshape(-1), out.reshape(-1)
    for k in range(flat.size):
        done[k] = flat[k]
    for i in range(1, image.shape[0] - 1):
        above, row, below = flat[(i - 1) * n :], flat[i * n :], flat[(i + 1) * n :]
        _sharpened(above, row, below, factor, rest, done[i * n + 3 : (i + 1) * n - 3])

"""Kernels of straight geometry, where each output coordinate follows one stored coordinate: crops, flips, quarter turns, sizes.

Loops over whole rows become vector instructions by themselves, if they index plain slices: ``row[start + k]`` might be negative
to Numba.
"""

from __future__ import annotations

import math

import numpy as np

from descend.augment.color_kernels import ends, lean
from descend.augment.row_kernels import CONSTANT, clamp, emit, keys, placed, start_of
from descend.augment.simd import four, put, times, times_plus

_F = np.float32


@lean
def turn_over(image, flat):
    """Write an image (H, W, 3) with rows and columns exchanged to ``flat``."""
    height, width = image.shape[0], image.shape[1]
    for j in range(width):
        for i in range(height):
            for c in range(3):
                flat[3 * (j * height + i) + c] = image[i, j, c]


@lean
def along(image, m, work):
    """Return height and width of the image that straight geometry follows, and scales and starts across and down.

    Where the geometry exchanges rows and columns, that image is ``work.turned``.
    """
    height, width = image.shape[0], image.shape[1]
    if m[0, 0] == 0:
        turn_over(image, work.turned)
        return width, height, m[1, 0], m[0, 1], m[1, 2], m[0, 2]
    return height, width, m[0, 0], m[1, 1], m[0, 2], m[1, 2]


@lean
def copy(image, m, reading, rows, to, work, out, whole_out):
    """Look up each output pixel in the stored image: whole-pixel shifts, mirror images, quarter turns."""
    height, width, x, y, x0, y0 = along(image, m, work)
    flat = work.turned if m[0, 0] == 0 else image.reshape(-1)
    at, n, in_order, beyond = work.at, 3 * work.at.size, True, False
    for j in range(at.size):
        at[j] = 3 * placed(math.floor(x * (j + 0.5) + x0), width, reading.border)
        in_order = in_order and at[j] == at[0] + 3 * j
        beyond = beyond or at[j] < 0
    for i in range(work.levels.size // work.sums.size):
        row = work.levels[start_of(i, rows.later, work.sums) :][: work.sums.size + 1]
        line = placed(math.floor(y * (i + 0.5) + y0), height, reading.border)
        stored = flat[3 * width * max(line, 0) :][: 3 * width]
        if rows.copied and rows.table.size:
            for j in range(at.size):
                for c in range(3):
                    row[3 * j + c] = rows.table[c, stored[at[j] + c]]
        elif in_order and not beyond:
            widen(stored[at[0] :][:n], row)
        else:
            widen(stored, work.stored)
            for j in range(at.size):
                put(row, 3 * j, four(work.stored, np.int64(max(at[j], 0))))
        if line < 0 or beyond:
            for j in range(at.size):
                for c in range(3):
                    if line < 0 or at[j] < 0:
                        row[3 * j + c] = reading.outside[c]
        emit(row, i, rows, to, work.sums, out, whole_out)


@lean
def widen(stored, line):
    """Write bytes to a line as floats."""
    for k in range(stored.size):
        line[k] = _F(stored[k])


@lean
def taps_of(scale, start, n_samples, n_out, n_in, reading, index, weight, inside):
    """Find which pixels of a line of n_in, and how much of each, make each pixel of a line of n_out; returns how many, t.

    index, weight: (t n_out,) tap by tap. inside: (n_out,) the share of the pixels that lie inside: beyond a constant border they
    weigh nothing. Output pixel j averages n_samples samples around ``scale * (j + 1/2) + start``.
    """
    cubic = reading.cubic
    n_taps = (4 if cubic else 2) if n_samples == 1 else int(abs(scale)) + (5 if cubic else 3)
    lowest = 0.5 if scale > 0 else n_samples - 0.5
    for k in range(n_taps * n_out):
        weight[k] = 0
    for j in range(n_out):
        first = math.floor(scale * (j + lowest / n_samples) + start - 0.5) - (1 if cubic else 0)
        for k in range(n_samples):
            x = scale * (j + (k + 0.5) / n_samples) + start - 0.5
            i = math.floor(x)
            if cubic:
                for t in range(4):
                    weight[(i - 1 + t - first) * n_out + j] += keys(abs(x - (i - 1 + t))) / n_samples
            else:
                weight[(i - first) * n_out + j] += (1 - (x - i)) / n_samples
                weight[(i - first + 1) * n_out + j] += (x - i) / n_samples
        inside[j] = 1
        for t in range(n_taps):
            at = t * n_out + j
            index[at] = placed(first + t, n_in, reading.border)
            if index[at] < 0:
                inside[j] -= weight[at]
                index[at] = weight[at] = 0
    return n_taps


@lean
def blend(flat, a, b, p, q, line):
    """Write to a line p and q times the stored bytes from a and from b on."""
    above, below = flat[a : a + line.size], flat[b : b + line.size]
    for k in range(line.size):
        line[k] = p * _F(above[k]) + q * _F(below[k])


@lean
def blend_more(flat, a, p, line):
    """Add to a line p times the stored bytes from a on."""
    above = flat[a : a + line.size]
    for k in range(line.size):
        line[k] += p * _F(above[k])


@lean
def pick(line, at, weight, n_taps, row):
    """Write to each of w pixels of a row the weighted sum of n_taps pixels of a line, two or more; at, weight: tap by tap."""
    w = row.size // 3
    a, b, p, q = at[:w], at[w : 2 * w], weight[:w], weight[w : 2 * w]
    for j in range(w):
        put(row, 3 * j, times_plus(four(line, b[j]), q[j], times(four(line, a[j]), p[j])))
    for t in range(2, n_taps):
        a, p = at[t * w : (t + 1) * w], weight[t * w : (t + 1) * w]
        for j in range(w):
            for c in range(3):  # one by one: a fourth number would spoil the pixel to come
                row[3 * j + c] += p[j] * line[a[j] + c]


@lean
def straight(image, m, taps, reading, rows, to, work, out, whole_out):
    """Resample where each output coordinate follows one stored coordinate: first down, then across."""
    w, h = work.at.size, work.levels.size // work.sums.size
    height, width, x, y, x0, y0 = along(image, m, work)
    flat = work.turned if m[0, 0] == 0 else image.reshape(-1)
    at, weight, part, down, share, whole = (
        work.index[0], work.weight[0], work.inside[0], work.index[1], work.weight[1], work.inside[1]
    )  # fmt: skip
    n_across, n_down = (
        taps_of(x, x0, taps[1], w, width, reading, at, weight, part),
        taps_of(y, y0, taps[0], h, height, reading, down, share, whole),
    )
    low, high = ends(at[: n_across * w])
    line = work.stored[: 3 * (high + 1 - low)]
    for k in range(n_across * w):
        at[k] = 3 * (at[k] - low)
    for i in range(h):
        row = work.levels[start_of(i, rows.later, work.sums) :][: work.sums.size + 1]
        blend(flat, 3 * (down[i] * width + low), 3 * (down[h + i] * width + low), share[i], share[h + i], line)
        for t in range(2, n_down):
            blend_more(flat, 3 * (down[t * h + i] * width + low), share[t * h + i], line)
        pick(work.stored, at, weight, n_across, row)
        if reading.border == CONSTANT:
            for j in range(w):
                for c in range(3):
                    row[3 * j + c] += (_F(1) - whole[i] * part[j]) * reading.outside[c]
        if reading.cubic:
            clamp(row[: 3 * w])
        emit(row, i, rows, to, work.sums, out, whole_out)

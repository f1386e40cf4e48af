"""Kernels of every other geometry: affine maps, homographies and bends blend four neighbors per pixel.

The places of a row's pixels are computed first, then the bytes that they begin at, and then the pixels are blended four numbers
at a time: each loop is one that becomes vector instructions.
"""

from __future__ import annotations

import math

import numpy as np

from descend.augment.color_kernels import lean
from descend.augment.row_kernels import AFFINE, REFLECT, REPLICATE, clamp, emit, keys, placed, start_of
from descend.augment.simd import bilinear, put

_F, _I = np.float32, np.int32
_ALMOST_ONE = 1 - 1e-12  # so that the last pixel of a line is the neighbor of one before it


@lean
def folded(x, n):
    """Return the pixel before a position, and the share of the one after it, mirrored into the image."""
    if n == 1:
        return 0, _F(0)
    x, period = abs(x), 2.0 * n - 2.0
    if x >= period:
        x %= period
    if x > n - 1:
        x = period - x
    i = max(0, min(int(x), n - 2))  # x may be no number
    return i, _F(x - i)


@lean
def read(image, flat, x, y, reading, row, at):
    """Write to ``row[at : at + 3]`` the levels at pixel-center coordinates (x, y); flat: the bytes of the image."""
    if reading.cubic or reading.border != REFLECT:
        gather(image, x, y, reading, row, at)
        return
    i, fy = folded(y, image.shape[0])
    j, fx = folded(x, image.shape[1])
    start, pitch = 3 * (i * image.shape[1] + j), 3 * image.shape[1]
    if start + pitch + 8 <= flat.size:
        put(row, at, bilinear(flat, start, start + pitch, fx, fy))
        return
    k, l = min(i + 1, image.shape[0] - 1), min(j + 1, image.shape[1] - 1)
    w11 = fx * fy
    w01, w10 = fx - w11, fy - w11
    w00 = _F(1) - fx - w10
    for c in range(3):
        a, b, d, e = image[i, j, c], image[i, l, c], image[k, j, c], image[k, l, c]
        row[at + c] = w00 * _F(a) + w01 * _F(b) + w10 * _F(d) + w11 * _F(e)


@lean
def gather(image, x, y, reading, row, at):
    """Write to ``row[at : at + 3]`` the sum over all neighbors of a position, for every interpolation and border."""
    i, j = math.floor(y), math.floor(x)
    start, stop = (-1, 3) if reading.cubic else (0, 2)
    for c in range(3):
        row[at + c] = 0
    for k in range(start, stop):
        line = placed(i + k, image.shape[0], reading.border)
        share = keys(abs(y - (i + k))) if reading.cubic else 1 - abs(y - (i + k))
        for l in range(start, stop):
            place = placed(j + l, image.shape[1], reading.border)
            part = _F(share * (keys(abs(x - (j + l))) if reading.cubic else 1 - abs(x - (j + l))))
            for c in range(3):
                row[at + c] += part * (reading.outside[c] if line < 0 or place < 0 else _F(image[line, place, c]))


@lean
def place(m, affine, bend, bend_across, i, left, top, x, y):
    """Find where the pixels of row i lie in the stored image: (w,) x and y; left, top: of the sample within its pixel, 0 to 1.

    m: the nine numbers of the matrix.
    """
    if affine:
        step_x, step_y = m[0], m[3]
        x0, y0 = m[0] * left + m[1] * (i + top) + m[2] - 0.5, m[3] * left + m[4] * (i + top) + m[5] - 0.5
        for j in range(x.size):
            x[j] = step_x * j + x0
        for j in range(x.size):
            y[j] = step_y * j + y0
    else:
        for j in range(x.size):
            x[j], y[j] = j + left, i + top
        for k in range(len(bend_across)):
            add_share(x, bend_across[k], bend[0, i, k])
            add_share(y, bend_across[k], bend[1, i, k])
        homography(m, x, y)


@lean
def homography(m, x, y):
    """Take edge coordinates of the output to pixel-center coordinates of the stored image, in place."""
    for j in range(x.size):
        p, q = x[j], y[j]
        share = 1 / (m[6] * p + m[7] * q + m[8])
        x[j] = (m[0] * p + m[1] * q + m[2]) * share - 0.5
        y[j] = (m[3] * p + m[4] * q + m[5]) * share - 0.5


@lean
def add_share(row, line, share):
    """Add to a row its share of a line."""
    for k in range(row.size):
        row[k] += share * line[k]


@lean
def locate(height, width, x, y, at):
    """Find the first bytes (w,) of the pixels before places x and y, -1 where a neighbor is outside; returns how many are.

    A pixel is read as eight bytes, so the last pixels of the last row count as outside.
    """
    n_outside = 0
    pitch, limit = _I(3 * width), _I(3 * width * (height - 1) - 8)
    right, bottom = width - 1.0, height - 1.0
    for j in range(at.size):
        start = _I(_I(y[j]) * pitch + _I(x[j]) * _I(3))
        inside = (x[j] >= 0) & (x[j] < right) & (y[j] >= 0) & (y[j] < bottom) & (start <= limit)
        at[j] = start if inside else _I(-1)
        n_outside += 0 if inside else 1
    return n_outside


@lean
def fold(x, n, border):
    """Bring places along a line of n pixels back into it, in place; a call for each pixel beyond costs ten times that."""
    end, period = (n - 1) * _ALMOST_ONE, 2.0 * n - 2.0
    if border == REPLICATE:
        for j in range(x.size):
            x[j] = min(max(x[j], 0.0), end)
    elif border == REFLECT and n > 1:
        for j in range(x.size):
            folded = abs(x[j])
            folded -= period * np.floor(folded / period)
            x[j] = min(min(folded, period - folded), end)


@lean
def shares_of(x, share):
    """Write how far places are beyond the pixels before them."""
    for j in range(x.size):
        share[j] = _F(x[j] - _I(x[j]))


@lean
def stays_inside(m, left, top, i, n, height, width):
    """Whether the n pixels of row i, which lie on a straight line, and all that is read with them are inside the stored image."""
    first_x, first_y = m[0] * left + m[1] * (i + top) + m[2] - 0.5, m[3] * left + m[4] * (i + top) + m[5] - 0.5
    last_x, last_y = m[0] * (n - 1) + first_x, m[3] * (n - 1) + first_y
    across = (min(first_x, last_x) >= 0) & (max(first_x, last_x) < width - 1.0)
    return across & (min(first_y, last_y) >= 0) & (max(first_y, last_y) < height - 2.0)


@lean
def follow(m, left, top, i, pitch, at, across, down):
    """Do what ``place``, ``locate`` and ``shares_of`` do, at once, for a row that ``stays_inside``."""
    step_x, step_y = m[0], m[3]
    x0, y0 = m[0] * left + m[1] * (i + top) + m[2] - 0.5, m[3] * left + m[4] * (i + top) + m[5] - 0.5
    for j in range(at.size):
        x, y = step_x * j + x0, step_y * j + y0
        column, line = _I(x), _I(y)
        at[j] = _I(line * pitch + column * _I(3))
        across[j], down[j] = _F(x - column), _F(y - line)


@lean
def walk(flat, pitch, at, across, down, row):
    """Blend the pixels of a row (3 w + 1,) from their neighbors; those that are not inside get any levels.

    A call for the latter in this loop would take away its registers: it then took three times as long.
    """
    for j in range(at.size):
        start = np.int64(max(at[j], _I(0)))
        put(row, 3 * j, bilinear(flat, start, start + pitch, across[j], down[j]))


@lean
def read_rest(image, flat, reading, x, y, at, row):
    """Read the pixels of a row that have a neighbor outside, or all of them where more than two neighbors count."""
    for j in range(at.size):
        if at[j] < 0 or reading.cubic:
            following = row[3 * j + 3]
            read(image, flat, x[j], y[j], reading, row, 3 * j)
            row[3 * j + 3] = following


@lean
def touched(flat):
    """Read a byte of each cache line in order, which processors foresee, so that slanted reading finds the image in the cache.

    Without, a pixel waited twice as long for its bytes as all else took. Returns the sum, so that the compiler leaves it in.
    """
    total = np.uint8(0)
    for k in range(0, flat.size, 64):
        total += flat[k]
    return total


@lean
def resample(image, factors, b, rows, to, work, out, whole_out):
    """Resample under a homography with optional bends, averaging taps (down, across) samples per pixel."""
    n, taps, reading, flat, matrix = work.sums.size, factors.taps[b], factors.reading, image.reshape(-1), factors.matrix[b]
    height, width = image.shape[0], image.shape[1]
    m = (matrix[0, 0], matrix[0, 1], matrix[0, 2], matrix[1, 0], matrix[1, 1], matrix[1, 2],
         matrix[2, 0], matrix[2, 1], matrix[2, 2])  # fmt: skip
    affine, n_samples, bend, bend_across = factors.way[b] == AFFINE, taps[0] * taps[1], factors.bend_lines[b], factors.bend_across
    work.turned[0] = touched(flat)
    for i in range(work.levels.size // n):
        row = work.levels[start_of(i, rows.later, work.sums) :][: work.sums.size + 1]
        line = work.line if n_samples > 1 else row
        if n_samples > 1:
            for k in range(n):
                row[k] = 0
        for k in range(n_samples):
            left, top, n_outside = (k % taps[1] + 0.5) / taps[1], (k // taps[1] + 0.5) / taps[0], 0
            if affine and not reading.cubic and stays_inside(m, left, top, i, work.at.size, height, width):
                follow(m, left, top, i, _I(3 * width), work.at, work.across, work.down)
            else:
                place(m, affine, bend, bend_across, i, left, top, work.x, work.y)
                n_outside = locate(height, width, work.x, work.y, work.at)
                if n_outside and not reading.cubic:
                    fold(work.x, width, reading.border)
                    fold(work.y, height, reading.border)
                    n_outside = locate(height, width, work.x, work.y, work.at)
                shares_of(work.x, work.across)
                shares_of(work.y, work.down)
            if n_outside < work.at.size and not reading.cubic:
                walk(flat, 3 * width, work.at, work.across, work.down, line)
            if n_outside or reading.cubic:
                read_rest(image, flat, reading, work.x, work.y, work.at, line)
            if n_samples > 1:
                add_share(row[:n], line, _F(1 / n_samples))
        if reading.cubic:
            clamp(row[:n])
        emit(row, i, rows, to, work.sums, out, whole_out)

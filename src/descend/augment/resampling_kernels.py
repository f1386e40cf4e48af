"""Kernels of geometry: rows of float levels read from a stored image by the cheapest way that its map allows.

*Straight* maps (crops, flips, quarter turns, changes of size) blend stored rows and then pixels of the blended row, by tables of
taps made once per image; *affine* maps blend four neighbours per pixel; *sampled* ones pay for perspective, bends and bicubic
reading. A row
goes on to ``finish`` while it is in the first cache, unless tone or colour need the whole image (``later``): then all rows are
kept in ``levels``.

Loops over whole rows become vector instructions by themselves, if they index plain slices: ``row[start + k]`` might be negative
to Numba.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from descend.augment.color_kernels import ends, finish
from descend.augment.simd import between, four, four_bytes, put, times, times_plus
from descend.compiled import helper

COPIED, STRAIGHT, AFFINE, SAMPLED = range(4)
REFLECT, CONSTANT, REPLICATE, WRAP = range(4)  # in the order of ``factors.BORDERS``
_UNIT = 1 << 32  # positions along a row are counted in 2**-32 pixels
_F, _I = np.float32, np.int32


class Reading(NamedTuple):
    """How stored pixels are read, see ``factors.Sampling``."""

    border: Any  # its number in ``factors.BORDERS``
    cubic: Any
    outside: Any  # (3,) float32, the levels of a constant border


@helper
def placed(i, n, border):
    """Fold a whole number into 0..n-1 as the border says; -1 is beyond a constant border."""
    if 0 <= i < n:
        return i
    if border == CONSTANT:
        return -1
    if border == REPLICATE:
        return 0 if i < 0 else n - 1
    if border == WRAP:
        return i % n
    if n == 1:
        return 0
    i = abs(i) % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@helper
def keys(x):
    """Weigh a pixel at a distance of 0 to 2 for cubic convolution, a = -1/2; see ``resampling``."""
    return (1.5 * x - 2.5) * x * x + 1 if x <= 1 else ((-0.5 * x + 2.5) * x - 4) * x + 2


@helper
def folded(x, n):
    """Return the pixel before a position, and the share of the one after it, mirrored into the image."""
    if n == 1:
        return 0, _F(0)
    x, period = abs(x), 2.0 * n - 2.0
    if x >= period:
        x %= period
    if x > n - 1:
        x = period - x
    i = min(int(x), n - 2)
    return i, _F(x - i)


@helper
def turned_over(image):
    """Return an image (H, W, 3) with rows and columns exchanged, contiguous."""
    turned = np.empty((image.shape[1], image.shape[0], 3), np.uint8)
    for j in range(image.shape[1]):
        turned[j] = image[:, j]
    return turned


@helper
def add_share(row, line, share):
    """Add to a row its share of a line."""
    for k in range(row.size):
        row[k] += share * line[k]


@helper
def taps_of(scale, start, n_samples, copied, n_out, n_in, reading):
    """Return which pixels of a line of n_in, and how much of each, make each pixel of a line of n_out.

    Two (t, n_out) tables, and the share (n_out,) of the pixels that lie inside: beyond a constant border they weigh nothing.
    Output pixel j averages n_samples samples around ``scale * (j + 1/2) + start``; ``copied`` takes the pixel nearest.
    """
    cubic = reading.cubic and not copied
    n_taps = (4 if cubic else 2) if n_samples == 1 else int(abs(scale)) + (5 if cubic else 3)
    index, weight, inside = np.empty((n_taps, n_out), np.int64), np.zeros((n_taps, n_out), np.float32), np.ones(n_out, np.float32)
    lowest = 0.5 if scale > 0 else n_samples - 0.5
    for j in range(n_out):
        first = math.floor(scale * (j + lowest / n_samples) + start - (0.0 if copied else 0.5)) - (1 if cubic else 0)
        for k in range(n_samples):
            x = first if copied else scale * (j + (k + 0.5) / n_samples) + start - 0.5
            i = math.floor(x)
            if cubic:
                for t in range(4):
                    weight[i - 1 + t - first, j] += keys(abs(x - (i - 1 + t))) / n_samples
            else:
                weight[i - first, j] += (1 - (x - i)) / n_samples
                weight[i - first + 1, j] += (x - i) / n_samples
        for t in range(n_taps):
            index[t, j] = placed(first + t, n_in, reading.border)
            if index[t, j] < 0:
                inside[j] -= weight[t, j]
                index[t, j] = weight[t, j] = 0
    return index, weight, inside


@helper
def blend(flat, starts, weight, n, line):
    """Write to a line the weighted sum of n stored bytes from each of the starts, two or more."""
    a, b, p, q = flat[starts[0] : starts[0] + n], flat[starts[1] : starts[1] + n], weight[0], weight[1]
    for k in range(n):
        line[k] = p * _F(a[k]) + q * _F(b[k])
    for t in range(2, starts.size):
        a, p = flat[starts[t] : starts[t] + n], weight[t]
        for k in range(n):
            line[k] += p * _F(a[k])


@helper
def pick(line, at, weight, row):
    """Write to each pixel of a row the weighted sum of the pixels of a line that start at ``at`` (t, w), two or more."""
    a, b, p, q = at[0], at[1], weight[0], weight[1]
    for j in range(a.size):
        put(row, 3 * j, times_plus(four(line, b[j]), q[j], times(four(line, a[j]), p[j])))
    for t in range(2, len(at)):
        a, p = at[t], weight[t]
        for j in range(a.size):
            for c in range(3):  # one by one: a fourth number would spoil the pixel to come
                row[3 * j + c] += p[j] * line[a[j] + c]


@helper
def straight(image, m, taps, copied, reading, levels, later, to, out):
    """Resample where each output coordinate follows one stored coordinate: first down, then across."""
    h, w, done = out.shape[0], out.shape[1], out.reshape(-1)
    turned = m[0, 0] == 0
    stored = turned_over(image) if turned else image
    height, width = stored.shape[0], stored.shape[1]
    x, y, x0, y0 = (m[1, 0], m[0, 1], m[1, 2], m[0, 2]) if turned else (m[0, 0], m[1, 1], m[0, 2], m[1, 2])
    across, weight, part = taps_of(x, x0, taps[1], copied, w, width, reading)
    down, share, whole = taps_of(y, y0, taps[0], copied, h, height, reading)
    low, high = ends(across.reshape(-1))
    n, starts, at = 3 * (high + 1 - low), 3 * (down * width + low), 3 * (across - low)
    flat, line = stored.reshape(-1), np.zeros(n + 1, np.float32)
    for i in range(h):
        row = levels[3 * i * w if later else 0 :][: 3 * w + 1]
        blend(flat, starts[:, i], share[:, i], n, line)
        pick(line, at, weight, row)
        if reading.border == CONSTANT:
            for j in range(w):
                for c in range(3):
                    row[3 * j + c] += (_F(1) - whole[i] * part[j]) * reading.outside[c]
        if reading.cubic:
            clamp(row)
        if not later:
            finish(row, to, done[3 * i * w : 3 * (i + 1) * w])


@helper
def clamp(row):
    """Bring what cubic convolution overshot back into 0..255."""
    for k in range(row.size):
        row[k] = min(max(row[k], _F(0)), _F(255))


@helper
def read(image, x, y, reading, row, at):
    """Write to ``row[at : at + 3]`` the levels at pixel-centre coordinates (x, y)."""
    if reading.cubic or reading.border != REFLECT:
        gather(image, x, y, reading, row, at)
        return
    i, fy = folded(y, image.shape[0])
    j, fx = folded(x, image.shape[1])
    k, l = min(i + 1, image.shape[0] - 1), min(j + 1, image.shape[1] - 1)
    w11 = fx * fy
    w01, w10 = fx - w11, fy - w11
    w00 = _F(1) - fx - w10
    for c in range(3):
        a, b, d, e = image[i, j, c], image[i, l, c], image[k, j, c], image[k, l, c]
        row[at + c] = w00 * _F(a) + w01 * _F(b) + w10 * _F(d) + w11 * _F(e)


@helper
def gather(image, x, y, reading, row, at):
    """Write to ``row[at : at + 3]`` the sum over all neighbours of a position, for every interpolation and border."""
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


@helper
def inside(start, step, limit, first, last):
    """Return the range of j in first..last for which ``0 <= start + step * j < limit``."""
    if step == 0:
        return (first, last) if 0 <= start < limit else (first, first)
    if step > 0:
        return max(first, -(start // step)), min(last, -((start - limit) // step))
    return max(first, (start - limit) // -step + 1), min(last, start // -step + 1)


@helper
def walk(flat, pitch, x, y, dx, dy, at, fx, fy, row):
    """Blend the pixels of a row whose neighbours all lie inside the stored bytes, from (x, y) in steps of (dx, dy)."""
    unit, three = _F(1 / (1 << 24)), _I(3)
    for j in range(at.size):
        u, v = x + dx * j, y + dy * j
        fx[j], fy[j] = _F(_I((u >> 8) & 0xFFFFFF)) * unit, _F(_I((v >> 8) & 0xFFFFFF)) * unit
        at[j] = _I(v >> 32) * _I(pitch) + _I(u >> 32) * three
    for j in range(at.size):
        p, q = np.int64(at[j]), np.int64(at[j]) + pitch
        above = between(four_bytes(flat, p), four_bytes(flat, p + 3), fx[j])
        below = between(four_bytes(flat, q), four_bytes(flat, q + 3), fx[j])
        put(row, 3 * j, between(above, below, fy[j]))


@helper
def affine_row(image, flat, x0, y0, m, reading, at, fx, fy, row):
    """Resample a row (3 w + 1,) from (x0, y0) in steps of m[:, 0] stored pixels; only what lies over the border goes slowly.

    The last two columns count as border, because a pixel is read as four bytes.
    """
    height, width, w = image.shape[0], image.shape[1], at.size
    dx, dy = math.floor(m[0, 0] * _UNIT + 0.5), math.floor(m[1, 0] * _UNIT + 0.5)
    x, y = math.floor(x0 * _UNIT), math.floor(y0 * _UNIT)
    first, last = inside(x, dx, max(width - 2, 0) * _UNIT, 0, w)
    first, last = inside(y, dy, (height - 1) * _UNIT, first, max(first, last))
    first, last = (first, last) if last > first else (0, 0)
    for j in range(first):
        read(image, x0 + m[0, 0] * j, y0 + m[1, 0] * j, reading, row, 3 * j)
    x, y, rest = x + dx * first, y + dy * first, row[3 * first :]
    walk(flat, 3 * width, x, y, dx, dy, at[first:last], fx[first:last], fy[first:last], rest)
    for j in range(last, w):
        read(image, x0 + m[0, 0] * j, y0 + m[1, 0] * j, reading, row, 3 * j)


@helper
def affine(image, m, taps, reading, levels, later, to, out):
    """Resample bilinearly under an affine map, averaging taps (down, across) samples per pixel."""
    h, w, done = out.shape[0], out.shape[1], out.reshape(-1)
    at, fx, fy, line = np.empty(w, np.int32), np.empty(w, np.float32), np.empty(w, np.float32), np.empty(3 * w + 1, np.float32)
    flat, n = image.reshape(-1), taps[0] * taps[1]
    for i in range(h):
        row = levels[3 * i * w if later else 0 :][: 3 * w + 1]
        row[:] = 0
        for k in range(n):
            x, y = (k % taps[1] + 0.5) / taps[1], i + (k // taps[1] + 0.5) / taps[0]
            x0, y0 = m[0, 0] * x + m[0, 1] * y + m[0, 2] - 0.5, m[1, 0] * x + m[1, 1] * y + m[1, 2] - 0.5
            affine_row(image, flat, x0, y0, m, reading, at, fx, fy, line if n > 1 else row)
            if n > 1:
                add_share(row[: 3 * w], line, _F(1 / n))
        if not later:
            finish(row, to, done[3 * i * w : 3 * (i + 1) * w])


@helper
def sample(image, m, taps, shift, reading, levels, later, to, out):
    """Resample under a homography with optional shifts (2, h, w), averaging taps (down, across) samples per pixel."""
    h, w, done = out.shape[0], out.shape[1], out.reshape(-1)
    line, n = np.empty(3 * w + 1, np.float32), taps[0] * taps[1]
    for i in range(h):
        row = levels[3 * i * w if later else 0 :][: 3 * w + 1]
        row[:] = 0
        for k in range(n):
            for j in range(w):
                x, y = j + (k % taps[1] + 0.5) / taps[1], i + (k // taps[1] + 0.5) / taps[0]
                if shift.size:
                    x, y = x + shift[0, i, j], y + shift[1, i, j]
                depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
                u, v = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth
                read(image, u - 0.5, v - 0.5, reading, line if n > 1 else row, 3 * j)
            if n > 1:
                add_share(row[: 3 * w], line, _F(1 / n))
        if reading.cubic:
            clamp(row)
        if not later:
            finish(row, to, done[3 * i * w : 3 * (i + 1) * w])

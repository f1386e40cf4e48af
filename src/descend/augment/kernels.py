"""The meaning of a draw once more, compiled: one picture at a time, in cache, from uint8 to the training layout.

``apply`` defines what these loops compute; tests hold them to it within one level of 255. Each loop does one thing over a whole
row, because that is what the compiler turns into vector instructions (measured on 256 -> 224 px, one core): the stored pixels are
packed into one 32-bit word each (0.03 ms), a row computes its positions (0.04), gathers four words a pixel (0.07), blends them
channel by channel into planes of float levels (0.06), and the planes go through the colour matrix, clamp and normalisation into
the interleaved output (0.05). One loop that does it all per pixel takes 0.56 ms for the resampling alone. Constants are int32 on
purpose: a plain ``8`` is int64 to Numba and halves the vector width.

All compiled code stands in this one file, because Numba's disk cache only watches the file of the function that it compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange

compiled: Callable[..., Any] = njit(error_model="numpy", cache=True)
summing: Callable[..., Any] = njit(error_model="numpy", cache=True, fastmath={"reassoc", "nsz"})  # sums in any order

COPIED, AFFINE, SAMPLED = range(3)
_UNIT = 1 << 32  # positions along a row are counted in 2**-32 pixels
_F, _I = np.float32, np.int32
_BYTE, _GREEN, _BLUE = _I(255), _I(8), _I(16)


@compiled
def pack(picture, packed):
    """Put the three levels of each pixel of (H, W, 3) into one word."""
    flat = picture.reshape(-1)
    for k in range(flat.size // 3):
        packed[k] = _I(flat[3 * k]) | (_I(flat[3 * k + 1]) << _GREEN) | (_I(flat[3 * k + 2]) << _BLUE)


@compiled
def mirrored(i, n):
    """Fold a whole number into 0..n-1 by reflection about the first and the last pixel."""
    if n == 1:
        return 0
    i = abs(i) % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@compiled
def folded(x, n):
    """Return the pixel before a position, and the share of the one after it, mirrored into the picture."""
    if n == 1:
        return 0, _F(0)
    period = 2.0 * n - 2.0
    x = abs(x) % period
    if x > n - 1:
        x = period - x
    i = min(int(x), n - 2)
    return i, _F(x - i)


@compiled
def read(packed, height, width, x, y):
    """Return the three levels at pixel-centre coordinates (x, y), bilinear and mirrored."""
    i, fy = folded(y, height)
    j, fx = folded(x, width)
    k, l = min(i + 1, height - 1), min(j + 1, width - 1)
    w11 = fx * fy
    w01, w10 = fx - w11, fy - w11
    w00 = _F(1) - fx - w10
    a, b, c, d = packed[i * width + j], packed[i * width + l], packed[k * width + j], packed[k * width + l]
    return (
        w00 * _F(a & _BYTE) + w01 * _F(b & _BYTE) + w10 * _F(c & _BYTE) + w11 * _F(d & _BYTE),
        w00 * _F((a >> _GREEN) & _BYTE) + w01 * _F((b >> _GREEN) & _BYTE)
        + w10 * _F((c >> _GREEN) & _BYTE) + w11 * _F((d >> _GREEN) & _BYTE),
        w00 * _F(a >> _BLUE) + w01 * _F(b >> _BLUE) + w10 * _F(c >> _BLUE) + w11 * _F(d >> _BLUE),
    )  # fmt: skip


@compiled
def copy(packed, height, width, m, canvas, planes):
    """Copy pixels where the map takes pixel centres to pixel centres; each coordinate then follows a row or a column alone."""
    h, w = canvas
    x0 = round(m[0, 0] / 2 + m[0, 1] / 2 + m[0, 2] - 0.5)
    y0 = round(m[1, 0] / 2 + m[1, 1] / 2 + m[1, 2] - 0.5)
    turned = m[0, 0] == 0
    column = np.empty(w, np.uint32)
    for j in range(w):
        column[j] = mirrored(int(m[1, 0]) * j + y0, height) * width if turned else mirrored(int(m[0, 0]) * j + x0, width)
    for i in range(h):
        row = np.uint32(mirrored(int(m[0, 1]) * i + x0, width) if turned else mirrored(int(m[1, 1]) * i + y0, height) * width)
        r, g, b = planes[0, i * w : i * w + w], planes[1, i * w : i * w + w], planes[2, i * w : i * w + w]
        for j in range(w):
            word = packed[row + column[j]]
            r[j], g[j], b[j] = _F(word & _BYTE), _F((word >> _GREEN) & _BYTE), _F(word >> _BLUE)


@compiled
def inside(start, step, limit, first, last):
    """Return the range of j in first..last for which ``0 <= start + step * j < limit``."""
    if step == 0:
        return (first, last) if 0 <= start < limit else (first, first)
    if step > 0:
        return max(first, -(start // step)), min(last, -((start - limit) // step))
    return max(first, (start - limit) // -step + 1), min(last, start // -step + 1)


@compiled
def walk(packed, width, x, y, dx, dy, n, words, shares, r, g, b):
    """Blend the first n pixels of a row whose neighbours all lie inside the picture, from (x, y) in steps of (dx, dy)."""
    unit, one, pitch = _F(1 / (1 << 24)), _F(1), np.uint32(width)
    at, fx, fy = words[0], shares[0], shares[1]
    for j in range(n):
        u, v = x + dx * j, y + dy * j
        fx[j], fy[j] = _F(_I((u >> 8) & 0xFFFFFF)) * unit, _F(_I((v >> 8) & 0xFFFFFF)) * unit
        at[j] = _I(v >> 32) * _I(width) + _I(u >> 32)
    w0, w1, w2, w3 = words[1], words[2], words[3], words[4]
    for j in range(n):
        p = np.uint32(at[j])
        q = p + pitch
        w0[j], w1[j], w2[j], w3[j] = packed[p], packed[p + np.uint32(1)], packed[q], packed[q + np.uint32(1)]
    for j in range(n):
        w11 = fx[j] * fy[j]
        w01, w10 = fx[j] - w11, fy[j] - w11
        w00 = one - fx[j] - w10
        k, l, m, o = w0[j], w1[j], w2[j], w3[j]
        r[j] = w00 * _F(k & _BYTE) + w01 * _F(l & _BYTE) + w10 * _F(m & _BYTE) + w11 * _F(o & _BYTE)
        g[j] = (w00 * _F((k >> _GREEN) & _BYTE) + w01 * _F((l >> _GREEN) & _BYTE)
                + w10 * _F((m >> _GREEN) & _BYTE) + w11 * _F((o >> _GREEN) & _BYTE))  # fmt: skip
        b[j] = w00 * _F(k >> _BLUE) + w01 * _F(l >> _BLUE) + w10 * _F(m >> _BLUE) + w11 * _F(o >> _BLUE)


@compiled
def affine_row(packed, height, width, x0, y0, step, words, shares, r, g, b):
    """Resample a row from (x0, y0) in ``step`` (x, y) stored pixels; only its ends outside the picture pay for the mirror."""
    dx, dy = round(step[0] * _UNIT), round(step[1] * _UNIT)
    x, y = math.floor(x0 * _UNIT), math.floor(y0 * _UNIT)
    first, last = inside(x, dx, (width - 1) * _UNIT, 0, len(r))
    first, last = inside(y, dy, (height - 1) * _UNIT, first, max(first, last))
    first, last = (first, last) if last > first else (0, 0)
    walk(packed, width, x + dx * first, y + dy * first, dx, dy, last - first, words, shares, r[first:], g[first:], b[first:])
    for j in range(first):
        r[j], g[j], b[j] = read(packed, height, width, x0 + step[0] * j, y0 + step[1] * j)
    for j in range(last, len(r)):
        r[j], g[j], b[j] = read(packed, height, width, x0 + step[0] * j, y0 + step[1] * j)


@compiled
def affine(packed, height, width, m, taps, canvas, planes):
    """Resample under an affine map, averaging taps (down, across) samples a pixel."""
    h, w = canvas
    words, shares, row = np.empty((5, w), np.int32), np.empty((2, w), np.float32), np.empty((3, w), np.float32)
    n = taps[0] * taps[1]
    share = _F(1 / n)
    for i in range(h):
        for k in range(n):
            x, y = (k % taps[1] + 0.5) / taps[1], i + (k // taps[1] + 0.5) / taps[0]
            x0, y0 = m[0, 0] * x + m[0, 1] * y + m[0, 2] - 0.5, m[1, 0] * x + m[1, 1] * y + m[1, 2] - 0.5
            affine_row(packed, height, width, x0, y0, m[:2, 0], words, shares, row[0], row[1], row[2])
            for c in range(3):
                add(row[c], share, planes[c, i * w : i * w + w], k > 0)


@compiled
def add(row, share, plane, onto):
    """Write ``share`` of a row, or add it to what is there."""
    if onto:
        for j in range(row.size):
            plane[j] += share * row[j]
    else:
        for j in range(row.size):
            plane[j] = share * row[j]


@compiled
def sample(packed, height, width, m, taps, shift, canvas, planes):
    """Resample under a homography with optional shifts (2, h, w), averaging taps (down, across) samples a pixel."""
    h, w = canvas
    down, across = taps
    for i in range(h):
        for j in range(w):
            r, g, b = _F(0), _F(0), _F(0)
            for k in range(down * across):
                x, y = j + (k % across + 0.5) / across, i + (k // across + 0.5) / down
                if shift.size:
                    x, y = x + shift[0, i, j], y + shift[1, i, j]
                depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
                u, v = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth
                at = read(packed, height, width, u - 0.5, v - 0.5)
                r, g, b = r + at[0], g + at[1], b + at[2]
            share = _F(1 / (down * across))
            planes[0, i * w + j], planes[1, i * w + j], planes[2, i * w + j] = r * share, g * share, b * share


@compiled
def spread(plane):
    """Stretch the levels of one channel over 0..255, in place."""
    low, high = plane.min(), plane.max()
    if high > low:
        scale = _F(255) / (high - low)
        for k in range(plane.size):
            plane[k] = (plane[k] - low) * scale


@compiled
def equalizing(plane):
    """Return the table (256,) that flattens the histogram of one channel; see ``statistics.equalizing``."""
    table, counts = np.empty(256, np.float32), np.zeros(256)
    for value in plane:
        value = min(max(value, _F(0)), _F(255))
        low = min(int(value), 254)
        counts[low] += 1 - float(value - _F(low))
        counts[low + 1] += float(value - _F(low))
    top = 255
    while counts[top] <= 0.5 and top > 0:
        top -= 1
    step = math.floor((counts.sum() - counts[top] + 1e-6) / 255)
    flat = step == 0 or (counts > 0.5).sum() < 2
    below = math.floor(step / 2)
    for level in range(256):
        table[level] = level if flat else min(math.floor((below + 1e-6) / step), 255)
        below += counts[level]
    return table


@compiled
def look_up(plane, table):
    """Replace the levels of one channel by their values in a table (256,), linear between entries, in place."""
    for k in range(plane.size):
        value = min(max(plane[k], _F(0)), _F(255))
        low = min(int(value), 254)
        plane[k] = table[low] + (value - _F(low)) * (table[low + 1] - table[low])


@summing
def mean_of(plane):
    """Return the mean level of one channel, summed in float64."""
    total = 0.0
    for k in range(plane.size):
        total += plane[k]
    return total / plane.size


@compiled
def offset_of(planes, color):
    """Return the offset (3,) of a colour change (3, 7), with the mean colour of the picture where it is asked for."""
    offset = color[:, 6].copy()
    if (color[:, 3:6] != 0).any():
        for c in range(3):
            offset += color[:, 3 + c] * mean_of(planes[c])
    return offset.astype(np.float32)


@compiled
def tint(planes, a, offset, low, high, gain, bias, out):
    """Write ``clamp(a x + offset) * gain + bias`` of the planes (3, n) to an interleaved picture (3 n,)."""
    r, g, b = planes[0], planes[1], planes[2]
    a00, a01, a02, o0, g0, b0 = a[0, 0], a[0, 1], a[0, 2], offset[0], gain[0], bias[0]
    a10, a11, a12, o1, g1, b1 = a[1, 0], a[1, 1], a[1, 2], offset[1], gain[1], bias[1]
    a20, a21, a22, o2, g2, b2 = a[2, 0], a[2, 1], a[2, 2], offset[2], gain[2], bias[2]
    for k in range(r.size):
        x, y, z = r[k], g[k], b[k]
        out[3 * k] = min(max(a00 * x + a01 * y + a02 * z + o0, low), high) * g0 + b0
        out[3 * k + 1] = min(max(a10 * x + a11 * y + a12 * z + o1, low), high) * g1 + b1
        out[3 * k + 2] = min(max(a20 * x + a21 * y + a22 * z + o2, low), high) * g2 + b2


@compiled
def philox(c0, c1, c2, c3, k0, k1):
    """Encrypt one counter of four 32-bit words, held in uint64; see ``rng.philox4x32``."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        left, right = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (right >> half) ^ c1 ^ k0, right & low, (left >> half) ^ c3 ^ k1, left & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@compiled
def add_noise(values, sigma, identity, k0, k1):
    """Add Gaussian noise to flat levels, in place; see ``apply.noisy`` for which number goes where."""
    low, high = identity & np.uint64(0xFFFFFFFF), identity >> np.uint64(32)
    for block in range((values.size + 3) // 4):
        a, b, c, d = philox(np.uint64(block), np.uint64(0), low, high, k0, k1)
        for pair in range(2):
            first, second = (a, b) if pair == 0 else (c, d)
            radius = sigma * math.sqrt(-2 * math.log((float(first) + 0.5) * 2.0**-32))
            angle = 2 * math.pi * (float(second) + 0.5) * 2.0**-32
            at = 4 * block + 2 * pair
            if at < values.size:
                values[at] += _F(radius * math.cos(angle))
            if at + 1 < values.size:
                values[at + 1] += _F(radius * math.sin(angle))


@compiled
def clamp(values, gain, bias):
    """Clamp interleaved levels (n, 3) and normalise them, in place."""
    for k in range(len(values)):
        for c in range(3):
            values[k, c] = min(max(values[k, c], _F(0)), _F(255)) * gain[c] + bias[c]


@compiled
def paint(out, boxes, fills, gain, bias):
    """Fill boxes (n, 4) of a finished picture (h, w, 3) with levels (n, 3)."""
    for k in range(len(boxes)):
        for c in range(3):
            out[boxes[k, 0] : boxes[k, 1], boxes[k, 2] : boxes[k, 3], c] = fills[k, c] * gain[c] + bias[c]


@compiled
def adapt_tone(planes, stretch, flatten, table):
    """Run the tone of a picture, channel by channel, in place."""
    for c in range(3):
        if stretch:
            spread(planes[c])
        if flatten:
            look_up(planes[c], equalizing(planes[c]))
        if table.size:
            look_up(planes[c], table[c])


@compiled
def make(image, m, way, taps, shift, adapt, table, color, sigma, words, boxes, fills, gain, bias, packed, planes, out):
    """Make one picture: image (H, W, 3) uint8 -> out (h, w, 3) float32; packed and planes are its scratch paper."""
    height, width, canvas = image.shape[0], image.shape[1], (out.shape[0], out.shape[1])
    pack(image, packed)
    if way == COPIED:
        copy(packed, height, width, m, canvas, planes)
    elif way == AFFINE:
        affine(packed, height, width, m, taps, canvas, planes)
    else:
        sample(packed, height, width, m, taps, shift, canvas, planes)
    adapt_tone(planes, adapt[0], adapt[1], table)
    a, offset = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    if color.size:
        a[:], offset[:] = color[:, :3], offset_of(planes, color)
    if sigma > 0:
        free, one = _F(np.inf), np.ones(3, np.float32)
        tint(planes, a, offset, -free, free, one, one - one, out.reshape(-1))
        add_noise(out.reshape(-1), sigma, words[0], words[1], words[2])
        clamp(out.reshape(-1, 3), gain, bias)
    else:
        tint(planes, a, offset, _F(0), _F(255), gain, bias, out.reshape(-1))
    paint(out, boxes, fills, gain, bias)


@compiled
def run_part(part, n_parts, images, matrix, way, taps, shifts, adapt, table, color, sigma, words, boxes, fills, gain, bias, out):
    """Make every n_parts-th picture, from number ``part`` on: images (B, H, W, 3) uint8 -> out (B, h, w, 3) float32.

    The result is ``levels * gain + bias``. matrix: (B, 3, 3) float64. way: (B,). taps: (B, 2). shifts: (B, 2, h, w) float32.
    adapt: (B, 2) bool, stretch and equalise. table: (B, 3, 256) float32. color: (B, 3, 7) float64. sigma: (B,) levels. words:
    (B, 3) uint64, sample id and key of the noise. boxes: (B, n, 4), fills: (B, n, 3) levels. gain, bias: (3,) float32. A factor
    that is absent has rows without entries.
    """
    packed = np.empty(images.shape[1] * images.shape[2], np.int32)
    planes = np.empty((3, out.shape[1] * out.shape[2]), np.float32)
    for b in range(part, len(out), n_parts):
        make(images[b], matrix[b], way[b], taps[b], shifts[b], adapt[b], table[b], color[b], sigma[b], words[b], boxes[b],
             fills[b], gain, bias, packed, planes, out[b])  # fmt: skip


def _run_threads(n_parts, images, matrix, way, taps, shifts, adapt, table, color, sigma, words, boxes, fills, gain, bias, out):
    for part in prange(n_parts):
        run_part(np.int64(part), n_parts, images, matrix, way, taps, shifts, adapt, table, color, sigma, words, boxes, fills,
                 gain, bias, out)  # fmt: skip


run_threads: Callable[..., None] = njit(error_model="numpy", cache=True, parallel=True)(_run_threads)

"""The meaning of a draw once more, compiled: one picture at a time, in cache, from uint8 to the training layout.

``apply`` defines what these loops compute; tests hold them to it within one level of 255. A picture is made row by row, its
channels interleaved as they are stored. Geometry writes a row of float levels; where nothing needs the whole picture first (a
mean, a histogram), the row goes through tone, colour, clamp and normalisation to the output while it is still in the first
cache. *Straight* maps (crops, flips, quarter turns, changes of size) blend stored rows and then pixels of the blended row, by
tables of taps made once a picture; *affine* maps blend four neighbours a pixel; *sampled* ones pay for perspective and bends.
Pixels are computed four numbers at a time, see ``simd``; loops over whole rows become vector instructions by themselves, if they
index plain slices: ``row[start + k]`` might be negative to Numba.

The code loops where NumPy has a word, because Numba's versions of ``sum``, ``any``, ``transpose`` and their kin are general:
they took two thirds of the 25 s of compilation.
"""

from __future__ import annotations

import math

import numpy as np

from descend.augment.noise_kernels import add_noise
from descend.augment.simd import between, four, four_bytes, held, put, through, times, times_plus
from descend.compiled import helper, kernel

COPIED, STRAIGHT, AFFINE, SAMPLED = range(4)
_UNIT = 1 << 32  # positions along a row are counted in 2**-32 pixels
_F, _I = np.float32, np.int32


@helper
def mirrored(i, n):
    """Fold a whole number into 0..n-1 by reflection about the first and the last pixel."""
    if 0 <= i < n:
        return i
    if n == 1:
        return 0
    i = abs(i) % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@helper
def folded(x, n):
    """Return the pixel before a position, and the share of the one after it, mirrored into the picture."""
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
def ends(values):
    """Return the lowest and the highest of some numbers, one or more."""
    low = high = values[0]
    for value in values:
        low, high = min(low, value), max(high, value)
    return low, high


@helper
def turned_over(image):
    """Return a picture (H, W, 3) with rows and columns exchanged, contiguous."""
    made = np.empty((image.shape[1], image.shape[0], 3), np.uint8)
    for j in range(image.shape[1]):
        made[j] = image[:, j]
    return made


@helper
def add_share(row, line, share):
    """Add to a row its share of a line."""
    for k in range(row.size):
        row[k] += share * line[k]


@helper
def look_up(plane, table):
    """Replace the levels of one channel by their values in a table (256,), linear between entries, in place."""
    for k in range(plane.size):
        value = min(max(plane[k], _F(0)), _F(255))
        low = min(int(value), 254)
        plane[k] = table[low] + (value - _F(low)) * (table[low + 1] - table[low])


@helper
def finish(row, ending, out):
    """Take a row of levels (3 w + 1,) through tone and colour to the output (3 w,): ``clamp(A x + offset) * gain + bias``."""
    table, color, offset, tinted, low, high, gain, bias, scratch = ending
    if table.size:
        for c in range(3):
            look_up(row[c : out.size : 3], table[c])
    if tinted:
        r, g, b, o = four(color, 0), four(color, 4), four(color, 8), four(offset, 0)
        for j in range(out.size // 3):
            put(scratch, 3 * j, held(through(four(row, 3 * j), r, g, b, o), low, high))
        row = scratch
    for k in range(out.size):
        out[k] = row[k] * gain[k] + bias[k]


@helper
def taps_of(scale, start, n_samples, copied, n_out, n_in):
    """Return which pixels of a line of n_in, and how much of each, make each pixel of a line of n_out: two (t, n_out) tables.

    Output pixel j averages n_samples bilinear samples around ``scale * (j + 1/2) + start``; ``copied`` takes the pixel nearest.
    """
    n_taps = 2 if n_samples == 1 else int(abs(scale)) + 3
    index, weight = np.empty((n_taps, n_out), np.int64), np.zeros((n_taps, n_out), np.float32)
    lowest = 0.5 if scale > 0 else n_samples - 0.5
    for j in range(n_out):
        first = math.floor(scale * (j + lowest / n_samples) + start - (0.0 if copied else 0.5))
        for k in range(n_samples):
            x = first if copied else scale * (j + (k + 0.5) / n_samples) + start - 0.5
            i = math.floor(x)
            weight[i - first, j] += (1 - (x - i)) / n_samples
            weight[i - first + 1, j] += (x - i) / n_samples
        for t in range(n_taps):
            index[t, j] = mirrored(first + t, n_in)
    return index, weight


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
def straight(image, m, taps, copied, levels, later, ending, out):
    """Resample where each output coordinate follows one stored coordinate: first down, then across."""
    h, w, done = out.shape[0], out.shape[1], out.reshape(-1)
    turned = m[0, 0] == 0
    stored = turned_over(image) if turned else image
    height, width = stored.shape[0], stored.shape[1]
    x, y, x0, y0 = (m[1, 0], m[0, 1], m[1, 2], m[0, 2]) if turned else (m[0, 0], m[1, 1], m[0, 2], m[1, 2])
    across, weight = taps_of(x, x0, taps[1], copied, w, width)
    down, share = taps_of(y, y0, taps[0], copied, h, height)
    low, high = ends(across.reshape(-1))
    n, starts, at = 3 * (high + 1 - low), 3 * (down * width + low), 3 * (across - low)
    flat, line = stored.reshape(-1), np.zeros(n + 1, np.float32)
    for i in range(h):
        row = levels[3 * i * w if later else 0 :][: 3 * w + 1]
        blend(flat, starts[:, i], share[:, i], n, line)
        pick(line, at, weight, row)
        if not later:
            finish(row, ending, done[3 * i * w : 3 * (i + 1) * w])


@helper
def read(image, x, y, row, at):
    """Write to ``row[at : at + 3]`` the levels at pixel-centre coordinates (x, y), bilinear and mirrored."""
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
def affine_row(image, flat, x0, y0, m, at, fx, fy, row):
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
        read(image, x0 + m[0, 0] * j, y0 + m[1, 0] * j, row, 3 * j)
    x, y, room = x + dx * first, y + dy * first, row[3 * first :]
    walk(flat, 3 * width, x, y, dx, dy, at[first:last], fx[first:last], fy[first:last], room)
    for j in range(last, w):
        read(image, x0 + m[0, 0] * j, y0 + m[1, 0] * j, row, 3 * j)


@helper
def affine(image, m, taps, levels, later, ending, out):
    """Resample under an affine map, averaging taps (down, across) samples a pixel."""
    h, w, done = out.shape[0], out.shape[1], out.reshape(-1)
    at, fx, fy, line = np.empty(w, np.int32), np.empty(w, np.float32), np.empty(w, np.float32), np.empty(3 * w + 1, np.float32)
    flat, n = image.reshape(-1), taps[0] * taps[1]
    for i in range(h):
        row = levels[3 * i * w if later else 0 :][: 3 * w + 1]
        row[:] = 0
        for k in range(n):
            x, y = (k % taps[1] + 0.5) / taps[1], i + (k // taps[1] + 0.5) / taps[0]
            x0, y0 = m[0, 0] * x + m[0, 1] * y + m[0, 2] - 0.5, m[1, 0] * x + m[1, 1] * y + m[1, 2] - 0.5
            affine_row(image, flat, x0, y0, m, at, fx, fy, line if n > 1 else row)
            if n > 1:
                add_share(row[: 3 * w], line, _F(1 / n))
        if not later:
            finish(row, ending, done[3 * i * w : 3 * (i + 1) * w])


@helper
def sample(image, m, taps, shift, levels, later, ending, out):
    """Resample under a homography with optional shifts (2, h, w), averaging taps (down, across) samples a pixel."""
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
                read(image, u - 0.5, v - 0.5, line if n > 1 else row, 3 * j)
            if n > 1:
                add_share(row[: 3 * w], line, _F(1 / n))
        if not later:
            finish(row, ending, done[3 * i * w : 3 * (i + 1) * w])


@helper
def spread(plane):
    """Stretch the levels of one channel over 0..255, in place."""
    low, high = ends(plane)
    if high > low:
        scale = _F(255) / (high - low)
        for k in range(plane.size):
            plane[k] = (plane[k] - low) * scale


@helper
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
    total, n_used = 0.0, 0
    for count in counts:
        total, n_used = total + count, n_used + (count > 0.5)
    step = math.floor((total - counts[top] + 1e-6) / 255)
    flat = step == 0 or n_used < 2
    below = math.floor(step / 2)
    for level in range(256):
        table[level] = level if flat else min(math.floor((below + 1e-6) / step), 255)
        below += counts[level]
    return table


@helper
def means_of(levels, w):
    """Return the mean level of each channel of interleaved rows of w pixels: (3,) float64; columns are summed first."""
    columns = np.zeros(3 * w)
    for start in range(0, levels.size, 3 * w):
        row = levels[start : start + 3 * w]
        for k in range(row.size):
            columns[k] += row[k]
    means = np.zeros(3)
    for k in range(columns.size):
        means[k % 3] += columns[k] / (levels.size // 3)
    return means


@helper
def paint(out, boxes, fills, gain, bias):
    """Fill boxes (n, 4) of a finished picture (h, w, 3) with levels (n, 3)."""
    for k in range(len(boxes)):
        for c in range(3):
            out[boxes[k, 0] : boxes[k, 1], boxes[k, 2] : boxes[k, 3], c] = fills[k, c] * gain[c] + bias[c]


@helper
def complete(levels, adapt, table, color, offset, sigma, words, ending, gain, bias, out):
    """Finish a picture (3 h w + 1,) whose tone or colour depends on all of it, or that takes noise before its clamp."""
    width, whole, done = 3 * out.shape[1], levels[:-1], out.reshape(-1)
    for c in range(3):
        plane = whole[c::3]
        if adapt[0]:
            spread(plane)
        if adapt[1]:
            look_up(plane, equalizing(plane))
        if table.size:
            look_up(plane, table[c])
    if color.size:
        means = means_of(whole, out.shape[1])
        for c in range(3):
            offset[c] += color[c, 3] * means[0] + color[c, 4] * means[1] + color[c, 5] * means[2]
    for start in range(0, done.size, width):
        finish(levels[start : start + width + 1], ending, done[start : start + width])
    if sigma > 0:
        add_noise(done, sigma, words[0], words[1], words[2])
        for start in range(0, done.size, width):
            row = done[start : start + width]
            for k in range(row.size):
                row[k] = min(max(row[k], _F(0)), _F(255)) * gain[k] + bias[k]


@helper
def make(image, m, way, taps, shift, adapt, table, color, sigma, words, boxes, fills, gain, bias, levels, out):
    """Make one picture: image (H, W, 3) uint8 -> out (h, w, 3) float32; gain, bias: (3 w,); levels: room to work."""
    noisy, columns, offset = sigma > 0, np.zeros(13, np.float32), np.zeros(4, np.float32)
    later = noisy or adapt[0] or adapt[1]
    if color.size:
        for c in range(3):
            columns[c], columns[c + 4], columns[c + 8], offset[c] = color[c, 0], color[c, 1], color[c, 2], color[c, 6]
            later = later or color[c, 3] != 0 or color[c, 4] != 0 or color[c, 5] != 0
    low, high = (_F(-np.inf), _F(np.inf)) if noisy else (_F(0), _F(255))
    scale, shove = (np.ones_like(gain), np.zeros_like(bias)) if noisy else (gain, bias)
    scratch = np.empty(gain.size + 1, np.float32)
    ending = (table[:0] if later else table, columns, offset, color.size > 0, low, high, scale, shove, scratch)
    if way <= STRAIGHT:
        straight(image, m, taps, way == COPIED, levels, later, ending, out)
    elif way == AFFINE:
        affine(image, m, taps, levels, later, ending, out)
    else:
        sample(image, m, taps, shift, levels, later, ending, out)
    if later:
        complete(levels[: out.size + 1], adapt, table, color, offset, sigma, words, ending, gain, bias, out)
    paint(out, boxes, fills, gain, bias)


@kernel
def run_part(part, n_parts, images, matrix, way, taps, shifts, adapt, table, color, sigma, words, boxes, fills, gain, bias, out):
    """Make every n_parts-th picture, from number ``part`` on: images (B, H, W, 3) uint8 -> out (B, h, w, 3) float32.

    The result is ``levels * gain + bias``. matrix: (B, 3, 3) float64. way: (B,). taps: (B, 2). shifts: (B, 2, h, w) float32.
    adapt: (B, 2) bool, stretch and equalise. table: (B, 3, 256) float32. color: (B, 3, 7) float64. sigma: (B,) levels. words:
    (B, 3) uint64, sample id and key of the noise. boxes: (B, n, 4), fills: (B, n, 3) levels. gain, bias: (3 w,) float32. A factor
    that is absent has rows without entries.
    """
    levels = np.empty(out.shape[1] * out.shape[2] * 3 + 1, np.float32)
    for b in range(part, len(out), n_parts):
        make(images[b], matrix[b], way[b], taps[b], shifts[b], adapt[b], table[b], color[b], sigma[b], words[b], boxes[b],
             fills[b], gain, bias, levels, out[b])  # fmt: skip

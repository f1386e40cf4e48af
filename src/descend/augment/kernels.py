"""The meaning of a draw once more, compiled: one image at a time, in cache, from uint8 to the training layout.

``apply`` defines what these loops compute; tests hold them to it within one level of 255. An image is made row by row, its
channels interleaved as they are stored: geometry writes a row of float levels (``straight_kernels``, ``resampling_kernels``),
which goes through tone, color, clamp and normalization (``color_kernels``) to the output while it is in the first cache; where
those need the whole image first (a mean, a histogram), all rows are kept and finished afterwards. Pixels are computed four
numbers at a time, see ``simd``. Nothing here allocates, see ``compiled.LEAN``: memory comes from the caller (``Work``).

The code loops where NumPy has a word, because Numba's versions of ``sum``, ``any``, ``transpose`` and their kin are general: they
took two thirds of the 25 s of compilation. Crops, flips and sizes alone, which most trainings ask for, have a kernel of their own
of the same text: it is compiled in less than half of the time.
"""

from __future__ import annotations

import numpy as np

from descend.augment.color_kernels import (
    BIAS,
    COLOR,
    GAIN,
    OFFSET,
    Finish,
    add_row,
    equalizing,
    finish,
    histogram,
    lean,
    look_up,
    means_of,
    spread,
    store,
    tint,
)
from descend.augment.histogram_kernels import flatten_copied
from descend.augment.noise_kernels import add_noise, fill_normals
from descend.augment.resampling_kernels import resample
from descend.augment.row_kernels import CONSTANT, COPIED, STRAIGHT, Rows
from descend.augment.straight_kernels import copy, straight
from descend.compiled import LEAN, helper, kernel

_F = np.float32


@lean
def paint(factors, b, to, work, out, whole_out):
    """Fill the boxes (n, 4) of a finished image with their levels (n, 3), infinity with noise."""
    boxes, fills, words, width = factors.boxes[b], factors.fills[b], factors.words[b], work.sums.size
    for k in range(len(boxes)):
        top, bottom, left, right = boxes[k]
        for i in range(top, bottom):
            start, stop = i * width + 3 * left, i * width + 3 * right
            if np.isinf(fills[k, 0]):
                at = fill_normals(start, stop, factors.quantiles, words[0], words[3], words[4], work.words, work.normals)
                for j in range(stop - start):
                    c = j % 3
                    value = factors.mean[c] + factors.std[c] * work.normals[at + j]
                    store(value, c, start + j, to, out, whole_out)
            else:
                for j in range(stop - start):
                    store(fills[k, j % 3], j % 3, start + j, to, out, whole_out)


@lean
def adapt(work, n, factors, b):
    """Change the tone of all levels of an image by what it takes all of them to know.

    They may lie between whole levels, in a view that copies pixels too: where it shows a constant border, or is stretched.
    """
    levels = work.levels
    if factors.stretch[b]:
        for c in range(3):
            spread(levels[c:n:3])
    if factors.flatten[b]:
        histogram(levels, n, work.counts)
        for c in range(3):
            equalizing(work.counts[c], work.table[c])
        look_up(levels, n, work.table)
    if factors.table.size:
        look_up(levels, n, factors.table[b])


@lean
def complete(factors, b, rows, to, work, out, whole_out):
    """Finish an image whose tone or color depends on all of it, or that takes noise before its clamp."""
    width, color, words, sigma = work.sums.size, factors.color[b], factors.words[b], factors.sigma[b]
    n_rows = (work.levels.size - 1) // width
    if rows.adapted:
        adapt(work, n_rows * width, factors, b)
        if rows.summed:
            for i in range(n_rows):
                add_row(work.sums, work.levels[i * width : (i + 1) * width])
    if rows.summed:
        means = means_of(work.sums, n_rows)
        for c in range(3):
            to.numbers[OFFSET + c] += color[c, 3] * means[0] + color[c, 4] * means[1] + color[c, 5] * means[2]
    as_it_is = Finish(to.numbers, False, to.rounded)
    for i in range(n_rows):
        row, start = work.levels[i * width : (i + 1) * width + 1], i * width
        if sigma > 0:
            tint(row, to, work.row)
            add_noise(work.row[:width], start, sigma, factors.quantiles, words[0], words[1], words[2], work.words, work.normals)
            for k in range(width):
                work.row[k] = min(max(work.row[k], _F(0)), _F(255))
            finish(work.row, as_it_is, start, out, whole_out)
        else:
            finish(row, to, start, out, whole_out)


@helper(inline="always", **LEAN)
def read(image, factors, b, rows, to, work, out, whole_out):
    """Read the pixels of image b along straight lines."""
    if factors.way[b] == COPIED:
        copy(image, factors.matrix[b], factors.reading, rows, to, work, out, whole_out)
    else:
        straight(image, factors.matrix[b], factors.taps[b], factors.reading, rows, to, work, out, whole_out)


@lean
def normalize(gain, bias, numbers):
    """Note by what the levels are multiplied, and what is added to them."""
    for c in range(3):
        numbers[GAIN + c], numbers[BIAS + c] = gain[c], bias[c]


@lean
def make(image, factors, b, work, out, whole_out):
    """Make image b of a batch: image (H, W, 3) uint8 -> out (3 h w,) float32 or whole_out (3 h w,) uint8."""
    table, color = factors.table[b], factors.color[b]
    numbers, summed = work.numbers, False
    normalize(factors.gain, factors.bias, numbers)
    if color.size:
        for c in range(3):
            numbers[OFFSET + c] = color[c, 6]
            for k in range(3):
                numbers[COLOR + 4 * k + c] = color[c, k]
            summed = summed or color[c, 3] != 0 or color[c, 4] != 0 or color[c, 5] != 0
    adapted = factors.stretch[b] or factors.flatten[b]
    copied = factors.way[b] == COPIED and factors.reading.border != CONSTANT
    if copied and factors.flatten[b] and not factors.stretch[b]:
        flatten_copied(image, factors.matrix[b], factors.reading, table, work)
        table, adapted = work.table, False
    rows = Rows(table[:0] if adapted else table, adapted, summed, adapted or summed or factors.sigma[b] > 0, copied)
    to = Finish(numbers, color.size > 0, whole_out.size > 0)
    if summed:
        for k in range(work.sums.size):
            work.sums[k] = 0
    if factors.way[b] <= STRAIGHT:
        read(image, factors, b, rows, to, work, out, whole_out)
    else:
        resample(image, factors, b, rows, to, work, out, whole_out)
    if rows.later:
        complete(factors, b, rows, to, work, out, whole_out)
    paint(factors, b, to, work, out, whole_out)


@kernel(**LEAN)
def run_part(part, n_parts, images, factors, work, out, whole_out):
    """Make every n_parts-th image, from ``part`` on: images (B, H, W, 3) uint8 -> h x w pixels, for which ``work`` is made.

    They go to out (B, 3 h w) float32, ``levels * gain + bias``, or to whole_out (B, 3 h w) uint8, rounded; the other is (B, 0).
    factors: see ``fused.Factors``.
    """
    for b in range(part, len(images), n_parts):
        make(images[b], factors, b, work, out[b], whole_out[b])


@kernel(**LEAN)
def run_straight(part, n_parts, images, factors, work, out, whole_out):
    """Do what ``run_part`` does for images that are copied or read along straight lines, and not changed otherwise."""
    for b in range(part, len(images), n_parts):
        normalize(factors.gain, factors.bias, work.numbers)
        copied = factors.way[b] == COPIED and factors.reading.border != CONSTANT
        rows, to = Rows(factors.table[b], False, False, False, copied), Finish(work.numbers, False, whole_out.size > 0)
        read(images[b], factors, b, rows, to, work, out[b], whole_out[b])

"""Kernels of tone and color: tables, matrices and the one clamp, on rows of float levels with interleaved channels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from descend.augment.factors import LEAST_SPREAD
from descend.augment.simd import four, held, put, put_bytes, scaled, through
from descend.compiled import LEAN, helper

lean = helper(**LEAN)
_F = np.float32
_ALMOST = 1e-3  # as in ``statistics``


COLOR, OFFSET, GAIN, BIAS, LAST, N_NUMBERS = 0, 12, 16, 20, 24, 28  # where in ``Finish.numbers`` what begins


class Finish(NamedTuple):
    """What takes a row of w pixels from levels to the output: ``clamp(A x + offset) * gain + bias``, or whole levels.

    One array holds all numbers, four apart: the three columns of A, offset, gain, bias, and room for the last pixel of a row.
    """

    numbers: Any  # (28,) float32
    tinted: Any  # whether A and the offset change anything
    rounded: Any  # whether the output is whole levels, without gain and bias


@lean
def ends(values):
    """Return the lowest and the highest of some numbers, one or more."""
    low = high = values[0]
    for value in values:
        low, high = min(low, value), max(high, value)
    return low, high


@lean
def look_up(levels, n, table):
    """Replace n interleaved levels by their values in the tables (3, 256) of their channels, linear between entries, in place."""
    for c in range(3):
        below, above = table[c], table[c][1:]
        for k in range(c, n, 3):
            value = min(max(levels[k], _F(0)), _F(255))
            low = np.uint32(min(value, _F(254)))  # unsigned: a place that may be negative costs two more instructions
            levels[k] = below[low] + (value - _F(low)) * (above[low] - below[low])


@lean
def finish(row, to, at, out, whole_out):
    """Take a row of levels (3 w + 1,) through color to the output, as ``to`` says: floats ``out`` or whole levels ``whole_out``.

    at: where in the output the row begins.
    """
    n, numbers = row.size - 1, to.numbers
    r, g, b, o = four(numbers, COLOR), four(numbers, COLOR + 4), four(numbers, COLOR + 8), four(numbers, OFFSET)
    gain, bias = four(numbers, GAIN), four(numbers, BIAS)
    if to.tinted:
        if to.rounded:
            for k in range(0, n - 3, 3):
                put_bytes(whole_out, at + k, held(through(four(row, k), r, g, b, o), _F(0), _F(255)))
        else:
            for k in range(0, n - 3, 3):
                put(out, at + k, scaled(held(through(four(row, k), r, g, b, o), _F(0), _F(255)), gain, bias))
        put(numbers, LAST, held(through(four(row, n - 3), r, g, b, o), _F(0), _F(255)))
    else:
        if to.rounded:
            for k in range(0, n - 3, 3):
                put_bytes(whole_out, at + k, four(row, k))
        else:
            for k in range(0, n - 3, 3):
                put(out, at + k, scaled(four(row, k), gain, bias))
        put(numbers, LAST, four(row, n - 3))
    for c in range(3):  # one by one: a fourth number would lie in the next image
        store(numbers[LAST + c], c, at + n - 3 + c, to, out, whole_out)


@lean
def store(value, c, at, to, out, whole_out):
    """Write one level of channel c, 0..255 or beyond, to the output."""
    if to.rounded:
        whole_out[at] = np.uint8(min(max(value, _F(0)), _F(255)) + _F(0.5))
    else:
        out[at] = value * to.numbers[GAIN + c] + to.numbers[BIAS + c]


@lean
def tint(row, to, out):
    """Write a row (3 w + 1,) after its color change, but not clamped, to ``out``."""
    numbers = to.numbers
    r, g, b, o = four(numbers, COLOR), four(numbers, COLOR + 4), four(numbers, COLOR + 8), four(numbers, OFFSET)
    for k in range(0, row.size - 1, 3):
        put(out, k, through(four(row, k), r, g, b, o) if to.tinted else four(row, k))


@lean
def spread(plane):
    """Stretch the levels of one channel over 0..255, in place; a flat channel stays."""
    low, high = ends(plane)
    if high - low >= LEAST_SPREAD:
        scale = _F(255) / (high - low)
        for k in range(plane.size):
            plane[k] = (plane[k] - low) * scale


@lean
def histogram(levels, n, counts):
    """Count n interleaved levels by channel, (3, 256) float64; one between two whole levels counts for both in proportion."""
    for c in range(3):
        for k in range(256):
            counts[c, k] = 0
    for c in range(3):
        below, above = counts[c], counts[c][1:]
        for k in range(c, n, 3):
            value = min(max(levels[k], _F(0)), _F(255))
            low = np.uint32(min(value, _F(254)))
            below[low] += 1 - float(value - _F(low))
            above[low] += float(value - _F(low))


@lean
def equalizing(counts, table):
    """Write to ``table`` (256,) what flattens a histogram (256,); see ``statistics.equalizing``."""
    top = 255
    while counts[top] <= 0.5 and top > 0:
        top -= 1
    total, n_used = 0.0, 0
    for count in counts:
        total, n_used = total + count, n_used + (count > 0.5)
    step = math.floor((total - counts[top] + _ALMOST) / 255)
    flat = step == 0 or n_used < 2
    below = math.floor(step / 2)
    for level in range(256):
        table[level] = level if flat else min(math.floor((below + _ALMOST) / step), 255)
        below += counts[level]


@lean
def add_row(sums, row):
    """Add a row to the sums (3 w,) float64 of its columns."""
    for k in range(sums.size):
        sums[k] += row[k]


@lean
def means_of(sums, n_rows):
    """Return the mean level of each channel from the sums of interleaved columns: three float64."""
    red, green, blue, n = 0.0, 0.0, 0.0, sums.size // 3 * n_rows
    for k in range(0, sums.size, 3):
        red, green, blue = red + sums[k] / n, green + sums[k + 1] / n, blue + sums[k + 2] / n
    return red, green, blue

"""Kernels of tone and colour: tables, matrices and the one clamp, on rows of float levels with interleaved channels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from descend.augment.simd import four, held, put, through
from descend.compiled import helper

_F = np.float32
_ALMOST = 1e-3  # as in ``statistics``


class Finish(NamedTuple):
    """What takes a row of w pixels from levels to the output: ``clamp(A table(x) + offset) * gain + bias``."""

    table: Any  # (3, 256) float32 levels, or no entries
    color: Any  # (13,) float32: the columns of A, four numbers apart
    offset: Any  # (4,) float32
    tinted: Any  # whether A and the offset change anything
    low: Any  # of the clamp, float32
    high: Any
    gain: Any  # (3 w,) float32
    bias: Any
    scratch: Any  # (3 w + 1,) float32, overwritten


@helper
def ends(values):
    """Return the lowest and the highest of some numbers, one or more."""
    low = high = values[0]
    for value in values:
        low, high = min(low, value), max(high, value)
    return low, high


@helper
def look_up(plane, table):
    """Replace the levels of one channel by their values in a table (256,), linear between entries, in place."""
    for k in range(plane.size):
        value = min(max(plane[k], _F(0)), _F(255))
        low = min(int(value), 254)
        plane[k] = table[low] + (value - _F(low)) * (table[low + 1] - table[low])


@helper
def finish(row, to, out):
    """Take a row of levels (3 w + 1,) through tone and colour to the output (3 w,), as ``to`` says."""
    table, color, offset, tinted, low, high, gain, bias, scratch = to
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
    step = math.floor((total - counts[top] + _ALMOST) / 255)
    flat = step == 0 or n_used < 2
    below = math.floor(step / 2)
    for level in range(256):
        table[level] = level if flat else min(math.floor((below + _ALMOST) / step), 255)
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

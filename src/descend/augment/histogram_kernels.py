"""Kernels of equalization where a view copies stored pixels: their histogram is counted before the view is made."""

from __future__ import annotations

import math

import numpy as np

from descend.augment.color_kernels import equalizing, lean
from descend.augment.row_kernels import placed
from descend.augment.straight_kernels import along

_U = np.uint32


@lean
def count_copied(image, m, reading, work):
    """Count the levels of the stored pixels that a view copies, by channel: ``work.counts``; no pixel lies beyond the image.

    Pixels that follow each other are counted apart, because one of the same level would wait for the one before it.
    """
    height, width, x, y, x0, y0 = along(image, m, work)
    flat, tallies = work.turned if m[0, 0] == 0 else image.reshape(-1), work.tallies
    for k in range(tallies.size):
        tallies[k] = 0
    for j in range(work.at.size):
        work.at[j] = 3 * placed(math.floor(x * (j + 0.5) + x0), width, reading.border)
    for i in range(work.levels.size // work.sums.size):
        row = flat[3 * width * placed(math.floor(y * (i + 0.5) + y0), height, reading.border) :]
        for j in range(work.at.size):
            at, tally = np.uint64(work.at[j]), tallies[768 * (j % 4) : 768 * (j % 4) + 768]
            for c in range(3):
                tally[_U(256 * c) + _U(row[at + np.uint64(c)])] += _U(1)
    for c in range(3):
        for k in range(256):
            at = 256 * c + k
            work.counts[c, k] = tallies[at] + tallies[768 + at] + tallies[1536 + at] + tallies[2304 + at]


@lean
def flatten_copied(image, m, reading, table, work):
    """Write to ``work.table`` what equalizes a view that copies stored pixels, and after it a table (3, 256), if there is one."""
    count_copied(image, m, reading, work)
    for c in range(3):
        equalizing(work.counts[c], work.table[c])
        if table.size:
            for k in range(256):
                work.table[c, k] = table[c, _U(work.table[c, k])]

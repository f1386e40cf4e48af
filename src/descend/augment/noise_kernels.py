"""Gaussian noise for kernels: numbers of a counter-based generator, so that no pixel waits for another's."""

from __future__ import annotations

import numpy as np

from descend.augment.color_kernels import lean
from descend.augment.stream_kernels import philox

_F = np.float32
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@lean
def fill_normals(start, stop, borders, identity, k0, k1, words, numbers):
    """Write the standard normal numbers of a sample to ``numbers``, in blocks of eight, so that ``start`` to ``stop`` are there.

    See ``apply.normal`` for which number goes where; borders: ``apply.quantiles()``. Returns where in ``numbers`` the first is.
    words: (4, n) uint32, overwritten.
    """
    first, n_blocks = start // 8, (stop + 7) // 8 - start // 8
    for k in range(n_blocks):
        block = np.uint64(first + k)
        a, b, c, d = philox(block & _LOW, block >> _HALF, identity & _LOW, identity >> _HALF, k0, k1)
        words[0, k], words[1, k], words[2, k], words[3, k] = a, b, c, d
    ends, mask, unit, half = borders[1:], np.uint32(0xFFF), _F(2.0**-12), _F(0.5)
    for w in range(4):
        line, places = words[w], numbers[2 * w :]
        for k in range(n_blocks):
            word = line[k]
            one, other = word & mask, word >> np.uint32(20)
            share, rest = np.int32((word >> np.uint32(12)) & mask), np.int32((word >> np.uint32(8)) & mask)
            places[8 * k] = borders[one] + (_F(share) + half) * unit * (ends[one] - borders[one])
            places[8 * k + 1] = borders[other] + (_F(rest) + half) * unit * (ends[other] - borders[other])
    return start - 8 * first


@lean
def add_noise(row, start, sigma, borders, identity, k0, k1, words, numbers):
    """Add Gaussian noise to a row of levels, in place; its first is value ``start`` of the image."""
    offset, sigma = fill_normals(start, start + row.size, borders, identity, k0, k1, words, numbers), _F(sigma)
    for k in range(row.size):
        row[k] += sigma * numbers[offset + k]

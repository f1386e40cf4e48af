"""Gaussian noise for kernels: numbers of a counter-based generator, so that no pixel waits for another's."""

from __future__ import annotations

import numpy as np

from descend.augment.color_kernels import lean
from descend.augment.stream_kernels import philox
from descend.simd_longs import N, all_longs, longs_from, put_words

_F, _U = np.float32, np.uint32
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_CELL, _UNIT = _U(0xFFF), _F(2.0**-12)


def blocks_for(n: int) -> int:
    """Return how many blocks of random numbers, of eight values each, ``fill_normals`` makes at most for n values."""
    return -(-(n // 8 + 2) // N) * N


@lean
def _fill_words(first, n_blocks, identity, k0, k1, words):
    """Write the words of n_blocks blocks of Philox, and of up to 15 more, four after four; sixteen blocks are made at a time."""
    c, d = all_longs(identity & _LOW), all_longs(identity >> _HALF)
    for k in range(0, n_blocks, N):
        block = longs_from(np.uint64(first + k))
        one, two, three, four = philox(block & _LOW, block >> _HALF, c, d, k0 & _LOW, k1 & _LOW)
        put_words(words, 4 * k, one, two, three, four)


@lean
def fill_normals(start, stop, borders, identity, k0, k1, words, numbers):
    """Write the standard normal numbers of a sample to ``numbers``, in blocks of eight, so that ``start`` to ``stop`` are there.

    See ``apply.normal`` for which number goes where; borders: ``apply.quantiles()``. Returns where in ``numbers`` the first is.
    words: (4 n,) uint32, numbers: (8 n,) float32, n from ``blocks_for``; overwritten.
    """
    first, n_blocks = start // 8, (stop + 7) // 8 - start // 8
    _fill_words(first, n_blocks, identity, k0, k1, words)
    ends, line, half = borders[1:], words[: 4 * n_blocks], _F(0.5)
    for k in range(line.size):  # apart from the look-up, which is no vector instruction
        one, other = np.int32((line[k] >> _U(12)) & _CELL), np.int32((line[k] >> _U(8)) & _CELL)
        numbers[2 * k], numbers[2 * k + 1] = (_F(one) + half) * _UNIT, (_F(other) + half) * _UNIT
    for k in range(line.size):
        one, other = line[k] & _CELL, line[k] >> _U(20)
        numbers[2 * k] = borders[one] + numbers[2 * k] * (ends[one] - borders[one])
        numbers[2 * k + 1] = borders[other] + numbers[2 * k + 1] * (ends[other] - borders[other])
    return start - 8 * first


@lean
def add_noise(row, start, sigma, borders, identity, k0, k1, words, numbers):
    """Add Gaussian noise to a row of levels, in place; its first is value ``start`` of the image."""
    offset, sigma = fill_normals(start, start + row.size, borders, identity, k0, k1, words, numbers), _F(sigma)
    for k in range(row.size):
        row[k] += sigma * numbers[offset + k]

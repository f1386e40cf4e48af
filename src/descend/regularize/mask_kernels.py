"""The compiled kernels of the drop layers: ``fill`` draws masks, ``stamp`` grows squares.

The masks are those of ``rng.bernoulli``, bit for bit, and the generator is compiled from the same text.

Drawing a mask is the whole cost of dropout. torch fills one from a sequential generator at about 11 ns per unit (one core of an
AVX2 machine). The numbers of a counter-based generator do not wait for each other, so sixteen blocks are made at a time; and most
of the 32 digits of a number do not decide whether it lies below p, so they are not made.
The stamp takes an eighth of the time of growing squares by max-pooling (64 maps of 32 x 28 x 28, squares of 3), because few
begin anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend import rng
from descend.compiled import LEAN, helper, kernel
from descend.regularize.simd import N, all_of, bits_from, kept, put
from descend.simd_longs import N as N_BLOCKS
from descend.simd_longs import all_longs, any_bit, longs, longs_from, put_words

GROUP = 128  # units whose bits are a block of Philox
N_WORDS = 4 * N_BLOCKS + 1  # that sixteen groups take, and one more, which is read with the last
TOGETHER = 4  # groups, from which sixteen at once take less time than one after the other
_LOW, _HALF, _ONE = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(1)
_philox = helper(rng.philox_rounds, inline="always")


@helper(**LEAN)
def _decided(digit: Any, of_p: Any, equal: Any, below: Any) -> tuple[Any, Any]:
    """Return which numbers still equal p, and which lie below it, after one more digit of each. of_p: 32 times p's digit."""
    return equal & (digit ^ of_p ^ _LOW), below | (equal & (digit ^ _LOW) & of_p)


@helper(**LEAN)
def _kept_of(group: Any, asked: Any, low: Any, high: Any, key: Any, edge: Any, n_digits: Any) -> tuple[Any, Any, Any, Any]:
    """Return the four words whose bits tell which units of a group are kept: of sixteen groups at once where they are vectors.

    asked: of ``_asked``; units that are not asked for need not be decided.
    """
    below_a = below_b = below_c = below_d = (group ^ group) ^ (_LOW * (edge >> _HALF))  # all of them where p is 1
    equal_a, equal_b, equal_c, equal_d = asked
    for k in range(n_digits):
        block = group * np.uint64(n_digits) + np.uint64(k)
        a, b, c, d = _philox(block & _LOW, block >> _HALF, low, high, key[0], key[1])
        of_p = _LOW * ((edge >> np.uint64(31 - k)) & _ONE)
        equal_a, below_a = _decided(a, of_p, equal_a, below_a)
        equal_b, below_b = _decided(b, of_p, equal_b, below_b)
        equal_c, below_c = _decided(c, of_p, equal_c, below_c)
        equal_d, below_d = _decided(d, of_p, equal_d, below_d)
        if not any_bit(equal_a | equal_b | equal_c | equal_d):
            break
    return below_a ^ _LOW, below_b ^ _LOW, below_c ^ _LOW, below_d ^ _LOW


@helper(**LEAN)
def _first_bits(n: Any) -> Any:
    """Return a word whose first ``n`` bits are set, of 32 at most."""
    return _LOW if n >= 32 else (_ONE << np.uint64(max(n, 0))) - _ONE


@helper(**LEAN)
def _asked(n: Any) -> tuple[Any, Any, Any, Any]:
    """Return the four words whose first ``n`` bits are set, in all."""
    return _first_bits(n), _first_bits(n - 32), _first_bits(n - 64), _first_bits(n - 96)


@helper(**LEAN)
def draw(bits: Any, first: Any, n: Any, number: Any, key: Any, edge: Any, n_digits: Any) -> None:
    """Draw for ``n`` units of a sample, those of group ``first`` first: bit j of ``bits`` is set where unit j is kept.

    bits: uint32, four for each group, and for as many as are drawn together: a multiple of ``N_BLOCKS`` of them. number: the
    sample's, uint64. edge, n_digits: of ``binary``.
    """
    low, high, n_groups, k = number & _LOW, number >> _HALF, (n + GROUP - 1) // GROUP, 0
    while n_groups - k >= TOGETHER:
        below = longs_from(np.uint64(0)) + np.uint64(k - n_groups)  # negative in the groups that are asked for
        asked = (below >> np.uint64(63)) * _LOW
        groups = longs_from(np.uint64(first + k))
        a, b, c, d = _kept_of(groups, (asked, asked, asked, asked), all_longs(low), all_longs(high), key, edge, n_digits)
        put_words(bits, 4 * k, a, b, c, d)
        k += N_BLOCKS
    while k < n_groups:
        one, two, three, four = _kept_of(np.uint64(first + k), _asked(n - GROUP * k), low, high, key, edge, n_digits)
        bits[4 * k], bits[4 * k + 1], bits[4 * k + 2], bits[4 * k + 3] = one, two, three, four
        k += 1


@helper(**LEAN)
def is_kept(bits: Any, j: Any) -> Any:
    """Return whether bit j is set."""
    return bits[j // 32] >> np.uint32(j % 32) & np.uint32(1)


def binary(p: float) -> tuple[np.uint64, int]:
    """Return p as ``draw`` takes it: times 2**32, and how many of its binary digits there are before the last zeros."""
    return np.uint64(round(p * 2**32)), rng.binary_digits(p)


@helper(**LEAN)
def _write(row: Any, bits: Any, start: Any, scale: Any) -> None:
    """Write ``scale`` to a row where a bit from ``start`` on is set, 0 elsewhere."""
    for j in range(0, row.size - N + 1, N):
        put(row, j, kept(all_of(scale), bits_from(bits, start + j)))
    for j in range(row.size // N * N, row.size):
        row[j] = scale if is_kept(bits, start + j) else row.dtype.type(0)


@helper(**LEAN)
def _fill_sixteen(out: Any, ids: Any, i: Any, key: Any, edge: Any, n_digits: Any, scale: Any, first: Any, bits: Any) -> None:
    """Fill the rows of sixteen samples from sample i on, a group of each at a time."""
    number, n = longs(ids, i), out.shape[1]
    for start in range(0, n, GROUP):
        a, b, c, d = _asked(n - start)
        asked = all_longs(a), all_longs(b), all_longs(c), all_longs(d)
        group = all_longs(np.uint64(first + start // GROUP))
        one, two, three, four = _kept_of(group, asked, number & _LOW, number >> _HALF, key, edge, n_digits)
        put_words(bits, 0, one, two, three, four)
        for r in range(N_BLOCKS):
            _write(out[i + r, start : start + GROUP], bits, GROUP * r, scale)


@kernel
def _fill_masks(out: Any, ids: Any, key: Any, edge: Any, n_digits: Any, scale: Any, first: Any) -> None:
    bits, i = np.zeros(N_WORDS, np.uint32), 0
    while out.shape[1] < GROUP * N_BLOCKS and i + N_BLOCKS <= ids.size:  # too few groups to draw sixteen of a sample at once
        _fill_sixteen(out, ids, i, key, edge, n_digits, scale, first, bits)
        i += N_BLOCKS
    for k in range(i, ids.size):
        for start in range(0, out.shape[1], GROUP * N_BLOCKS):
            row = out[k, start : start + GROUP * N_BLOCKS]
            draw(bits, first + start // GROUP, row.size, ids[k], key, edge, n_digits)
            _write(row, bits, 0, scale)


def fill(out: NDArray[Any], ids: NDArray[np.int64], key: tuple[int, int], p: float, scale: float, first: int = 0) -> None:
    """Write ``scale`` where a unit is kept and 0 where it is dropped: out (B, n) float32 or float64, ids (B,) int64.

    Unit ``j`` of sample ``i`` is dropped exactly when event ``GROUP * first + j`` of ``rng.bernoulli`` happens.
    """
    _fill_masks(out, ids.view(np.uint64), np.array(key, np.uint64), *binary(p), out.dtype.type(scale), first)


@kernel
def _stamp(out: Any, quiet: Any, side_h: Any, side_w: Any) -> None:
    samples, rows, columns, channels = quiet.shape
    one, zero = out.dtype.type(1), out.dtype.type(0)
    for b in range(samples):
        out[b] = one
        for i in range(rows):
            for j in range(columns):
                for c in range(channels):
                    if quiet[b, i, j, c] == zero:
                        for h in range(i, i + side_h):
                            for w in range(j, j + side_w):
                                out[b, h, w, c] = zero
        kept = out[b].sum()
        if kept > 0:
            out[b] *= out.dtype.type(out[b].size / kept)


def stamp(quiet: NDArray[Any], side_h: int, side_w: int) -> NDArray[Any]:
    """Return DropBlock's mask: 0 on each square that starts where ``quiet`` is 0, else the sample's size / number kept.

    quiet: (B, H - side_h + 1, W - side_w + 1, C) float32 or float64 of 0 and 1 -> (B, H, W, C), the same type.
    """
    b, rows, columns, c = quiet.shape
    out = np.empty((b, rows + side_h - 1, columns + side_w - 1, c), quiet.dtype)
    _stamp(out, quiet, side_h, side_w)
    return out

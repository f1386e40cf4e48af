"""The compiled products of DropConnect: each sample goes through masked weights of its own, which are never written down.

A weight that is dropped counts as 0, also an infinite one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from descend.compiled import LEAN, helper, run_shares
from descend.regularize.mask_kernels import GROUP, binary, draw, is_kept
from descend.regularize.simd import N, all_of, bits_from, kept, lanes, put, times_plus, total
from descend.simd_longs import N as N_BLOCKS

ROWS = 4  # outputs that are computed together, since they read the same input


@helper(**LEAN)
def _draw_rows(bits: Any, first: Any, last: Any, n_in: Any, number: Any, key: Any, p: Any) -> Any:
    """Draw the masks of the weights of outputs ``first`` to ``last``; return the bit at which they begin."""
    group = first * n_in // GROUP
    draw(bits, group, last * n_in - group * GROUP, number, key, p[0], np.int64(p[1]))
    return first * n_in - group * GROUP


@helper(**LEAN)
def _weight(bits: Any, start: Any, row: Any, j: Any) -> Any:
    """Return a weight of a row, whose bits begin at ``start``, or 0 where it is dropped."""
    return row[j] if is_kept(bits, start + j) else row.dtype.type(0)


@helper(**LEAN)
def _products(bits: Any, start: Any, x: Any, weight: Any, o: Any, y: Any) -> None:
    """Write the products of one input with the masked weights of four outputs: y[o : o + 4]."""
    zero = x.dtype.type(0)
    n_in, a, b, c, d = x.size, all_of(zero), all_of(zero), all_of(zero), all_of(zero)
    row_a, row_b, row_c, row_d = weight[o], weight[o + 1], weight[o + 2], weight[o + 3]
    for j in range(0, n_in - N + 1, N):
        given, at = lanes(x, j), start + j
        a = times_plus(kept(lanes(row_a, j), bits_from(bits, at)), given, a)
        b = times_plus(kept(lanes(row_b, j), bits_from(bits, at + n_in)), given, b)
        c = times_plus(kept(lanes(row_c, j), bits_from(bits, at + 2 * n_in)), given, c)
        d = times_plus(kept(lanes(row_d, j), bits_from(bits, at + 3 * n_in)), given, d)
    y[o], y[o + 1], y[o + 2], y[o + 3] = total(a), total(b), total(c), total(d)
    for j in range(n_in // N * N, n_in):
        for r in range(ROWS):
            y[o + r] += _weight(bits, start + r * n_in, weight[o + r], j) * x[j]


@helper(**LEAN)
def _product(bits: Any, start: Any, x: Any, row: Any) -> Any:
    """Return the product of one input with the masked weights of one output."""
    found = all_of(x.dtype.type(0))
    for j in range(0, x.size - N + 1, N):
        found = times_plus(kept(lanes(row, j), bits_from(bits, start + j)), lanes(x, j), found)
    result = total(found)
    for j in range(x.size // N * N, x.size):
        result += _weight(bits, start, row, j) * x[j]
    return result


@helper
def _multiply(first: Any, last: Any, x: Any, weight: Any, ids: Any, key: Any, p: Any, scale: Any, y: Any) -> bool:
    n_out, n_in = weight.shape
    bits = np.zeros(_n_words(n_in), np.uint32)
    for o in range(0, n_out, ROWS):  # outside, so that rows of weights are read from the nearest cache
        end = min(o + ROWS, n_out)
        for b in range(first, last):
            start = _draw_rows(bits, o, end, n_in, ids[b], key, p)
            for m in range(x.shape[1]):
                if end - o == ROWS:
                    _products(bits, start, x[b, m], weight, o, y[b, m])
                else:
                    for r in range(o, end):
                        y[b, m, r] = _product(bits, start + (r - o) * n_in, x[b, m], weight[r])
            for m in range(x.shape[1]):
                for r in range(o, end):
                    y[b, m, r] *= scale[0]
    return True


@helper(**LEAN)
def _gradients(bits: Any, start: Any, g: Any, x: Any, weight: Any, dx: Any, dw: Any) -> None:
    """Add to the gradients of one input and of the weights of four outputs what they get from ``g``, those of the products."""
    n_in = x.size
    one, two, three, four = all_of(g[0]), all_of(g[1]), all_of(g[2]), all_of(g[3])
    row_a, row_b, row_c, row_d = weight[0], weight[1], weight[2], weight[3]
    to_a, to_b, to_c, to_d = dw[0], dw[1], dw[2], dw[3]
    for j in range(0, n_in - N + 1, N):
        given, at = lanes(x, j), start + j
        a, b = bits_from(bits, at), bits_from(bits, at + n_in)
        c, d = bits_from(bits, at + 2 * n_in), bits_from(bits, at + 3 * n_in)
        put(to_a, j, times_plus(kept(one, a), given, lanes(to_a, j)))
        put(to_b, j, times_plus(kept(two, b), given, lanes(to_b, j)))
        put(to_c, j, times_plus(kept(three, c), given, lanes(to_c, j)))
        put(to_d, j, times_plus(kept(four, d), given, lanes(to_d, j)))
        change = times_plus(kept(one, a), lanes(row_a, j), lanes(dx, j))
        change = times_plus(kept(two, b), lanes(row_b, j), change)
        change = times_plus(kept(three, c), lanes(row_c, j), change)
        put(dx, j, times_plus(kept(four, d), lanes(row_d, j), change))
    for j in range(n_in // N * N, n_in):
        for r in range(ROWS):
            dx[j] += g[r] * _weight(bits, start + r * n_in, weight[r], j)
            if is_kept(bits, start + r * n_in + j):
                dw[r, j] += g[r] * x[j]


@helper(**LEAN)
def _gradient(bits: Any, start: Any, g: Any, x: Any, row: Any, dx: Any, dw: Any) -> None:
    """Add to the gradients of one input and of the weights of one output what they get from ``g``, that of the product."""
    for j in range(0, x.size - N + 1, N):
        moved = kept(all_of(g), bits_from(bits, start + j))
        put(dw, j, times_plus(moved, lanes(x, j), lanes(dw, j)))
        put(dx, j, times_plus(moved, lanes(row, j), lanes(dx, j)))
    for j in range(x.size // N * N, x.size):
        dx[j] += g * _weight(bits, start, row, j)
        if is_kept(bits, start + j):
            dw[j] += g * x[j]


@helper
def _multiply_back(
    first: Any, last: Any, g: Any, x: Any, weight: Any, ids: Any, key: Any, p: Any, scale: Any, dx: Any, dw: Any
) -> bool:
    n_out, n_in = weight.shape
    bits, scaled = np.zeros(_n_words(n_in), np.uint32), np.empty(ROWS, x.dtype)
    for part in range(first, last):
        n_blocks = (n_out + ROWS - 1) // ROWS
        for block in range(n_blocks * part // dx.shape[0], n_blocks * (part + 1) // dx.shape[0]):
            o, end = ROWS * block, min(ROWS * (block + 1), n_out)
            for b in range(x.shape[0]):
                start = _draw_rows(bits, o, end, n_in, ids[b], key, p)
                for m in range(x.shape[1]):
                    for r in range(end - o):
                        scaled[r] = g[b, m, o + r] * scale[0]
                    if end - o == ROWS:
                        _gradients(bits, start, scaled, x[b, m], weight[o:end], dx[part, b, m], dw[o:end])
                    else:
                        for r in range(end - o):
                            place = start + r * n_in
                            _gradient(bits, place, scaled[r], x[b, m], weight[o + r], dx[part, b, m], dw[o + r])
    return True


@helper(**LEAN)
def _n_words(n_in: Any) -> Any:
    """Return how many words the masks of ``ROWS`` rows may take: whole groups, as many as are drawn together, and one more."""
    n_groups = ROWS * n_in // GROUP + 2
    return (n_groups + N_BLOCKS - 1) // N_BLOCKS * N_BLOCKS * (GROUP // 32) + 1


@dataclass(frozen=True)
class Masked:
    """Products with a matrix of weights whose masks differ from sample to sample, and are drawn as they are used.

    Nothing of the size of all masks is ever held. ids: (B,) int64. Masks are those of ``fill`` for (out * in) units.
    Arrays: x (B, M, in), weight (out, in), products and their gradients (B, M, out); contiguous, all float32 or all float64.
    """

    ids: NDArray[np.int64]
    key: tuple[int, int]
    p: float
    scale: float

    PARTS: ClassVar = 8  # of the outputs, each with a sum of its own for x: as many for any number of threads

    def multiply(self, x: NDArray[Any], weight: NDArray[Any], n_threads: int) -> NDArray[Any]:
        """Return the products, (B, M, out)."""
        y = np.empty((*x.shape[:2], weight.shape[0]), x.dtype)
        run_shares(_multiply, x.shape[0], n_threads, x, weight, *self._drawn(x), y)
        return y

    def multiply_back(
        self, g: NDArray[Any], x: NDArray[Any], weight: NDArray[Any], n_threads: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the gradients of x and of the weights, from those of the products."""
        parts = min(self.PARTS, -(-weight.shape[0] // ROWS))
        dx, dw = np.zeros((parts, *x.shape), x.dtype), np.zeros_like(weight)
        run_shares(_multiply_back, parts, n_threads, g, x, weight, *self._drawn(x), dx, dw)
        return dx.sum(0), dw

    def _drawn(self, like: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        key, digits = np.array(self.key, np.uint64), np.array(binary(self.p), np.uint64)
        return self.ids.view(np.uint64), key, digits, np.array([self.scale], like.dtype)

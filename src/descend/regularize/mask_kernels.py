"""The compiled kernels of the drop layers: ``fill`` draws masks, ``Masked`` multiplies masked weights, ``stamp`` grows squares.

The masks are those of ``rng.bits``, word for word, and the generator is compiled from the same text.

Drawing a mask is the whole cost of dropout. torch fills one from a sequential generator at about 11 ns per unit (one core
of an AVX2 machine); this kernel takes 0.8 ns, because the numbers of a counter-based generator do not wait for each other.
The stamp takes an eighth of the time of growing squares by max-pooling (64 maps of 32 x 28 x 28, squares of 3), because few
begin anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from descend import rng
from descend.compiled import LEAN, helper, kernel, run_shares

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_philox = helper(rng.philox_rounds, inline="always")  # as a call it would keep LLVM from drawing several numbers at once


@helper(**LEAN)
def _draw(row: Any, first: Any, low: Any, high: Any, words: Any, scale: Any) -> None:
    """Fill a row, of a multiple of four units, from the Philox block ``first`` on; words: both of the key, and the threshold."""
    k0, k1, threshold, zero = words[0], words[1], words[2], row.dtype.type(0)
    for j in range(row.size // 4):
        block = np.uint64(first + j)
        a, b, c, d = _philox(block & _LOW, block >> _HALF, low, high, k0, k1)
        row[4 * j] = scale if a >= threshold else zero
        row[4 * j + 1] = scale if b >= threshold else zero
        row[4 * j + 2] = scale if c >= threshold else zero
        row[4 * j + 3] = scale if d >= threshold else zero


@kernel
def _fill_masks(out: Any, ids: Any, words: Any, scale: Any, first: Any) -> None:
    rest = np.empty(4, out.dtype)
    for i in range(ids.size):
        row, low, high = out[i], ids[i] & _LOW, ids[i] >> _HALF
        whole = row.size // 4
        _draw(row[: 4 * whole], first, low, high, words, scale)
        _draw(rest, first + whole, low, high, words, scale)
        for j in range(row.size - 4 * whole):
            row[4 * whole + j] = rest[j]


def _words(key: tuple[int, int], p: float) -> NDArray[np.uint64]:
    return np.array([*key, round(p * 2**32)], np.uint64)


def fill(out: NDArray[Any], ids: NDArray[np.int64], key: tuple[int, int], p: float, scale: float, first: int = 0) -> None:
    """Write ``scale`` where a unit is kept and 0 where it is dropped: out (B, n) float32 or float64, ids (B,) int64.

    Unit ``j`` of sample ``i`` is dropped exactly when word ``4 * first + j`` of ``rng.bits`` lies below ``p * 2**32``.
    """
    _fill_masks(out, ids.view(np.uint64), _words(key, p), out.dtype.type(scale), first)


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


# ------------------------------------------------------------------------------------------- products with masked weights


@helper(fastmath={"reassoc", "contract"}, **LEAN)
def _dot(a: Any, b: Any) -> Any:
    total = a.dtype.type(0)
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@helper(**LEAN)
def _add_scaled(a: Any, b: Any, k: Any) -> None:
    for j in range(a.size):
        a[j] += b[j] * k


@helper(**LEAN)
def _mask_row(room: Any, unit: Any, number: Any, words: Any, scale: Any) -> Any:
    """Draw the masks of a row of weights from ``unit`` on, which need not begin a block; return where they begin in ``room``."""
    _draw(room, unit // 4, number & _LOW, number >> _HALF, words, scale)
    return unit % 4


@helper
def _multiply(first: Any, last: Any, x: Any, weight: Any, ids: Any, words: Any, scale: Any, y: Any) -> bool:
    n_out, n_in = weight.shape
    room = np.empty((n_in + 6) // 4 * 4, x.dtype)
    for b in range(first, last):
        for o in range(n_out):
            start = _mask_row(room, o * n_in, ids[b], words, scale[0])
            row, masked = weight[o], room[start : start + n_in]
            for j in range(n_in):
                masked[j] *= row[j]
            for m in range(x.shape[1]):
                y[b, m, o] = _dot(masked, x[b, m])
    return True


@helper
def _multiply_back(
    first: Any, last: Any, g: Any, x: Any, weight: Any, ids: Any, words: Any, scale: Any, dx: Any, dw: Any
) -> bool:
    n_out, n_in = weight.shape
    room, met = np.empty((n_in + 6) // 4 * 4, x.dtype), np.empty(n_in, x.dtype)
    for part in range(first, last):
        for o in range(n_out * part // dx.shape[0], n_out * (part + 1) // dx.shape[0]):
            row, change = weight[o], dw[o]
            for b in range(x.shape[0]):
                start = _mask_row(room, o * n_in, ids[b], words, scale[0])
                mask = room[start : start + n_in]
                met[:] = 0
                for m in range(x.shape[1]):
                    _add_scaled(met, x[b, m], g[b, m, o])
                for j in range(n_in):
                    change[j] += met[j] * mask[j]
                    mask[j] *= row[j]
                for m in range(x.shape[1]):
                    _add_scaled(dx[part, b, m], mask, g[b, m, o])
    return True


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

    PARTS: ClassVar = 16  # of the outputs, each with a sum of its own for x: as many for any number of threads

    def multiply(self, x: NDArray[Any], weight: NDArray[Any], n_threads: int) -> NDArray[Any]:
        """Return the products, (B, M, out)."""
        y = np.empty((*x.shape[:2], weight.shape[0]), x.dtype)
        run_shares(_multiply, x.shape[0], n_threads, x, weight, *self._drawn(x), y)
        return y

    def multiply_back(
        self, g: NDArray[Any], x: NDArray[Any], weight: NDArray[Any], n_threads: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the gradients of x and of the weights, from those of the products."""
        parts = min(self.PARTS, weight.shape[0])
        dx, dw = np.zeros((parts, *x.shape), x.dtype), np.zeros_like(weight)
        run_shares(_multiply_back, parts, n_threads, g, x, weight, *self._drawn(x), dx, dw)
        return dx.sum(0), dw

    def _drawn(self, like: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return self.ids.view(np.uint64), _words(self.key, self.p), np.array([self.scale], like.dtype)

"""Adafactor compiled by Numba: the same step as ``Adafactor.direction``, in three readings of the gradients.

A tensor is a stack of matrices. The first sweep adds up the squares of gradients by rows and columns, and those of weights; the
second the squares of the update, whose length limits it; the third moves the weights. The update itself is never stored:
both of the latter compute it from the gradient and one factor per row and column. Work is cut into pieces, as for the
rules that go element by element: some rows of a large matrix, several small matrices, or elements of a vector.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from torch import Tensor

from descend import compiled
from descend.optim import tensors
from descend.optim.chain import Chain, Scalars
from descend.optim.kernels import n_threads

PIECE = 1 << 15
"""Elements per piece, at least: a piece of the gradient and of the weights stay in the second-level cache together."""
LEAST_ROWS = 16
"""Rows of a large matrix per piece, at least, so that the sums of columns of all pieces are small beside the matrix."""

FAST = {"reassoc", "contract"}  # sums may be taken in any order, so that they fill vectors


def step(
    rule: Chain, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], scalars: Scalars, *, checked: bool
) -> float | None:
    """Move ``params`` and the slots in ``states`` in place by one step of Adafactor.

    params, grads, slots: contiguous CPU tensors of one dtype, float32 or float64. checked: return the norm of all gradients, NaN
    where one is not finite; nothing has moved then. None if not checked.
    """
    shapes = tuple(tuple(p.shape) for p in params)
    cut = _cut(shapes)
    if not len(cut.pieces):
        return 0.0 if checked else None
    rows = [
        (p.data_ptr(), g.data_ptr(), *(state[name].data_ptr() if name in state else 0 for name in rule.core.slots))
        for p, g, state in zip(params, grads, states, strict=True)
    ]
    dtype = np.float64 if params[0].dtype == torch.float64 else np.float32
    mix, eps, floor, clip = scalars.coefficients
    c = np.array([scalars.scale, *mix, eps, scalars.shrink], dtype=dtype)
    work = (np.array(rows, dtype=np.int64), cut.sizes, cut.pieces)
    columns, sums = np.empty(cut.n_columns, dtype), np.empty(cut.n_rows, dtype)
    found = np.empty((len(cut.pieces), 3))  # the sums of squares of gradients, weights and updates in every piece
    _sweep(_look_all, cut, *work, columns, sums, c, found)
    if checked and not math.isfinite(found[:, 0].sum()):
        return math.nan
    _join_all(*work, columns, sums, c)
    _sweep(_measure_all, cut, *work, columns, sums, c, found)
    _, p_squares, u_squares = (np.bincount(cut.pieces[:, 0], each, len(params)) for each in found.T)
    limits = np.fmax(1.0, np.sqrt(u_squares / cut.counts) / clip)  # NaN counts for nothing, as in max
    steps = (scalars.rate * np.fmax(floor, np.sqrt(p_squares / cut.counts)) / limits).astype(dtype)
    _sweep(_apply_all, cut, *work, columns, c, steps)
    torch.autograd.graph.increment_version(params)  # autograd must notice that weights changed under it
    tensors.wrap(rule, params, states, scalars)
    return math.sqrt(found[:, 0].sum()) if checked else None


# ---------------------------------------------------------------------------------------------------------- cutting the work


class Cut(NamedTuple):
    """A list of tensors cut into pieces.

    sizes: (n, m) per tensor. pieces: (N, 8). n_columns, n_rows: how much room their sums need. counts: elements per tensor, at
    least 1.
    """

    sizes: np.ndarray
    pieces: np.ndarray
    n_columns: int
    n_rows: int
    counts: np.ndarray
    n_elements: int


@lru_cache(maxsize=64)
def _cut(shapes: tuple[tuple[int, ...], ...]) -> Cut:
    """Cut tensors into pieces (tensor, first matrix, matrices, first row, rows, columns, those of the matrix, row sums).

    The last three say where the sums lie. Vectors are stacks of 1 by 1. A piece holds whole matrices, or rows of one.
    """
    sizes = [(1, 1) if len(shape) < 2 else shape[-2:] for shape in shapes]
    pieces: list[tuple[int, ...]] = []
    column, row = 0, 0
    for number, (shape, (n, m)) in enumerate(zip(shapes, sizes, strict=True)):
        count = math.prod(shape) // (n * m) if math.prod(shape) else 0
        if n * m <= PIECE:
            together = PIECE // (n * m) if n * m else 1
            for first in range(0, count, together):
                pieces.append((number, first, min(together, count - first), 0, n, column, column, row))
                column, row = column + m, row + n
            continue
        height = max(PIECE // m, LEAST_ROWS)
        for matrix in range(count):
            whole = column
            for first in range(0, n, height):
                pieces.append((number, matrix, 1, first, min(height, n - first), column, whole, row))
                column, row = column + m, row + min(height, n - first)
    counts = np.array([max(math.prod(shape), 1) for shape in shapes])
    return Cut(np.array(sizes), np.array(pieces, dtype=np.int64).reshape(-1, 8), column, row, counts, sum(map(math.prod, shapes)))


def _sweep(run: Any, cut: Cut, *arrays: np.ndarray) -> None:
    """Call ``run(first, last, *arrays)`` for shares of the pieces, which are independent."""
    compiled.run_shares(run, len(cut.pieces), n_threads(cut.n_elements), *arrays)


# --------------------------------------------------------------------------------------------------------- looking at numbers


@intrinsic
def _pointer(_: Any, address: Any, like: Any) -> Any:
    """Return an address as that of numbers of the type of those in the array ``like``."""
    kind = types.CPointer(like.dtype)

    def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(address, like), generate


@compiled.helper(fastmath=FAST)
def _sum_squares(x: Any) -> Any:
    """Return the sum of squares of an array that is not empty, at its own precision."""
    total = x[0] * x[0]
    for i in range(1, x.size):
        total += x[i] * x[i]
    return total


@compiled.helper
def _sum_finite(x: Any) -> float:
    """Return the sum of squares of an array that is not empty, NaN where an element is not finite."""
    total = np.float64(_sum_squares(x))
    if not np.isfinite(total):  # or the sum of finite squares is too large for the width of the elements
        total = 0.0
        for i in range(x.size):
            total += np.float64(x[i]) * np.float64(x[i])
            if not np.isfinite(x[i]):
                return np.nan
    return total


# ------------------------------------------------------------------------------------------------------ one matrix, or rows


@compiled.helper(fastmath=FAST, **compiled.LEAN)
def _add_up(g: Any, columns: Any, rows: Any, scale: Any) -> None:
    """Write the sums of the squares of some rows, along the columns and along the rows."""
    m = columns.size
    for j in range(m):
        columns[j] = 0
    for i in range(rows.size):
        total = rows.dtype.type(0)
        for j in range(m):
            x = g[i * m + j] * scale
            total += x * x
            columns[j] += x * x
        rows[i] = total


@compiled.helper(**compiled.LEAN)
def _average(row: Any, col: Any, rows: Any, columns: Any, c: Any) -> None:
    """Take the sums of a matrix into its running means."""
    n, m = row.dtype.type(row.size), row.dtype.type(col.size)
    for i in range(row.size):
        row[i] = row[i] * c[1] + (rows[i] / m + c[3]) * c[2]
    for j in range(col.size):
        col[j] = col[j] * c[1] + (columns[j] / n + c[3]) * c[2]


@compiled.helper(fastmath=FAST, **compiled.LEAN)
def _invert(row: Any, col: Any, factors: Any) -> None:
    """Write the factor of each column: 1 / sqrt(col / mean(row))."""
    total = row.dtype.type(0)
    for i in range(row.size):
        total += row[i]
    mean = total / row.dtype.type(row.size)
    for j in range(col.size):
        factors[j] = row.dtype.type(1) / np.sqrt(col[j] / mean)


@compiled.helper(fastmath=FAST, **compiled.LEAN)
def _measure(g: Any, row: Any, factors: Any, scale: Any) -> float:
    """Return the sum of squares of the update of some rows."""
    m, found = factors.size, 0.0
    for i in range(row.size):
        k = scale / np.sqrt(row[i])
        total = row.dtype.type(0)
        for j in range(m):
            u = g[i * m + j] * k * factors[j]
            total += u * u
        found += total
    return found


@compiled.helper(**compiled.LEAN)
def _apply(p: Any, g: Any, row: Any, factors: Any, scale: Any, shrink: Any, step: Any) -> None:
    """Move some rows."""
    m = factors.size
    for i in range(row.size):
        k = scale / np.sqrt(row[i])
        for j in range(m):
            p[i * m + j] = p[i * m + j] * shrink - g[i * m + j] * k * factors[j] * step


# ------------------------------------------------------------------------------------------------- one element, as 1 by 1 matrix


@compiled.helper(fastmath=FAST, **compiled.LEAN)
def _measure_vector(g: Any, v: Any, c: Any) -> float:
    total = v.dtype.type(0)
    for i in range(g.size):
        x = g[i] * c[0]
        v[i] = v[i] * c[1] + (x * x + c[3]) * c[2]
        total += x * x / v[i]
    return total


@compiled.helper(fastmath=FAST, **compiled.LEAN)
def _measure_singles(g: Any, row: Any, col: Any, c: Any) -> float:
    total = row.dtype.type(0)
    for i in range(g.size):
        x = g[i] * c[0]
        taken = (x * x + c[3]) * c[2]
        row[i] = row[i] * c[1] + taken
        col[i] = col[i] * c[1] + taken
        u = x / np.sqrt(row[i]) / np.sqrt(col[i] / row[i])
        total += u * u
    return total


@compiled.helper(**compiled.LEAN)
def _apply_vector(p: Any, g: Any, v: Any, c: Any, step: Any) -> None:
    for i in range(p.size):
        p[i] = p[i] * c[4] - g[i] * c[0] / np.sqrt(v[i]) * step


@compiled.helper(**compiled.LEAN)
def _apply_singles(p: Any, g: Any, row: Any, col: Any, c: Any, step: Any) -> None:
    for i in range(p.size):
        p[i] = p[i] * c[4] - g[i] * c[0] / np.sqrt(row[i]) / np.sqrt(col[i] / row[i]) * step


# ------------------------------------------------------------------------------------------------------------- the kernels


@compiled.helper
def _view(address: Any, first: Any, n: Any, like: Any) -> Any:
    return carray(_pointer(address + first * like.itemsize, like), n)  # pyright: ignore (untyped in Numba)


@compiled.helper
def _look_all(first, last, table, sizes, pieces, columns, rows, c, found):
    for k in range(first, last):
        t, matrix, count, top, height, place, _, line = pieces[k]
        n, m = sizes[t]
        start, size = (matrix * n + top) * m, count * height * m
        g = _view(table[t, 1], start, size, c)
        found[k, 0] = _sum_finite(g)
        found[k, 1] = _sum_squares(_view(table[t, 0], start, size, c))
        if n * m > PIECE:
            _add_up(g, columns[place : place + m], rows[line : line + height], c[0])
    return True


@compiled.kernel
def _join_all(table, sizes, pieces, columns, rows, c):
    for k in range(pieces.shape[0]):
        t, matrix, _, top, height, place, whole, line = pieces[k]
        n, m = sizes[t]
        if n * m <= PIECE:
            continue
        factors = columns[whole : whole + m]
        if place != whole:
            for j in range(m):
                factors[j] += columns[place + j]
        if top + height == n:
            row, col = _view(table[t, 2], matrix * n, n, c), _view(table[t, 3], matrix * m, m, c)
            _average(row, col, rows[line + height - n : line + height], factors, c)
            _invert(row, col, factors)


@compiled.helper
def _measure_all(first, last, table, sizes, pieces, columns, rows, c, found):
    for k in range(first, last):
        t, matrix, count, top, height, _, whole, line = pieces[k]
        n, m = sizes[t]
        start, size = (matrix * n + top) * m, count * height * m
        g, factors, sums = _view(table[t, 1], start, size, c), columns[whole : whole + m], rows[line : line + height]
        if table[t, 4]:
            found[k, 2] = _measure_vector(g, _view(table[t, 4], start, size, c), c)
        elif n * m == 1:
            found[k, 2] = _measure_singles(g, _view(table[t, 2], start, size, c), _view(table[t, 3], start, size, c), c)
        elif n * m > PIECE:
            found[k, 2] = _measure(g, _view(table[t, 2], matrix * n + top, height, c), factors, c[0])
        else:
            found[k, 2] = 0.0
            for i in range(count):
                row, col = _view(table[t, 2], (matrix + i) * n, n, c), _view(table[t, 3], (matrix + i) * m, m, c)
                one = g[i * n * m : (i + 1) * n * m]
                _add_up(one, factors, sums, c[0])
                _average(row, col, sums, factors, c)
                _invert(row, col, factors)
                found[k, 2] += _measure(one, row, factors, c[0])
    return True


@compiled.helper
def _apply_all(first, last, table, sizes, pieces, columns, c, steps):
    for k in range(first, last):
        t, matrix, count, top, height, _, whole, _ = pieces[k]
        n, m = sizes[t]
        start, size = (matrix * n + top) * m, count * height * m
        p, g, factors = _view(table[t, 0], start, size, c), _view(table[t, 1], start, size, c), columns[whole : whole + m]
        if table[t, 4]:
            _apply_vector(p, g, _view(table[t, 4], start, size, c), c, steps[t])
        elif n * m == 1:
            _apply_singles(p, g, _view(table[t, 2], start, size, c), _view(table[t, 3], start, size, c), c, steps[t])
        elif n * m > PIECE:
            _apply(p, g, _view(table[t, 2], matrix * n + top, height, c), factors, c[0], c[4], steps[t])
        else:
            for i in range(count):
                row, col = _view(table[t, 2], (matrix + i) * n, n, c), _view(table[t, 3], (matrix + i) * m, m, c)
                _invert(row, col, factors)
                part = slice(i * n * m, (i + 1) * n * m)
                _apply(p[part], g[part], row, factors, c[0], c[4], steps[t])
    return True

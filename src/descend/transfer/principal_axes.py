"""Standardized features in their principal axes: where a penalized linear head is fitted quickly.

The penalty does not see a rotation, and in the axes a diagonal matrix is a good preconditioner. Where there are more columns than
samples, the axes are as many as the samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from descend.available_memory import available_bytes, in_gb
from descend.errors import DataError
from descend.transfer.side_by_side import side_by_side

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MANY_NUMBERS = 20_000_000  # coordinates, from which threads share one loss instead of computing one each
ROWS_AT_ONCE = 4096  # that are standardized together
MORE_COLUMNS = 1.25  # times as many as rows, up to which the products of columns are quicker: they do with single precision
NEGLIGIBLE = 1e-6  # variance of an axis relative to the largest, below which it carries rounding errors


@dataclass(frozen=True)
class Axes:
    """Standardized features in their principal axes. coordinates: (n, V, r) float32. variances: (r,) of each axis."""

    mean: Doubles
    scale: Doubles
    rotation: Callable[[], Floats]  # -> (D, r); made when it is needed
    coordinates: Floats
    variances: Doubles

    @property
    def small(self) -> bool:
        """Whether a loss over these coordinates is computed quicker by one thread than by several."""
        return self.coordinates.size < MANY_NUMBERS

    @classmethod
    def of(cls, features: Floats, *, most: int | None = None) -> Axes:
        """Standardize and rotate (n, V, D). most: how many axes are kept, those of the largest variance; None for all.

        Raises DataError for features that are not finite, or more than memory holds.
        """
        if not np.isfinite(features).all():
            raise DataError("logistic", "features must be finite numbers", got="NaN or inf")
        refuse_too_much(features.shape)
        n, n_views, n_columns = features.shape
        rows = features.reshape(n * n_views, n_columns)
        mean, scale = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
        constant = scale == 0  # such a column says nothing: it stays at zero
        scale[constant] = 1.0
        z = np.empty(rows.shape, np.float32)
        for at in range(0, len(rows), ROWS_AT_ONCE):  # in doubles, which would take three times the room for all
            z[at : at + ROWS_AT_ONCE] = (rows[at : at + ROWS_AT_ONCE] - mean) / scale
        by_columns = n_columns <= MORE_COLUMNS * len(z)
        gram = z.T @ z if by_columns else z @ z.T
        values, vectors = _eigh(gram) if by_columns else np.linalg.eigh(gram.astype(np.float64))
        kept = values > NEGLIGIBLE * values[-1]
        kept[: -most if most else 0] = False
        values, vectors = values[kept], vectors[:, kept]
        if by_columns:
            vectors[constant] = 0  # z = U S V^T: these are V, the rotation
            return cls(mean, scale, lambda: vectors, (z @ vectors).reshape(n, n_views, -1), values / len(z))
        roots = np.sqrt(values)
        coordinates = (vectors * roots).astype(np.float32)  # here they are U: the coordinates are U S, the rotation is V
        rotate = lambda: z.T @ (vectors / roots).astype(np.float32)  # noqa: E731
        return cls(mean, scale, rotate, coordinates.reshape(n, n_views, -1), values / len(z))

    def to_columns(self, solution: Doubles) -> tuple[Floats, Floats]:
        """Return (weight (K, D), bias (K,)) for raw features, of a solution (r + 1, K) in these axes."""
        weight = (self.rotation().astype(np.float64) @ solution[:-1]) / self.scale[:, None]
        bias = solution[-1] - self.mean @ weight
        return np.ascontiguousarray(weight.T).astype(np.float32), bias.astype(np.float32)


def _eigh(gram: Floats) -> tuple[Doubles, Floats]:
    """Return the eigenvalues and vectors of products of columns, float32: a third of the time of doubles.

    A rotation that is off by 1e-6 is as good as any: coordinates are computed by it. Products of rows need doubles: there the
    coordinates are the vectors themselves, and those of small variance would not be what the columns give.
    """
    values, vectors = torch.linalg.eigh(torch.from_numpy(gram))
    return values.double().numpy(), vectors.numpy()


def axes_of(sets: Sequence[Floats], *, most: int | None = None) -> list[Axes]:
    """Return the axes of several sets of features (n, V, D), each computed by one thread, and small ones beside each other.

    most: as of ``Axes.of``, which also says what is raised.

    Threads that share an eigenproblem wait for the late one all the time: that of 2,366 pictures took two threads 1.9 s where
    nothing else ran and 20 s beside three busy processes; one thread took 2.7 s there.
    """
    small = all(features.size < MANY_NUMBERS for features in sets)
    with side_by_side(len(sets) if small else 1) as run:
        return run(partial(Axes.of, most=most), sets)


def refuse_too_much(shape: tuple[int, ...]) -> None:
    """Raise DataError where a fit to features of this shape, (n, V, D), holds more at once than there is memory.

    Counted: standardized features and their coordinates, float32, and the products of columns or rows and their vectors, doubles.
    """
    n_rows, n_columns = math.prod(shape[:2]), shape[2]
    need, free = 8 * n_rows * n_columns + 16 * min(n_rows, n_columns) ** 2, available_bytes()
    if free is not None and need > free:
        needed = f"{n_rows:,} views of {n_columns:,} numbers need {in_gb(need)} or more, {in_gb(free)} are free"
        raise DataError("logistic", f"features must fit into memory: {needed}", fix="Use --feature-stages last or fewer --views.")

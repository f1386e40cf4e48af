"""Standardized features in the axes in which a penalized linear head is fitted quickly: the penalty does not see a rotation.

Where there are more columns than samples, these span as many directions as there are of them, and no more: Z = L Q with
orthonormal rows Q, of which only the triangle L is ever made, since L L^T = Z Z^T (Cholesky). Elsewhere, and where samples are
few, the axes are the principal ones, in which a diagonal matrix is a good preconditioner. Where finding them would take longer
than it saves (``axes_cost``), the axes are the standardized columns themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from descend.available_memory import available_bytes, in_gb
from descend.errors import DataError
from descend.transfer.side_by_side import side_by_side

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Back = Callable[[Doubles], Doubles]

MANY_NUMBERS = 20_000_000  # coordinates, from which threads share one loss instead of computing one each
ROWS_AT_ONCE = 4096  # that are standardized together
COLUMNS_AT_ONCE = 1024  # whose products are added up together, in doubles
ROTATION, TRIANGLE = 8.5e-4, 1.8e-4
"""What finding axes costs, in pictures times axes. Principal ones, per cube of the columns: 0.3 s for 1,000, 1.2 to 1.6 s for
2,000. The triangle, per square of the rows times the columns: 0.9 s for 2,468 rows of 5,316 columns, whose principal axes took
4.1, and 1.7 s for 3,570 of 3,720. Nothing can stop either in the middle."""
FEW_ROWS = 500
"""Rows, below which axes are principal ones whatever the columns: they take no time there. Fits to pictures that a head tells
apart without a doubt end far from their optimum, and where depends on the axes: six pictures had a held-out loss of 0.04, in the
triangle of 0.11."""
AROUND = 0.6  # evaluations of a choice that begins at a strength that did well on similar features, in those of a whole one
MORE_TO_CHOOSE, MORE_TO_FIT = 1.4, 2.0
"""Evaluations of the loss in standardized columns, in those in principal axes: of a choice among strengths, and of one fit from
nothing (`benchmarks/head_axes.py`)."""
MORE_OF_TRIANGLE = 1.15  # the same of axes that a triangle gives: 0.8 to 1.4 times on hands and blurred flowers
ROUNDED = 1e-10  # of the products, added to their diagonal: more than rounding takes off it, less than a head reads
NEGLIGIBLE = 1e-6  # variance of an axis relative to the largest, below which it carries rounding errors


@dataclass(frozen=True)
class Axes:
    """Standardized features in other axes. coordinates: (n, V, r) float32. variances: (r,) of each axis.

    back: weights (r, K) of the axes -> those of the standardized columns, (D, K); None where the axes are the columns.
    """

    mean: Doubles
    scale: Doubles
    back: Back | None
    coordinates: Floats
    variances: Doubles

    @property
    def small(self) -> bool:
        """Whether a loss over these coordinates is computed quicker by one thread than by several."""
        return self.coordinates.size < MANY_NUMBERS

    @classmethod
    def of(cls, features: Floats, rotated: bool = True, *, most: int | None = None) -> Axes:
        """Standardize and rotate (n, V, D). most: how many axes are kept, those of the largest variance; None for all.

        rotated: where False, features are only standardized, and ``most`` says nothing.

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
        if not rotated:
            return cls(mean, scale, None, z.reshape(features.shape), (~constant).astype(np.float64))
        coordinates, back = _triangle(z) if n_columns > len(z) else (z, None)
        if back is None or most is not None or len(z) < FEW_ROWS:
            coordinates, back = _principal(coordinates, most, back)
        variances = np.square(coordinates).mean(0, dtype=np.float64)
        return cls(mean, scale, back, coordinates.reshape(n, n_views, -1), variances)

    def to_columns(self, solution: Doubles) -> tuple[Floats, Floats]:
        """Return (weight (K, D), bias (K,)) for raw features, of a solution (r + 1, K) in these axes."""
        of_columns = solution[:-1] if self.back is None else self.back(solution[:-1])
        weight = of_columns / self.scale[:, None]
        bias = solution[-1] - self.mean @ weight
        return np.ascontiguousarray(weight.T).astype(np.float32), bias.astype(np.float32)


def _triangle(z: Floats) -> tuple[Floats, Back]:
    """Return L of z = L Q, (m, m), for z of m rows, and what gives columns the weights of axes: Q^T w = Z^T L^-T w."""
    products = np.zeros((len(z), len(z)))
    for at in range(0, z.shape[1], COLUMNS_AT_ONCE):
        part = z[:, at : at + COLUMNS_AT_ONCE].astype(np.float64)
        products += part @ part.T
    products[np.diag_indices(len(z))] += ROUNDED * np.linalg.norm(products)  # rows are centered, and some are copies
    triangle = np.linalg.cholesky(products)

    def back(weights: Doubles) -> Doubles:
        of_rows = scipy.linalg.solve_triangular(triangle, weights, lower=True, trans="T")
        of_columns = np.zeros((z.shape[1], weights.shape[1]))
        for at in range(0, len(z), ROWS_AT_ONCE):
            of_columns += z[at : at + ROWS_AT_ONCE].T.astype(np.float64) @ of_rows[at : at + ROWS_AT_ONCE]
        return of_columns

    return triangle.astype(np.float32), back


def _principal(z: Floats, most: int | None, before: Back | None) -> tuple[Floats, Back]:
    """Return z in its principal axes, the ``most`` of largest variance, and what gives columns the weights of axes.

    before: the same for z itself, where it stands in other axes already. Single precision is enough, at a third of the time: a
    rotation that is off by 1e-6 is as good as any, and coordinates are computed by it.
    """
    values, found = torch.linalg.eigh(torch.from_numpy(z.T @ z))
    kept = values > NEGLIGIBLE * values[-1]
    kept[: -most if most else 0] = False
    vectors = found[:, kept].numpy()
    vectors[~z.any(0)] = 0  # of constant columns

    def back(weights: Doubles) -> Doubles:
        of_these = vectors.astype(np.float64) @ weights
        return of_these if before is None else before(of_these)

    return z @ vectors, back


def axes_of(
    sets: Sequence[Floats], *, n_classes: int = 0, n_folds: Sequence[float] = (), most: int | None = None
) -> list[Axes]:  # fmt: skip
    """Return the axes of several sets of features (n, V, D), each computed by one thread, and small ones beside each other.

    n_classes, n_folds: of the heads that will be fitted to each set, as of ``axes_cost``: where it pays, sets are rotated; all
    without. most: as of ``Axes.of``, which also says what is raised.

    Threads that share an eigenproblem wait for the late one all the time: that of 2,366 pictures took two threads 1.9 s where
    nothing else ran and 20 s beside three busy processes; one thread took 2.7 s there.
    """

    def pays(features: Floats, n_folds: float) -> bool:
        n, n_views, n_columns = features.shape
        return axes_cost(n * n_views, n_columns, n_classes, n_folds).rotated

    rotated = [*map(pays, sets, n_folds)] or [True] * len(sets)
    small = all(features.size < MANY_NUMBERS for features in sets)
    with side_by_side(len(sets) if small else 1) as run:
        return run(partial(Axes.of, most=most), sets, rotated)


@dataclass(frozen=True)
class AxesCost:
    """What finding principal axes costs, in pictures times axes; where not rotated, the longer fits in standardized columns."""

    cost: float
    rotated: bool


def axes_cost(n_rows: int, n_columns: int, n_classes: int, n_folds: float) -> AxesCost:
    """Return what the quicker of both ways costs, in units of ``folds_cost``, whose arguments these are."""
    wide, more = n_columns > n_rows, MORE_TO_CHOOSE if n_folds else MORE_TO_FIT
    found = TRIANGLE * n_rows**2 * n_columns if wide else ROTATION * n_columns**3
    n_axes = MORE_OF_TRIANGLE * n_rows if wide else n_columns
    longer = folds_cost(n_rows, more * n_columns, n_classes, n_folds) - folds_cost(n_rows, n_axes, n_classes, n_folds)
    return AxesCost(min(found, longer), found < longer)


def folds_cost(n_rows: int, n_axes: float, n_classes: int, n_folds: float) -> float:
    """Return what fits to so many pictures in principal axes cost, in pictures times axes of ten classes.

    n_folds: that are searched for the strength; 0 for one fit with a given strength, half of that.
    """
    return (n_folds or 0.5) * n_rows * n_axes * (0.5 + n_classes / 20)  # half of a product's time is that of reading the pictures


def refuse_too_much(shape: tuple[int, ...]) -> None:
    """Raise DataError where a fit to features of this shape, (n, V, D), holds more at once than there is memory.

    Counted: standardized features and their coordinates, float32, and the products of columns or rows and their vectors, doubles.
    """
    n_rows, n_columns = math.prod(shape[:2]), shape[2]
    need, free = 8 * n_rows * n_columns + 16 * min(n_rows, n_columns) ** 2, available_bytes()
    if free is not None and need > free:
        needed = f"{n_rows:,} views of {n_columns:,} numbers need {in_gb(need)} or more, {in_gb(free)} are free"
        raise DataError("logistic", f"features must fit into memory: {needed}", fix="Use --feature-stages last or fewer --views.")

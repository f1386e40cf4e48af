"""Standardized features in their principal axes: where a penalized linear head is fitted quickly.

The penalty does not see a rotation, and in the axes a diagonal matrix is a good preconditioner. Where there are more columns than
samples, the axes are as many as the samples. Where finding them would take longer than it saves (``axes_cost``), the axes are the
standardized columns themselves.
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
ROTATION = 8.5e-4
"""What finding principal axes costs, in pictures times axes per cube of the smaller of rows and columns: 0.3 s for 1,000 rows,
1.2 to 1.6 s for 2,000, 8.6 s for 3,570 of 3,720 columns. Nothing can stop it in the middle."""
AROUND = 0.6  # evaluations of a choice that begins at a strength that did well on similar features, in those of a whole one
MORE_TO_CHOOSE, MORE_TO_FIT = 1.4, 2.0
"""Evaluations of the loss in standardized columns, in those in principal axes: of a choice among strengths, and of one fit from
nothing (`benchmarks/head_axes.py`)."""
NEGLIGIBLE = 1e-6  # variance of an axis relative to the largest, below which it carries rounding errors


@dataclass(frozen=True)
class Axes:
    """Standardized features in their principal axes. coordinates: (n, V, r) float32. variances: (r,) of each axis."""

    mean: Doubles
    scale: Doubles
    rotation: Callable[[], Floats] | None  # -> (D, r); made when it is needed; None where the axes are the columns
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
        of_columns = solution[:-1] if self.rotation is None else self.rotation().astype(np.float64) @ solution[:-1]
        weight = of_columns / self.scale[:, None]
        bias = solution[-1] - self.mean @ weight
        return np.ascontiguousarray(weight.T).astype(np.float32), bias.astype(np.float32)


def _eigh(gram: Floats) -> tuple[Doubles, Floats]:
    """Return the eigenvalues and vectors of products of columns, float32: a third of the time of doubles.

    A rotation that is off by 1e-6 is as good as any: coordinates are computed by it. Products of rows need doubles: there the
    coordinates are the vectors themselves, and those of small variance would not be what the columns give.
    """
    values, vectors = torch.linalg.eigh(torch.from_numpy(gram))
    return values.double().numpy(), vectors.numpy()


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
    n_axes, more = min(n_rows, n_columns), MORE_TO_CHOOSE if n_folds else MORE_TO_FIT
    rotation = ROTATION * n_axes**3
    longer = folds_cost(n_rows, more * n_columns, n_classes, n_folds) - folds_cost(n_rows, n_axes, n_classes, n_folds)
    return AxesCost(min(rotation, longer), rotation < longer)


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

"""Points under a drawn geometry: from the output to the stored image and back."""

from __future__ import annotations

import numpy as np

from descend.augment.array_types import Floats
from descend.errors import DataError

_ROUNDS = 60  # of fixed-point iteration to undo a bend; it converges where neighbors part by less than their distance
_CLOSE = 1e-6  # pixels


def project(matrix: Floats, points: Floats) -> Floats:
    """Apply homographies (B, 3, 3) to points (B, n, 2)."""
    moved = points @ np.swapaxes(matrix[:, :2, :2], 1, 2) + matrix[:, None, :2, 2]
    depth = points @ matrix[:, 2, :2, None] + matrix[:, 2, 2, None, None]
    return moved / depth


def unproject(matrix: Floats, points: Floats) -> Floats:
    """Apply the inverses of homographies (B, 3, 3) to points (B, n, 2); DataError where one has no inverse."""
    flat = np.flatnonzero(np.linalg.matrix_rank(matrix) < 3)
    if len(flat):
        raise DataError("augment", "a geometry that flattens the picture to a line has no inverse", got=f"row {flat[0]}")
    return project(np.linalg.inv(matrix).astype(np.float64), points)


def spline(at: Floats, n_points: int) -> Floats:
    """Return the uniform cubic B-spline basis (..., n_points) at places (...) in 0..1, spread over n_points - 3 cells."""
    place = np.clip(at, 0.0, 1.0) * (n_points - 3)
    cell = np.minimum(np.floor(place), n_points - 4).astype(np.int64)
    t = place - cell
    parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    basis = np.zeros((*place.shape, n_points))
    for k, part in enumerate(parts):
        np.put_along_axis(basis, (cell + k)[..., None], part[..., None] / 6, -1)
    return basis


def bent(bends: tuple[Floats, ...], points: Floats, canvas: tuple[int, int]) -> Floats:
    """Move output points (B, n, 2) by the sum of bends, each (B, 2, g, g) control points in shares of the shorter side."""
    h, w = canvas
    moved = points.copy()
    for bend in bends:
        across, down = spline(points[..., 0] / w, bend.shape[3]), spline(points[..., 1] / h, bend.shape[2])
        moved += min(h, w) * np.einsum("bni,bcij,bnj->bnc", down, bend, across)
    return moved


def unbent(bends: tuple[Floats, ...], points: Floats, canvas: tuple[int, int]) -> Floats:
    """Find the output points (B, n, 2) that ``bent`` takes to ``points``; NaN where a bend folds and the search fails."""
    at = points.copy()
    if not bends:
        return at
    for _ in range(_ROUNDS):
        at += points - bent(bends, at, canvas)
    missed = np.abs(bent(bends, at, canvas) - points).max(-1, keepdims=True)
    return np.where(missed < _CLOSE, at, np.nan)

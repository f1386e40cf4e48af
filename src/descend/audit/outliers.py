"""Pictures unlike all others: in what a pretrained network sees, or else in brightness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from descend.audit.material import Material
from descend.findings import Finding, counted

CHECK = "outliers"
NEIGHBOURS = 10  # the distance to this one tells how lonely a picture is
FAR = 5.0  # times the usual spread beyond the median: a picture there is named
MOST_NAMED = 0.02  # of the pictures
_AT_ONCE = 1024  # pictures compared with all others at once


def outliers(material: Material) -> list[Finding]:
    """Name pictures far from all others; a note, since rare is not wrong."""
    deep = material.deep
    if deep is None:
        mean = material.seen.rows["mean"].astype(np.float64)
        told = np.array([row for row in range(len(mean)) if row not in material.seen.reasons], np.int64)
        rows, scores, seen = told, np.abs(mean[told] - np.median(mean[told])), "brightness"
    else:
        rows, scores, seen = deep.rows, loneliness(deep.features, material.family[deep.rows]), f"features of {deep.network}"
    beyond = spreads(scores)
    order = np.argsort(-beyond, kind="stable")
    far = order[beyond[order] > FAR][: max(1, int(MOST_NAMED * len(rows)))]
    if not len(far):
        return [Finding(CHECK, "ok", f"no picture stands far from all others in {seen}", {"n": 0, "by": seen})]
    what = f"{counted(len(far), 'picture is', 'pictures are')} unlike the others in {seen}"
    table = tuple(material.told(int(rows[at]), spreads_beyond=float(beyond[at])) for at in far)
    return [Finding(CHECK, "note", what, {"n": len(far), "by": seen}, "Look whether they belong to the set.", table)]


def loneliness(features: NDArray[np.float32], units: NDArray[np.int64], *, k: int = NEIGHBOURS) -> NDArray[np.float64]:
    """Return each sample's distance to its k-th nearest neighbor of another unit: (n, D), (n,) -> (n,).

    Features are scaled to length 1 first. Source: Sun, Ming, Zhu & Li 2022, "Out-of-Distribution Detection with Deep Nearest
    Neighbors", arXiv:2204.06507.
    """
    similarity = nearest(features, units, k)[1]
    return np.sqrt(np.maximum(2 - 2 * similarity[:, -1], 0)) if similarity.size else np.zeros(len(features))


def nearest(features: NDArray[np.float32], units: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the k nearest neighbors of other units, by cosine: their places (n, k), nearest first, and their cosines (n, k).

    features: (n, D). units: (n,). With fewer than k others, a neighbor may be of the same unit, and its cosine is 1.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    n, k = len(unit), min(k, len(unit) - 1)
    places, cosines = np.zeros((n, k), np.int64), np.zeros((n, k))
    for start in range(0, n if k else 0, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        near = unit[part] @ unit.T
        near[units[part, None] == units[None, :]] = -np.inf  # copies are no company
        best = np.argpartition(near, n - k, axis=1)[:, n - k :]
        order = np.argsort(-np.take_along_axis(near, best, axis=1), axis=1, kind="stable")
        places[part] = np.take_along_axis(best, order, axis=1)
        found = np.take_along_axis(near, places[part], axis=1)
        cosines[part] = np.where(np.isfinite(found), found, 1)
    return places, cosines


def spreads(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each score lies above the median, in units of 1.48 median deviations."""
    deviation = scores - np.median(scores)
    spread = 1.4826 * float(np.median(np.abs(deviation)))
    return deviation / spread if spread > 0 else np.zeros(len(scores))

"""Textbook forms of gradient stages, in NumPy, unit by unit; they import nothing of descend."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def adaptive_clip(w: Array, g: Array, *, clip: float, eps: float) -> Array:
    def unit(w: Array, g: Array) -> Array:
        w_norm, g_norm = max(float(np.sqrt((w**2).sum())), eps), float(np.sqrt((g**2).sum()))
        return clip * w_norm / g_norm * g if g_norm / w_norm > clip else g

    return unit(w, g) if w.ndim < 2 else np.stack([unit(*pair) for pair in zip(w, g, strict=True)])


def centralize(g: Array) -> Array:
    return g if g.ndim < 2 else np.stack([row - row.sum() / row.size for row in g])

"""How alike two pictures are, pixel by pixel: the correlation of their colors, and of their details.

Details are the grey levels less their surroundings: they tell one photograph from another of the same kind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FAINT = 1.0  # levels: details whose standard deviation is less are noise
PLAIN, VISIBLE = 0.4, 3  # share of the pixels whose details have so many levels: drawings have fewer, and are alike by chance
ALIKE_DETAIL, ALIKE_BELOW = 0.5, 0.8  # correlations of the details of pairs that nearly pass ...
MOST_ALIKE = 0.05  # ... of which, for each picture, there are more where pictures resemble each other, as digits do
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue in a grey level (ITU-R BT.601)


def details(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the details of (B, S, S, 3): (B, S, S)."""
    return details_of_grey(pictures @ _WEIGHTS)


def details_of_grey(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return grey levels, (B, S, S), less the mean of the 5 x 5 pixels around each."""
    side = grey.shape[1]
    padded = np.pad(grey, ((0, 0), (2, 2), (2, 2)), mode="edge")
    around = sum(padded[:, dy : dy + side, dx : dx + side] for dy in range(5) for dx in range(5))
    return grey - around / 25


def covered(fine: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of a picture's pixels that have details to see: details (B, S, S) -> (B,)."""
    return (np.abs(fine) > VISIBLE).mean(axis=(1, 2))


def correlation(one: NDArray[np.float32], other: NDArray[np.float32], *, least: float = 0.0) -> NDArray[np.float32]:
    """Return Pearson's correlation of each pair, (B, ...) -> (B,); 0 where one's standard deviation is not above ``least``."""
    a, b = (values.reshape(len(values), int(np.prod(values.shape[1:]))) for values in (one, other))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    spread = a.std(axis=1) * b.std(axis=1)
    told = (a.std(axis=1) > least) & (b.std(axis=1) > least)
    return np.where(told, (a * b).mean(axis=1) / np.where(told, spread, 1), 0).astype(np.float32)

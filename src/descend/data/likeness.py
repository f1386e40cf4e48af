"""How alike two pictures are, pixel by pixel: the correlation of their colors, and of their details.

Details are the gray levels less their surroundings: they tell one photograph from another of the same kind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FAINT = 1.0  # levels: details whose standard deviation is less are noise
PLAIN, VISIBLE = 0.4, 3  # share of the pixels whose details have so many levels: drawings have fewer, and are alike by chance
DRAWN, FLAT = 0.5, 0.5  # share of the pixels whose details have so many levels: even an empty sky has more, paper and paint fewer
TWO_TONES, TONE = 0.75, 16  # share of the pixels that are so many levels from the darkest or the brightest: ink and paper
ALIKE_DETAIL, ALIKE_BELOW = 0.5, 0.8  # correlations of the details of pairs that nearly pass ...
MOST_ALIKE = 0.05  # ... of which, for each picture, there are more where pictures resemble each other, as digits do
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue in a gray level (ITU-R BT.601)


def details(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the details of (B, S, S, 3): (B, S, S)."""
    return details_of_gray(gray_of(pictures))


def gray_of(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the gray levels of (B, S, S, 3): (B, S, S)."""
    return pictures @ _WEIGHTS


def details_of_gray(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return gray levels, (B, S, S), less the mean of the 5 x 5 pixels around each."""
    side = gray.shape[1]
    padded = np.pad(gray, ((0, 0), (2, 2), (2, 2)), mode="edge")
    columns = np.sum([padded[:, dy : dy + side] for dy in range(5)], axis=0)
    around = np.sum([columns[:, :, dx : dx + side] for dx in range(5)], axis=0)
    return gray - around / 25


def is_plain(fine: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pictures have few details to see: details (B, S, S) -> (B,)."""
    return _share_above(fine, VISIBLE) < PLAIN


def is_drawn(gray: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pictures are drawings: even over half of their area, or of two tones. Gray levels (B, S, S) -> (B,).

    Measured: all written digits and drawn symbols are, as JPEG too; of 2,000 photographs 1%. A drawing looks like another one
    mirrored or turned by chance.
    """
    low, high = gray.min(axis=(1, 2), keepdims=True), gray.max(axis=(1, 2), keepdims=True)
    of_two = ((gray - low <= TONE) | (high - gray <= TONE)).mean(axis=(1, 2)) >= TWO_TONES
    return (_share_above(details_of_gray(gray), FLAT) < DRAWN) | of_two


def _share_above(fine: NDArray[np.float32], level: float) -> NDArray[np.float64]:
    return (np.abs(fine) > level).mean(axis=(1, 2))


def correlation(one: NDArray[np.float32], other: NDArray[np.float32], *, least: float = 0.0) -> NDArray[np.float32]:
    """Return Pearson's correlation of each pair, (B, ...) -> (B,); 0 where one's standard deviation is not above ``least``."""
    a, b = (values.reshape(len(values), int(np.prod(values.shape[1:]))) for values in (one, other))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    spread = a.std(axis=1) * b.std(axis=1)
    told = (a.std(axis=1) > least) & (b.std(axis=1) > least)
    return np.where(told, (a * b).mean(axis=1) / np.where(told, spread, 1), 0).astype(np.float32)

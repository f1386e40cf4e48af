"""Information dropping: boxes of the output that are painted over, so that no single part decides."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from descend.augment.factors import Dice, Draws, Floats, Ints, check_range
from descend.augment.transform import Augmentation
from descend.technique import Probability, Search, technique

Fill = Literal["mean", "black", "color"]

_ATTEMPTS = 10  # as in the paper's loop, which retries until the box fits; ten leave a miss in about 1 of 10,000


def paint(fill: Fill, shape: tuple[int, int], colors: Floats) -> NDArray[np.float32]:
    """Return the fills (B, n, 3) of ``shape`` (B, n) boxes; ``colors`` (3, B) in (0, 1) is read by "color" only."""
    if fill == "color":
        return np.broadcast_to((255 * colors.T)[:, None], (*shape, 3)).astype(np.float32)
    return np.full((*shape, 3), np.nan if fill == "mean" else 0.0, np.float32)


def boxes(top: Floats, left: Floats, height: Floats, width: Floats, canvas: tuple[int, int]) -> Ints:
    """Return boxes (..., 4) clipped to the canvas, from whole numbers of pixels (...)."""
    h, w = canvas
    sides = (np.clip(top, 0, h), np.clip(top + height, 0, h), np.clip(left, 0, w), np.clip(left + width, 0, w))
    return np.stack(sides, -1).astype(np.int64)


@technique("random_erasing", source="Zhong et al. 2017, arXiv:1708.04896, Algorithm 1")
class RandomErasing(Augmentation):
    """Paint over a box of random area, shape and place, with probability ``p``.

    Prefer it where objects may be hidden in part; it dislikes small decisive details. ``area_range``: share of the output,
    uniform. ``ratio_range``: height / width, log-uniform. ``fill``: "mean" (zero after normalisation), "black", or one random
    "color" a picture. Differs from the paper: it fills with noise, and draws the ratio uniformly.
    """

    stage = "erase"

    p: Probability = 0.5
    area_range: tuple[float, float] = (0.02, 0.33)
    ratio_range: tuple[float, float] = (0.3, 3.3)
    fill: Fill = "mean"

    def __post_init__(self) -> None:
        check_range("random_erasing", "area_range", self.area_range, 0.0, 1.0)
        check_range("random_erasing", "ratio_range", self.ratio_range, 0.01, 100.0)

    def draw(self, dice: Dice, draws: Draws) -> Draws:
        """Append one box a picture, empty where the coin says no or no attempt fits."""
        h, w = draws.canvas
        coin, place, colors, rest = np.split(dice.uniform(6 + 2 * _ATTEMPTS), [1, 3, 6])
        low, high = self.area_range
        area = h * w * (low + rest[:_ATTEMPTS] * (high - low))
        first, last = np.log(self.ratio_range)
        ratio = np.exp(first + rest[_ATTEMPTS:] * (last - first))
        height, width = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (height < h) & (width < w)
        pick = fits.argmax(0)[None]
        erased = fits.any(0) & (coin[0] < self.p)
        height = np.take_along_axis(height, pick, 0)[0] * erased
        width = np.take_along_axis(width, pick, 0)[0] * erased
        top, left = np.floor(place[0] * (h - height + 1)), np.floor(place[1] * (w - width + 1))
        draws = draws.erase(boxes(top, left, height, width, (h, w))[:, None], paint(self.fill, (len(draws), 1), colors))
        return draws.note(dice.stream, erased=erased, top=top, left=left, height=height, width=width)


@technique("cutout", source="DeVries & Taylor 2017, arXiv:1708.04552, section 3.2")
class Cutout(Augmentation):
    """Paint over a square whose middle may fall anywhere, so that it hangs over the border at times.

    ``fraction``: side of the square as a share of the shorter side (the paper: 16 of 32 px on CIFAR-10, 8 of 32 on CIFAR-100).
    """

    stage = "erase"

    fraction: Annotated[float, Gt(0), Le(1), Search(0.1, 0.6)] = 0.5
    p: Probability = 1.0
    fill: Fill = "mean"

    def draw(self, dice: Dice, draws: Draws) -> Draws:
        """Append one square a picture."""
        h, w = draws.canvas
        u = dice.uniform(6)
        side = np.rint(self.fraction * min(h, w)) * (u[0] < self.p)
        top, left = np.floor(u[1] * h) - side // 2, np.floor(u[2] * w) - side // 2
        draws = draws.erase(boxes(top, left, side, side, (h, w))[:, None], paint(self.fill, (len(draws), 1), u[3:]))
        return draws.note(dice.stream, side=side, top=top, left=left)

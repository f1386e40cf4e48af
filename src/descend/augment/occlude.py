"""Information dropping: boxes of the output that are painted over, so that no single part decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from descend.augment.array_types import Floats, Ints
from descend.augment.box_sampling import N_ATTEMPTS, draw_boxes, first_fit
from descend.augment.factors import Draws, check_range
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.technique import Probability, Search, technique

Fill = Literal["mean", "black", "color", "noise"]


def paint(fill: Fill, shape: tuple[int, int], colors: Floats) -> NDArray[np.float32]:
    """Return the fills (B, n, 3) of ``shape`` (B, n) boxes; ``colors`` (3, B) in (0, 1) is read by "color" only.

    NaN and infinity stand for the mean and for noise, see ``Draws.fills``.
    """
    if fill == "color":
        return np.broadcast_to((255 * colors.T)[:, None], (*shape, 3)).astype(np.float32)
    return np.full((*shape, 3), {"mean": np.nan, "black": 0.0, "noise": np.inf}[fill], np.float32)


def erase(draws: Draws, stream: RandomStream, boxes: Ints, fill: Fill, colors: Floats) -> Draws:
    """Append boxes (B, n, 4) with one kind of fill."""
    draws = draws.erase(boxes, paint(fill, boxes.shape[:2], colors))
    return replace(draws, grain=draws.grain or stream.key()) if fill == "noise" else draws


def noted(fill: Fill, colors: Floats) -> dict[str, Floats]:
    """Return the drawn color of each image, (B, 3) levels, where boxes are filled with it; ``colors`` as in ``paint``."""
    return {"color": 255 * colors.T} if fill == "color" else {}


def boxes(top: Floats, left: Floats, height: Floats, width: Floats, canvas: tuple[int, int]) -> Ints:
    """Return boxes (..., 4) clipped to the canvas, from whole numbers of pixels (...)."""
    h, w = canvas
    sides = (np.clip(top, 0, h), np.clip(top + height, 0, h), np.clip(left, 0, w), np.clip(left + width, 0, w))
    return np.stack(sides, -1).astype(np.int64)


@technique("random_erasing", source="Zhong et al. 2017, arXiv:1708.04896, Algorithm 1")
class RandomErasing(Augmentation):
    """Paint over a box of random area, shape and place, with probability ``p``.

        x' = fill in a box of height sqrt(a r W H) and width sqrt(a W H / r), x outside        a uniform on area_range
        log r uniform between the logarithms of ratio_range;  of ten draws the first that fits counts, each place in W x H alike

    Prefer it where objects may be hidden in part; it dislikes small decisive details. ``area_range``: share of the output,
    uniform. ``ratio_range``: height / width, log-uniform. ``fill``: "mean" (zero after normalization), "black", one random
    "color" per picture, or "noise", a number per pixel and channel that is standard normal after normalization, as in torchvision
    and timm. Differs from the paper: its noise is uniform over 0..255, it draws the ratio
    uniformly, and where a place lets the box hang over the border, it draws area and ratio anew, which favors small boxes; the
    authors' code places as here.
    """

    stage = "erase"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.5
    area_range: tuple[float, float] = (0.02, 0.33)
    ratio_range: tuple[float, float] = (0.3, 3.3)
    fill: Fill = "mean"

    def __post_init__(self) -> None:
        check_range("random_erasing", "area_range", self.area_range, 0.0, 1.0)
        check_range("random_erasing", "ratio_range", self.ratio_range, 0.01, 100.0)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append one box per image, empty where no attempt fits."""
        h, w = draws.canvas
        place, colors, rest = np.split(stream.uniform(5 + 2 * N_ATTEMPTS), [2, 5])
        height, width = draw_boxes(rest, self.area_range, self.ratio_range, (h, w))
        height, width = np.rint(height), np.rint(width)
        height, width, erased = first_fit(height, width, (height < h) & (width < w))
        height, width = height * erased, width * erased
        top, left = np.floor(place[0] * (h - height + 1)), np.floor(place[1] * (w - width + 1))
        draws = erase(draws, stream, boxes(top, left, height, width, (h, w))[:, None], self.fill, colors)
        drawn = {"erased": erased, "top": top, "left": left, "height": height, "width": width}
        return draws.note(stream.name, **drawn, **noted(self.fill, colors))


@technique("cutout", source="DeVries & Taylor 2017, arXiv:1708.04552, section 3.2")
class Cutout(Augmentation):
    """Paint over a square whose middle may fall anywhere, so that it sometimes hangs over the border.

        x' = fill in a square of side round(fraction min(W, H)) about (u, v), x outside        u, v uniform over the pixels

    ``fraction``: side of the square as a share of the shorter side (the paper: 16 of 32 px on CIFAR-10, 8 of 32 on CIFAR-100).
    """

    stage = "erase"
    neutral: ClassVar = {"p": 0.0}

    fraction: Annotated[float, Gt(0), Le(1), Search(0.1, 0.6)] = 0.5
    p: Probability = 1.0
    fill: Fill = "mean"

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append one square per image."""
        h, w = draws.canvas
        row, column, *colors = stream.uniform(5)
        side = np.full(len(draws), np.rint(self.fraction * min(h, w)))
        top, left = np.floor(row * h) - side // 2, np.floor(column * w) - side // 2
        draws = erase(draws, stream, boxes(top, left, side, side, (h, w))[:, None], self.fill, np.array(colors))
        return draws.note(stream.name, side=side, top=top, left=left, **noted(self.fill, np.array(colors)))


@technique("hide_and_seek", source="Singh & Lee 2017, arXiv:1704.04232, section 3.1")
class HideAndSeek(Augmentation):
    """Divide the picture into n x n patches, n = ``n_cells``, and hide each with probability ``p_hide``.

        x' = mean in patch (i, j) with probability p_hide, else x        rows i H / n to (i + 1) H / n,  columns alike

    What is hidden has the mean color, zero after normalization. Borders fall on whole pixels.
    """

    stage = "erase"
    neutral: ClassVar = {"p_hide": 0.0}

    n_cells: Annotated[int, Ge(2), Le(16), Search(3, 8)] = 4
    p_hide: Annotated[float, Ge(0), Le(1), Search(0.0, 0.6)] = 0.25
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the hidden patches."""
        h, w = draws.canvas
        hidden = self.p_hide > stream.uniform(self.n_cells**2).T
        rows, columns = (np.rint(np.linspace(0, side, self.n_cells + 1)) for side in (h, w))
        top, left = (edge.ravel() for edge in np.meshgrid(rows[:-1], columns[:-1], indexing="ij"))
        height, width = (side.ravel() for side in np.meshgrid(np.diff(rows), np.diff(columns), indexing="ij"))
        top, left = (np.broadcast_to(edge, hidden.shape).astype(np.float64) for edge in (top, left))
        patches = boxes(top, left, height * hidden, width * hidden, (h, w))
        return draws.erase(patches, paint("mean", hidden.shape, np.zeros((3, len(draws))))).note(stream.name, hidden=hidden)


@technique("grid_mask", source="Chen et al. 2020, arXiv:2001.04086, section 3")
class GridMask(Augmentation):
    """Hide a regular lattice of squares, with probability ``p``: evenly spread, so that hardly any object vanishes whole.

        (x, y) is hidden where frac(x / period - u) and frac(y / period - v) are both < hide_ratio        u, v uniform on [0, 1)

    ``period_range``: distance of the squares as a share of the shorter side, uniform. ``hide_ratio``: side of a square as a share
    of that distance. The lattice starts at a random phase. Differs from the paper: the lattice is not rotated, and the
    probability does not grow with the epoch.
    """

    stage = "erase"
    neutral: ClassVar = {"hide_ratio": 0.0}

    p: Probability = 0.5
    period_range: tuple[float, float] = (0.25, 0.5)
    hide_ratio: Annotated[float, Ge(0), Lt(1), Search(0.3, 0.7)] = 0.5

    def __post_init__(self) -> None:
        check_range("grid_mask", "period_range", self.period_range, 1 / 16, 1.0)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the squares of the lattice; noted in pixels, ``x`` and ``y`` the phase as shares of the period."""
        h, w = draws.canvas
        u, x, y = stream.uniform(3)
        low, high = self.period_range
        period = np.maximum((low + u * (high - low)) * min(h, w), 2.0)
        n_down, n_across = (int(np.ceil(side / max(low * min(h, w), 2.0))) + 1 for side in (h, w))
        top, left = np.meshgrid(np.arange(n_down) - 1.0, np.arange(n_across) - 1.0, indexing="ij")
        top, left = (np.rint((edge.ravel() + phase[:, None]) * period[:, None]) for edge, phase in ((top, y), (left, x)))
        side = np.rint(self.hide_ratio * period)[:, None] + 0 * top
        squares = boxes(top, left, side, side, (h, w))
        draws = draws.erase(squares, paint("mean", top.shape, np.zeros((3, len(draws)))))
        return draws.note(stream.name, period=period, side=side[:, 0], x=x, y=y)


@technique("coarse_dropout", source="DeVries & Taylor 2017, arXiv:1708.04552, with several holes; Buslaev et al. 2020")
class CoarseDropout(Augmentation):
    """Paint over ``n_holes`` small rectangles anywhere, each side a share of the picture's, uniform on ``side_range``.

        x' = fill in n_holes boxes of height a H and width b W, x outside        a, b uniform on side_range,  each place alike

    The boxes may overlap. ``fill``: as in ``random_erasing``.
    """

    stage = "erase"
    neutral: ClassVar = {"side_range": (0.0, 0.0)}

    n_holes: Annotated[int, Ge(1), Le(64), Search(2, 16)] = 8
    side_range: tuple[float, float] = (0.05, 0.15)
    fill: Fill = "mean"
    p: Probability = 1.0

    def __post_init__(self) -> None:
        check_range("coarse_dropout", "side_range", self.side_range, 0.0, 1.0)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the rectangles."""
        h, w = draws.canvas
        colors, u = np.split(stream.uniform(3 + 4 * self.n_holes), [3])
        top, left, tall, wide = u.T.reshape(-1, self.n_holes, 4).transpose(2, 0, 1)
        low, high = self.side_range
        height, width = np.rint((low + tall * (high - low)) * h), np.rint((low + wide * (high - low)) * w)
        holes = boxes(np.floor(top * (h - height + 1)), np.floor(left * (w - width + 1)), height, width, (h, w))
        draws = erase(draws, stream, holes, self.fill, colors)
        return draws.note(stream.name, holes=holes, **noted(self.fill, colors))

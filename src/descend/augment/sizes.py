"""Transforms that set the size of the output: a crop of the middle, the shorter side, the whole picture bent or in bars."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from descend.augment.factors import Draws, Sampling
from descend.augment.geometry import Pixels
from descend.augment.matrices import Canvas, fit, resized, translation
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.technique import technique


@technique("center_crop", source="common practice")
class CenterCrop(Augmentation):
    """Cut the middle ``size`` x ``size`` pixels, without chance or interpolation; too small a picture is enlarged first.

        (x, y) is read at (x + (W - size) // 2, y + (H - size) // 2)        W, H: the picture's sides, once both are >= size

    Prefer it over ``squash`` where what counts stands in the middle and its shape matters.
    """

    stage = "geometry"
    neutral: ClassVar = "it sets the size of the output"

    size: Pixels = 224

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the whole-pixel shift to the middle."""
        return fit(draws, (self.size, self.size)).note(stream.name)


@technique("resize", source="common practice")
class Resize(Augmentation):
    """Bring the shorter side to ``size`` pixels, without chance; the other side follows, so shapes stay true.

        (x, y) is read at (x / f, y / f)        f = size / min(W, H)

    Before ``center_crop`` it makes the usual view of evaluation: 256, then the middle 224. Sides are whole pixels.
    """

    stage = "geometry"
    neutral: ClassVar = "it sets the size of the output"

    size: Pixels = 256

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the change of size."""
        h, w = draws.canvas
        factor = self.size / min(h, w)
        return resized(draws, (round(h * factor), round(w * factor))).note(stream.name)


@technique("squash", source="common practice; fast.ai's ResizeMethod.Squish")
class Squash(Augmentation):
    """Stretch the whole picture over a square, without chance: nothing is cut away, but shapes are bent.

        (x, y) is read at (x W / w, y H / h)        W, H: the picture's sides;  w, h: the output's

    Prefer it over a crop where the border decides. ``size``: pixels per side; None takes the size of the pipeline, or where that
    has none the shorter side of the picture.
    """

    stage = "geometry"
    neutral: ClassVar = "it sets the size of the output"

    size: Pixels | None = None

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the change of size."""
        return resized(draws, target_of(self.size, draws, min(draws.canvas))).note(stream.name)


@technique("letterbox", source="Redmon & Farhadi 2018, arXiv:1804.02767 (the input of the darknet implementation)")
class Letterbox(Augmentation):
    """Bring the whole picture into a square and fill the rest with bars, without chance: shapes stay true, nothing is cut away.

        (x, y) is read at ((x - left) / f, (y - top) / f)        f = min(w / W, h / H)
        left = (w - f W) // 2,  top = (h - f H) // 2        W, H: the picture's sides;  w, h: the output's

    Sides are whole pixels. The bars have the mean color, zero after normalization; a ``resampling(...)`` in the list decides
    otherwise. ``size``: pixels per side; None takes the size of the pipeline, or where that has none the longer side of the
    picture. The border that it asks for holds for every geometry of the list: corners of a rotated picture look like the bars.
    """

    stage = "geometry"
    neutral: ClassVar = "it sets the size of the output"

    size: Pixels | None = None

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the change of size, and the move to the middle; an odd margin leaves the extra pixel below and to the right."""
        canvas = target_of(self.size, draws, max(draws.canvas))
        factor = min(want / have for want, have in zip(canvas, draws.canvas, strict=True))
        inner = tuple(max(1, round(factor * side)) for side in draws.canvas)
        top, left = ((want - have) // 2 for want, have in zip(canvas, inner, strict=True))
        zero = np.zeros(len(draws))
        placed = resized(draws, (inner[0], inner[1])).warp(translation(zero - left, zero - top), canvas)
        return replace(placed, sampling=draws.sampling or Sampling(border="constant")).note(stream.name)


def target_of(size: int | None, draws: Draws, side: int) -> Canvas:
    """Return the size asked for, else that of the pipeline, else a square of ``side`` pixels."""
    return (size, size) if size else draws.target or (side, side)

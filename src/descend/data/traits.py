"""What must be known of every picture before one policy can hold for all: whether it is deep, and whether it is transparent.

Most pictures are only opened; deep and transparent ones are looked at pixel by pixel, once. ``choose_policy`` then chooses the
scale and the background of the whole data set, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from descend.data.decode import alone_if_large
from descend.data.deep_color import is_deep_color
from descend.data.opening import loaded, naming, opened
from descend.data.problems import Problem, problem
from descend.errors import KnobError, PictureError
from descend.pixels import (
    BACKGROUNDS,
    FITS,
    Background,
    Fit,
    PixelPolicy,
    extremes,
    has_transparency,
    is_deep,
    is_one_color,
    shared_scale,
)

TRAITS = np.dtype([("size", "<i4", 2), ("flags", "u1"), ("low", "<f8"), ("high", "<f8")])
DEEP, FLOATS, NO_NUMBER, TRANSPARENT = 1, 2, 4, 8
BLANK_ON: dict[Background, int] = {"white": 16, "black": 32, "gray": 64}
NARROW = 0.1  # of the shared scale: a picture of 12 bits among those of 16 keeps 16 of 256 levels
_SPARED = 0.01  # of the transparent pictures may be blank on white before another background is chosen


def traits(content: bytes, *, name: str) -> NDArray[np.void]:
    """Look at the bytes of one picture: () ``TRAITS``. Raises PictureError, which names it.

    size: width and height as stored, before any orientation. flags: a sum of ``DEEP``, ``FLOATS``, ``NO_NUMBER`` (some pixel is
    NaN or infinite), ``TRANSPARENT`` and ``BLANK_ON`` each background. low, high: the extremes of a deep picture's values.
    """
    with naming(name):
        image = opened(content)
        assert isinstance(image, Image.Image)  # bytes are no array
        seen = np.zeros((), TRAITS)
        seen["size"] = image.size
        if image.has_transparency_data or is_deep(image) or is_deep_color(image):
            with alone_if_large(image):
                _look(image, seen)
        return seen


def _look(image: Image.Image, seen: NDArray[np.void]) -> None:
    floats = image.mode == "F"
    picture = loaded(image)
    flags = 0
    if is_deep(picture):
        seen["low"], seen["high"], n_missing = extremes(picture)
        if np.isnan(seen["low"]):
            raise PictureError("picture", "must be a readable picture (it holds no finite number)")
        flags = DEEP + FLOATS * floats + NO_NUMBER * (n_missing > 0)
    if has_transparency(picture):
        flags += TRANSPARENT + sum(BLANK_ON[on] for on in BACKGROUNDS if is_one_color(picture, on))
    seen["flags"] = flags


def choose_policy(
    seen: NDArray[np.void], names: Sequence[str], background: Literal["auto"] | Background = "auto", fit: Fit = "crop"
) -> tuple[PixelPolicy, list[Problem]]:
    """Choose how the pixels of a whole data set are read, and tell what its owner should know about that.

    seen: (n,) ``TRAITS`` of its pictures. names: (n,). background: ``auto`` takes white, unless more than 1% of the transparent
    pictures would be blank on it and fewer on black or gray; where none is transparent, the bars of ``fit="pad"`` are gray, the
    least conspicuous beside photographs and about zero after normalization. Raises KnobError for a background that no picture
    would show.
    """
    if fit not in FITS:
        raise KnobError("fit", f"must be one of {', '.join(FITS)}", got=fit)
    if background not in ("auto", *BACKGROUNDS):
        raise KnobError("background", f"must be auto, {', '.join(BACKGROUNDS)}", got=background)
    flags = seen["flags"]
    see_through = bool((flags & TRANSPARENT).any())
    if background != "auto" and fit != "pad" and not see_through:
        raise KnobError("background", "has no effect: no picture is transparent", got=background, fix="Leave it out.")
    scale, notes = _scale(seen)
    chosen = background if background != "auto" else "gray" if fit == "pad" and not see_through else _background(flags)
    if chosen != "white" and background == "auto" and see_through:
        n, n_blank = int((flags & TRANSPARENT > 0).sum()), int(_blank(flags, "white").sum())
        message = f"{n_blank:,} of {n:,} transparent pictures would be blank on white; all are laid on {chosen}"
        notes.append(Problem("background", message, n_blank))
    policy = PixelPolicy(scale, chosen, fit)
    blank = _blank(flags, chosen) | _within(seen, scale, 1 / 255)
    narrow = [names[int(row)] for row in np.flatnonzero(_within(seen, scale, NARROW) & ~blank)]
    dark = [names[int(row)] for row in np.flatnonzero(flags & NO_NUMBER)]
    plain = [names[int(row)] for row in np.flatnonzero(blank)]
    notes += problem(
        "no number", "1 picture has pixels that are no numbers, shown black",
        "{n} pictures have pixels that are no numbers, shown black", dark,
    )  # fmt: skip
    notes += problem(
        "narrow", "1 picture spans less than a tenth of these values and keeps few levels; its bits may be fewer",
        "{n} pictures span less than a tenth of these values and keep few levels; their bits may be fewer", narrow,
    )  # fmt: skip
    notes += problem(
        "blank", "1 picture shows a single color as it is read", "{n} pictures show a single color as they are read", plain
    )
    return policy, notes


def _blank(flags: NDArray[np.uint8], background: Background) -> NDArray[np.bool_]:
    return flags & BLANK_ON[background] > 0


def _background(flags: NDArray[np.uint8]) -> Background:
    n_blank = {background: int(_blank(flags, background).sum()) for background in BACKGROUNDS}
    if n_blank["white"] <= _SPARED * int((flags & TRANSPARENT > 0).sum()):
        return "white"
    return min(BACKGROUNDS, key=lambda background: n_blank[background])  # of equals the first


def _scale(seen: NDArray[np.void]) -> tuple[tuple[float, float] | None, list[Problem]]:
    deep = seen[seen["flags"] & DEEP > 0]
    if not len(deep):
        return None, []
    floats = bool((deep["flags"] & FLOATS > 0).any())
    scale = shared_scale(deep["low"].tolist(), deep["high"].tolist(), floats=floats)
    others = f"; the other {len(seen) - len(deep):,} stay as they are" if len(deep) < len(seen) else ""
    message = (f"{len(deep):,} {'picture holds' if len(deep) == 1 else 'pictures hold'} more than 8 bits: "
               f"stored values {scale[0]:g} to {scale[1]:g} become 0 to 255 in all of them{others}")  # fmt: skip
    return scale, [Problem("scale", message, len(deep))]


def _within(seen: NDArray[np.void], scale: tuple[float, float] | None, part: float) -> NDArray[np.bool_]:
    """Return which deep pictures span less than a part of the scale: (n,) bool."""
    if scale is None:
        return np.zeros(len(seen), np.bool_)
    return (seen["flags"] & DEEP > 0) & (seen["high"] - seen["low"] < part * (scale[1] - scale[0]))

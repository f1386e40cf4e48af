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
from descend.data.deep_color import is_cut, is_deep_color
from descend.data.opening import loaded, naming, opened
from descend.data.problems import Problem, problem
from descend.errors import KnobError, PictureError
from descend.pixel_choices import bars
from descend.pixels import (
    BACKGROUNDS,
    FITS,
    GROUND_LEVEL,
    ONE_COLOR,
    Background,
    DeepColor,
    Fit,
    Picture,
    PixelPolicy,
    extremes,
    has_transparency,
    is_deep,
    is_nearly_one_color,
    is_one_color,
    is_seen_through,
    levels,
    shared_scale,
)

TRAITS = np.dtype([("size", "<i4", 2), ("flags", "<u2"), ("low", "<f8"), ("high", "<f8")])
DEEP, FLOATS, NO_NUMBER, TRANSPARENT = 1, 2, 4, 8
BLANK_ON: dict[Background, int] = {"white": 16, "black": 32, "gray": 64}  # of pictures that are not deep
SEEN_THROUGH, APART, CUT, CLEAR = 128, 256, 512, 1024
NARROW = 0.1  # of the shared scale: a picture of 12 bits among those of 16 keeps 16 of 256 levels
_ODD = "values that mean missing data, or stand apart as padding does"
_CUT = "more than 8 bits per channel, in a format of which Pillow reads 8: save as PNG or TIFF what needs more"
_CLEAR = "wholly transparent, and nothing is seen of the colors beneath: if these are the picture, save it without alpha"
_SPARED = 0.01  # of the transparent pictures may be blank on white before another background is chosen


def traits(content: bytes, *, name: str) -> NDArray[np.void]:
    """Look at the bytes of one picture: () ``TRAITS``. Raises PictureError, which names it.

    size: width and height as stored, before any orientation. flags: a sum of ``DEEP``, ``FLOATS``, ``NO_NUMBER`` (some pixel is
    NaN or infinite), ``TRANSPARENT`` and ``BLANK_ON`` each background; ``CUT`` (Pillow reads 8 of its bits) and ``CLEAR`` (wholly
    transparent, with colors beneath); of a deep one, ``SEEN_THROUGH`` (some pixel is not opaque) and ``APART`` (some values were
    left out of its extremes). low, high: the extremes of a deep picture's values, NaN where all of them stand for missing data.
    """
    with naming(name):
        image = opened(content)
        assert isinstance(image, Image.Image)  # bytes are no array
        seen = np.zeros((), TRAITS)
        seen["size"], cut = image.size, CUT * is_cut(image)
        if image.has_transparency_data or is_deep(image) or is_deep_color(image):
            with alone_if_large(image):
                _look(image, seen)
        seen["flags"] += cut
        return seen


def _look(image: Image.Image, seen: NDArray[np.void]) -> None:
    floats = image.mode == "F"
    picture = loaded(image)
    flags = TRANSPARENT * has_transparency(picture)
    if is_deep(picture):
        seen["low"], seen["high"], n_missing, n_apart = extremes(picture)
        if np.isnan(seen["low"]) and not n_apart:
            raise PictureError("picture", "must be a readable picture (it holds no finite number)")
        flags += DEEP + FLOATS * floats + NO_NUMBER * (n_missing > 0) + APART * (n_apart > 0)
        flags += SEEN_THROUGH * (flags & TRANSPARENT > 0 and is_seen_through(picture))
    elif flags:
        flags += sum(BLANK_ON[on] for on in BACKGROUNDS if is_nearly_one_color(picture, on))
    seen["flags"] = flags + CLEAR * (flags & TRANSPARENT > 0 and _hides_colors(picture))


def _hides_colors(picture: Picture) -> bool:
    """Return whether a transparent picture has no pixel that is seen, and colors beneath."""
    parts = (picture.upper, picture.lower) if isinstance(picture, DeepColor) else (picture,)
    images = [part.convert("RGBA") for part in parts if isinstance(part, Image.Image)]
    if any(image.getchannel("A").getextrema() != (0, 0) for image in images):
        return False
    return any(not is_one_color(image.convert("RGB"), "white") for image in images[:1])


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
    scale, notes = _scale(seen)
    transparent = seen["flags"] & TRANSPARENT > 0
    if background != "auto" and fit != "pad" and not transparent.any():
        raise KnobError("background", "has no effect: no picture is transparent", got=background, fix="Leave it out.")
    blank_on: dict[Background, NDArray[np.bool_]] = {ground: _blank(seen, ground, scale) for ground in BACKGROUNDS}
    if background != "auto":
        chosen = background
    elif transparent.any():
        chosen, about_background = _background(transparent, blank_on)
        notes += about_background
    else:
        chosen = bars(fit)
    return PixelPolicy(scale, chosen, fit), [*notes, *_odd_pictures(seen, names, scale, blank_on[chosen])]


def _odd_pictures(
    seen: NDArray[np.void], names: Sequence[str], scale: tuple[float, float] | None, blank: NDArray[np.bool_]
) -> list[Problem]:
    """Return the problems of pictures that lose by how all are read: (n,), (n,), and which of them are blank, (n,)."""

    def named(rows: NDArray[np.bool_]) -> list[str]:
        return [names[int(row)] for row in np.flatnonzero(rows)]

    clear = seen["flags"] & CLEAR > 0
    return [
        *problem("clear", f"1 picture is {_CLEAR}", f"{{n}} pictures are {_CLEAR}", named(clear)),
        *problem("cut", f"1 picture holds {_CUT}", f"{{n}} pictures hold {_CUT}", named(seen["flags"] & CUT > 0)),
        *problem("no number", "1 picture has pixels that are no numbers, shown black",
                 "{n} pictures have pixels that are no numbers, shown black", named(seen["flags"] & NO_NUMBER > 0)),
        *problem("apart", f"1 picture holds {_ODD}: they are left out of the scale, and shown black or white",
                 f"{{n}} pictures hold {_ODD}: they are left out of the scale, and shown black or white",
                 named(seen["flags"] & APART > 0)),
        *problem("narrow", "1 picture spans less than a tenth of these values and keeps few levels; its bits may be fewer",
                 "{n} pictures span less than a tenth of these values and keep few levels; their bits may be fewer",
                 named(_narrow(seen, scale) & ~blank)),
        *problem("blank", "1 picture shows a single color, or nearly, as it is read",
                 "{n} pictures show a single color, or nearly, as they are read", named(blank & ~clear)),
    ]  # fmt: skip


def _narrow(seen: NDArray[np.void], scale: tuple[float, float] | None) -> NDArray[np.bool_]:
    """Return which deep pictures keep few levels: (n,) bool."""
    if scale is None:
        return np.zeros(len(seen), np.bool_)
    return (seen["flags"] & DEEP > 0) & deep_narrow(seen["low"], seen["high"], seen["flags"] & SEEN_THROUGH > 0, scale)


def _blank(seen: NDArray[np.void], background: Background, scale: tuple[float, float] | None) -> NDArray[np.bool_]:
    """Return which pictures are blank on a background: (n,) bool."""
    blank = seen["flags"] & BLANK_ON[background] > 0
    if scale is None:
        return blank
    deep = seen["flags"] & DEEP > 0
    return blank | (deep & deep_blank(seen["low"], seen["high"], seen["flags"] & SEEN_THROUGH > 0, background, scale))


def deep_blank(
    low: NDArray[np.float64], high: NDArray[np.float64], through: NDArray[np.bool_], background: Background,
    scale: tuple[float, float],
) -> NDArray[np.bool_]:  # fmt: skip
    """Return which deep pictures show one color, or nearly, on a background: (n,) bool.

    low, high: (n,) their extremes, NaN where all stands for missing data. through: (n,) which are seen through: there the ground
    is a color more. scale: of all.
    """
    low, high = (np.where(np.isnan(ends), scale[0], ends) for ends in (low, high))
    shown, ground = levels(np.stack([low, high]), scale).astype(np.int64), GROUND_LEVEL[background]
    on_ground = shown.max(axis=0, initial=ground) - shown.min(axis=0, initial=ground) <= ONE_COLOR
    return np.where(through, on_ground, high - low < (scale[1] - scale[0]) / 255)


def deep_narrow(
    low: NDArray[np.float64], high: NDArray[np.float64], through: NDArray[np.bool_], scale: tuple[float, float]
) -> NDArray[np.bool_]:
    """Return which deep pictures, (n,), span less than a tenth of the scale, but for those seen through, which no scale fits."""
    return (np.nan_to_num(high - low) < NARROW * (scale[1] - scale[0])) & ~through


def _background(
    transparent: NDArray[np.bool_], blank_on: dict[Background, NDArray[np.bool_]]
) -> tuple[Background, list[Problem]]:
    """Return white, or what fewer of the transparent pictures are blank on, and why: (n,), and for each background (n,)."""
    n, n_blank = int(transparent.sum()), {ground: int((rows & transparent).sum()) for ground, rows in blank_on.items()}
    if n_blank["white"] <= _SPARED * n:
        return "white", []
    chosen = min(BACKGROUNDS, key=lambda background: n_blank[background])  # of equals the first
    if chosen == "white":
        return chosen, []
    message = f"{n_blank['white']:,} of {n:,} transparent pictures would be blank on white; all are laid on {chosen}"
    return chosen, [Problem("background", message, n_blank["white"])]


def _scale(seen: NDArray[np.void]) -> tuple[tuple[float, float] | None, list[Problem]]:
    deep = seen[seen["flags"] & DEEP > 0]
    if not len(deep):
        return None, []
    telling = deep[~np.isnan(deep["low"])]  # the others hold nothing but missing data
    floats = bool((deep["flags"] & FLOATS > 0).any())
    # a background has a level of its own: what is seen through is not stretched, or its colors would become those behind it
    stretched = not (deep["flags"] & SEEN_THROUGH > 0).any()
    scale = shared_scale(telling["low"].tolist() or [0], telling["high"].tolist() or [0], floats=floats, stretched=stretched)
    n_others = len(seen) - len(deep)
    others = (f"; the other {n_others:,}, of 8 bits, stay as they are: where both kinds show the same things, one may look "
              "darker than the other; save all of them in one kind") if n_others else ""  # fmt: skip
    message = (f"{len(deep):,} {'picture holds' if len(deep) == 1 else 'pictures hold'} more than 8 bits: "
               f"stored values {scale[0]:g} to {scale[1]:g} become 0 to 255 in all of them{others}")  # fmt: skip
    return scale, [Problem("scale", message, len(deep))]

"""The one way to read a picture: whatever comes in, an upright ``(H, W, 3) uint8`` RGB image comes out, or an error does.

* EXIF orientation is applied.
* Pixels become levels by the policy of ``descend.pixels``: deep pictures are scaled, transparent ones laid on a background.
* Of an animation, or a file of several pages, the first frame that is not all one color counts.
* Resizing is Pillow's antialiased bicubic. A picture becomes square by the ``fit`` of its policy: ``crop``, shorter side first,
  then the center (the evaluation geometry of timm and torchvision to the pixel); ``squash``, both sides at once; ``pad``, longer
  side first, then bars (the geometry of ``PIL.ImageOps.pad``). Only a JPEG at least ``2 * DRAFT_GAP`` times larger along each
  side than it will be, or beyond Pillow's limit, is first shrunk while it is decoded.

Memory: beside its file, a picture takes 4 bytes per pixel (3 in 16-bit gray), 8 with transparency, 12 in 16-bit color, and 4
more where it must be turned; some decoders take more by themselves: 7 in a progressive JPEG, 8 in AVIF, 12 in WebP, 16 in JPEG
2000. At Pillow's limit of 89 million pixels that is 0.3 to 1.8 GB. Pictures beyond ``LARGE`` pixels are decoded one at a time,
whatever the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from descend.data.large_jpeg import is_held_whole, largest_draft
from descend.data.opening import Source, check_pixels, loaded, name_of, naming, opened
from descend.errors import check_count
from descend.pixels import (
    GROUND_LEVEL,
    SIDEWAYS,
    USUAL,
    Background,
    Fit,
    Picture,
    PixelPolicy,
    flattened,
    orientation,
    rgb,
    turned,
)

POLICY = 6  # part of every cache key: raise it when any pixel of any picture would change
DRAFT_GAP = 2  # a drafted JPEG still has this many times the pixels asked for along each side, so the bicubic filter decides
LARGE = 2**24  # pixels: a picture beyond is decoded alone, so that threads do not multiply its memory
LARGEST_SIDE = 8_192  # pixels of a resized picture: 200 MB
_LONGEST = 4  # pictures longer than this many times their width are resized only where the crop will be
_alone = threading.Lock()

Look = Callable[[Picture], None]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


def decode(source: Source, *, name: str | None = None, policy: PixelPolicy = USUAL) -> NDArray[np.uint8]:
    """Decode a picture: a path, encoded bytes, an open file, a Pillow image or an array -> (H, W, 3) uint8, RGB.

    An array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, uint8 or uint16. name: what errors call the picture. policy:
    the scale and the background of the data set it belongs to. Raises PictureError, which names the picture and the reason.
    """
    with naming(name or name_of(source)):
        image = opened(source)
        if image is not source:
            check_pixels(image)
        with alone_if_large(image):
            return rgb(_upright(image, policy))


def decode_resized(
    source: Source, resolution: int, *, name: str | None = None, policy: PixelPolicy = USUAL, look: Look | None = None
) -> NDArray[np.uint8]:  # fmt: skip
    """Decode a picture and make it a square of ``resolution`` pixels per side by the policy's fit: (R, R, 3) uint8, RGB.

    ``crop`` brings the shorter side to R and keeps the center, ``squash`` brings both sides to R, ``pad`` brings the longer side
    to R and lays the picture on the middle of the background. A picture that has its size already is cropped or padded only,
    without interpolation. source, name, policy: as in ``decode``. look: is given the pixels as they are stored, before they
    become levels. Raises PictureError.
    """
    check_count("decode_resized", resolution, knob="resolution", most=LARGEST_SIDE)
    with naming(name or name_of(source)):
        image = opened(source)
        held = alone_if_large(image) if is_held_whole(image) else None  # before its size is that of a draft
        drafted = None if image is source else _draft(image, resolution, policy.fit)
        if image is not source:
            check_pixels(image)
        with held or alone_if_large(image):
            upright = _upright(image, policy, look)
            box = _drafted_box(upright, drafted, orientation(image)) if drafted else (0.0, 0.0, *upright.size)
            return rgb(_fitted(upright, box, resolution, policy))


def alone_if_large(image: Image.Image | NDArray[Any]) -> AbstractContextManager[Any]:
    """Keep other large pictures from being decoded at the same time, if this one is large."""
    width, height = image.size if isinstance(image, Image.Image) else (0, 0)
    return _alone if width * height > LARGE else nullcontext()


def _upright(image: Image.Image | NDArray[Any], policy: PixelPolicy, look: Look | None = None) -> Image.Image:
    """Return a picture in mode L or RGB, turned as its EXIF orientation says."""
    stored = loaded(image)
    if look is not None:
        look(stored)
    return turned(flattened(stored, policy), orientation(image))


def _draft(image: Image.Image | NDArray[Any], resolution: int, fit: Fit) -> tuple[float, float] | None:
    """Let a JPEG's decoder shrink by 2, 4 or 8 where that leaves enough; return the exact (width, height), before rounding up."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    wanted, most = _resized(image.size, resolution, fit), largest_draft(image.size)
    drafted = image.draft(None, (min(DRAFT_GAP * wanted[0], most[0]), min(DRAFT_GAP * wanted[1], most[1])))
    return None if drafted is None else drafted[1][2:]


def _drafted_box(upright: Image.Image, exact: tuple[float, float], turn: int) -> Box:
    """Return (left, top, right, bottom) of the picture proper: a draft pads right and bottom, and turning moves the padding."""
    width, height = exact[::-1] if turn in SIDEWAYS else exact
    left = upright.width - width if turn in (2, 3, 6, 7) else 0.0
    top = upright.height - height if turn in (3, 4, 7, 8) else 0.0
    return left, top, left + width, top + height


def _resized(size: tuple[float, float], resolution: int, fit: Fit) -> tuple[int, int]:
    """Return the (width, height) of the resized picture before it is cropped or padded to ``resolution``.

    ``crop`` rounds the longer side down, as torchvision does; ``pad`` rounds the shorter one to the nearest, as Pillow does.
    """
    width, height = size
    if fit == "squash":
        return resolution, resolution
    if fit == "pad":
        shorter = max(1, round(min(size) / max(size) * resolution))
        return (shorter, resolution) if width <= height else (resolution, shorter)
    longer = int(resolution * max(size) / min(size))
    return (resolution, longer) if width <= height else (longer, resolution)


def _fitted(image: Image.Image, box: Box, resolution: int, policy: PixelPolicy) -> Image.Image:
    """Make what is in ``box`` a square of ``resolution`` pixels per side."""
    size = _resized((box[2] - box[0], box[3] - box[1]), resolution, policy.fit)
    if policy.fit == "crop":
        return _cropped(image, box, size, resolution)
    whole = image if image.size == size else image.resize(size, Image.Resampling.BICUBIC, box=box)
    return _on_bars(whole, resolution, policy.background) if policy.fit == "pad" else whole


def _on_bars(image: Image.Image, resolution: int, background: Background) -> Image.Image:
    """Lay a picture of mode L or RGB on the middle of a plain square."""
    level = GROUND_LEVEL[background]
    square = Image.new(image.mode, (resolution, resolution), level if image.mode == "L" else (level, level, level))
    square.paste(image, (round((resolution - image.width) / 2), round((resolution - image.height) / 2)))
    return square


def _cropped(image: Image.Image, box: Box, size: tuple[int, int], resolution: int) -> Image.Image:
    """Resize what is in ``box`` to ``size`` (width, height) and keep its center."""
    width, height = size
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)  # half to even, as torchvision rounds
    if max(width, height) > _LONGEST * resolution:
        x, y = (box[2] - box[0]) / width, (box[3] - box[1]) / height  # source pixels for each of ours
        corner = box[0] + left * x, box[1] + top * y
        part = (*corner, corner[0] + resolution * x, corner[1] + resolution * y)
        return image.resize((resolution, resolution), Image.Resampling.BICUBIC, box=part)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return image.crop((left, top, left + resolution, top + resolution))

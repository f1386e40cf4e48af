"""The one way to read a picture: whatever comes in, an upright ``(H, W, 3) uint8`` RGB image comes out, or an error does.

* EXIF orientation is applied.
* Pixels become levels by the policy of ``descend.pixels``: deep pictures are scaled, transparent ones laid on a background.
* Of an animation, the first frame counts.
* Resizing is Pillow's antialiased bicubic, shorter side first, then a centre crop: the evaluation geometry of timm and
  torchvision to the pixel. Only a JPEG at least ``2 * DRAFT_GAP`` times larger than the size asked for is first shrunk while it
  is decoded.

Memory: beside its file, a picture takes 4 bytes per pixel (3 in 16-bit grey), 8 with transparency, 12 in 16-bit color, and 4
more where it must be turned: at Pillow's limit of 89 million pixels 0.3 to 1.4 GB. Pictures beyond ``LARGE`` pixels are decoded
one at a time, whatever the number of threads.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from descend.data.opening import Source, loaded, name_of, naming, opened
from descend.errors import check_count
from descend.pixels import SIDEWAYS, USUAL, PixelPolicy, flattened, orientation, rgb, turned

POLICY = 2  # part of every cache key: raise it when any pixel of any picture would change
DRAFT_GAP = 2  # a drafted JPEG still has this many times the pixels asked for along each side, so the bicubic filter decides
LARGE = 2**24  # pixels: a picture beyond is decoded alone, so that threads do not multiply its memory
_LONGEST = 4  # pictures longer than this many times their width are resized only where the crop will be
_alone = threading.Lock()


def decode(source: Source, *, name: str | None = None, policy: PixelPolicy = USUAL) -> NDArray[np.uint8]:
    """Decode a picture: a path, encoded bytes, an open file, a Pillow image or an array -> (H, W, 3) uint8, RGB.

    An array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, uint8 or uint16. name: what errors call the picture. policy:
    the scale and the background of the data set it belongs to. Raises PictureError, which names the picture and the reason.
    """
    with naming(name or name_of(source)):
        image = opened(source)
        with alone_if_large(image):
            return rgb(_upright(image, policy))


def decode_resized(source: Source, resolution: int, *, name: str | None = None, policy: PixelPolicy = USUAL) -> NDArray[np.uint8]:
    """Decode a picture, bring its shorter side to ``resolution`` pixels and crop the centre: (R, R, 3) uint8, RGB.

    A picture whose shorter side has that size already is cropped only, without interpolation. source, name, policy: as in
    ``decode``. Raises PictureError.
    """
    check_count("decode_resized", resolution, knob="resolution")
    with naming(name or name_of(source)):
        image = opened(source)
        drafted = None if image is source else _draft(image, resolution)
        with alone_if_large(image):
            upright = _upright(image, policy)
            box = _drafted_box(upright, drafted, orientation(image)) if drafted else (0.0, 0.0, *upright.size)
            return rgb(_fitted(upright, box, resolution))


def alone_if_large(image: Image.Image | NDArray[Any]) -> AbstractContextManager[Any]:
    """Keep other large pictures from being decoded at the same time, if this one is large."""
    width, height = image.size if isinstance(image, Image.Image) else (0, 0)
    return _alone if width * height > LARGE else nullcontext()


def _upright(image: Image.Image | NDArray[Any], policy: PixelPolicy) -> Image.Image:
    """Return the first frame in mode L or RGB, turned as its EXIF orientation says."""
    return turned(flattened(loaded(image), policy), orientation(image))


def _draft(image: Image.Image | NDArray[Any], resolution: int) -> tuple[float, float] | None:
    """Let a JPEG's decoder shrink by 2, 4 or 8 where that leaves enough; return the exact (width, height), before rounding up."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    wanted = _resized(image.size, resolution)
    drafted = image.draft(None, (DRAFT_GAP * wanted[0], DRAFT_GAP * wanted[1]))
    return None if drafted is None else drafted[1][2:]


def _drafted_box(upright: Image.Image, exact: tuple[float, float], turn: int) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of the picture proper: a draft pads right and bottom, and turning moves the padding."""
    width, height = exact[::-1] if turn in SIDEWAYS else exact
    left = upright.width - width if turn in (2, 3, 6, 7) else 0.0
    top = upright.height - height if turn in (3, 4, 7, 8) else 0.0
    return left, top, left + width, top + height


def _resized(size: tuple[float, float], resolution: int) -> tuple[int, int]:
    """Return (width, height) with the shorter side at ``resolution``; the longer one is rounded down, as in torchvision."""
    width, height = size
    longer = int(resolution * max(size) / min(size))
    return (resolution, longer) if width <= height else (longer, resolution)


def _fitted(image: Image.Image, box: tuple[float, float, float, float], resolution: int) -> Image.Image:
    """Resize what is in ``box`` (left, top, right, bottom) and crop its centre."""
    width, height = _resized((box[2] - box[0], box[3] - box[1]), resolution)
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)  # half to even, as torchvision rounds
    if max(width, height) > _LONGEST * resolution:
        x, y = (box[2] - box[0]) / width, (box[3] - box[1]) / height  # source pixels for each of ours
        corner = box[0] + left * x, box[1] + top * y
        part = (*corner, corner[0] + resolution * x, corner[1] + resolution * y)
        return image.resize((resolution, resolution), Image.Resampling.BICUBIC, box=part)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return image.crop((left, top, left + resolution, top + resolution))

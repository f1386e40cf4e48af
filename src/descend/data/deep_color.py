"""Color files of 16 bits per channel, whole: Pillow has no mode for them and keeps the upper 8 bits only.

Its decoders know two byte orders for such files. Reading in the file's own order gives the upper bytes of all channels, reading
once more in the other order gives the lower bytes; nothing of the format is parsed here.
"""

from __future__ import annotations

import sys
from typing import TypeGuard

from PIL import Image, ImageFile

from descend.pixels import DeepColor

_NATIVE = "16L" if sys.byteorder == "little" else "16B"
_OTHER = {"16B": "16L", "16L": "16B", "16N": "16B" if _NATIVE == "16L" else "16L"}
_LAYOUTS = ("RGB", "RGBX", "RGBA")
_GRAY_ALPHA = "LA;16B"  # of PNG files: read as RGBA, its 4 bytes are the upper and lower ones of gray and of alpha


def is_deep_color(image: Image.Image) -> TypeGuard[ImageFile.ImageFile]:
    """Return whether an image that has not been loaded yet holds 16 bits per color channel, in a layout that is known here."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return bool(tiles) and all(_other_order(tile.args) is not None for tile in tiles)


def read_deep_color(image: ImageFile.ImageFile) -> DeepColor:
    """Return the whole pixels of a file that is opened and not loaded."""
    layout = _raw_mode(image.tile[0].args)
    assert image.fp is not None and image.format is not None  # noqa: PT018 (it is not loaded yet)
    again = Image.open(image.fp, formats=[image.format])
    assert isinstance(again, ImageFile.ImageFile)  # as the first one
    again.tile = [tile._replace(args=_other_order(tile.args)) for tile in again.tile]
    again.load()
    image.load()  # last: it closes the file
    if layout != _GRAY_ALPHA:
        return DeepColor(image, again)
    gray, gray_low, alpha, alpha_low = again.split()
    return DeepColor(Image.merge("LA", (gray, alpha)), Image.merge("LA", (gray_low, alpha_low)))


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _other_order(args: object) -> object:
    """Return the arguments of a decoder that reads the other bytes, or None for files of another kind."""
    layout, _, order = _raw_mode(args).partition(";")
    if _raw_mode(args) == _GRAY_ALPHA:
        other = "RGBA"
    elif layout in _LAYOUTS and order in _OTHER:
        other = f"{layout};{_OTHER[order]}"
    else:
        return None
    return (other, *args[1:]) if isinstance(args, tuple) else other

"""Color files of 16 bits per channel, whole: Pillow has no mode for them and keeps the upper 8 bits only.

Its decoders know two byte orders for such files. Reading in the file's own order gives the upper bytes of all channels, reading
once more in the other order gives the lower bytes; nothing of the format is parsed here. Nor does Pillow write such files: the
one that is written here is a PNG without filters.

Source of the format: W3C, Portable Network Graphics (Third Edition), sections 5 and 11.
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from descend.pixels import DeepColor

_NATIVE = "16L" if sys.byteorder == "little" else "16B"
_OTHER = {"16B": "16L", "16L": "16B", "16N": "16B" if _NATIVE == "16L" else "16L"}
_LAYOUTS = ("RGB", "RGBX", "RGBA")
_COLOR_TYPES = {3: 2, 4: 6}  # of PNG, by the number of channels
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


def encode_deep_color(pixels: NDArray[np.uint16]) -> bytes:
    """Return (H, W, 3) or (H, W, 4) uint16 as a PNG file of all their bits, which Pillow does not write."""
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + 2 * channels * width), np.uint8)  # before each row, 0: it is not filtered
    rows[:, 1:] = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


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

"""Color files of 16 bits per channel, whole: Pillow has no mode for them and keeps the upper 8 bits only.

Its decoders know two byte orders for such files. Reading in the file's own order gives the upper bytes of all channels, reading
once more in the other order gives the lower bytes; nothing of the format is parsed here. TIFF files that keep channels apart are
read plane by plane (``planar_tiff``), and a PPM file as a gray one of three times the width, which Pillow reads whole. Of some
formats it reads 8 bits in any way (``is_cut``). Nor does it write such files: what is written here is a PNG without filters.

Source of the formats: W3C, Portable Network Graphics (Third Edition), sections 5 and 11; ISO/IEC 15444-1, A.5.1 (JPEG 2000);
AV1 Codec ISO Media File Format Binding, 2.3 (AVIF); SGI Image File Format 1.00.
"""

from __future__ import annotations

import struct
import sys
import zlib
from io import BytesIO
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.PpmImagePlugin import PpmImageFile

from descend.data.planar_tiff import is_planar, plane
from descend.pixels import DeepColor
from descend.tiff_tags import is_premultiplied, no_data

_NATIVE = "16L" if sys.byteorder == "little" else "16B"
_OTHER = {"16B": "16L", "16L": "16B", "16N": "16B" if _NATIVE == "16L" else "16L"}
_READ_AS = {"RGB": "RGB", "RGBX": "RGBX", "RGBA": "RGBA", "RGBa": "RGBA", "CMYK": "CMYK"}  # layouts; a: multiplied by alpha
_COLOR_TYPES = {3: 2, 4: 6}  # of PNG, by the number of channels
_GRAY_ALPHA = "LA;16B"  # of PNG files: read as RGBA, its 4 bytes are the upper and lower ones of gray and of alpha
_STRIP = 2**18  # pixels converted at once
_HEADER = 2**16  # bytes in which a file says how many bits it has
_STREAM, _DEPTH = b"\xff\x4f\xff\x51", 42  # how a code stream of JPEG 2000 begins; where the bits of a channel stand, less 1
_AV1, _HIGH_DEPTH = b"av1C", 0x40  # a box of AVIF; a bit in its third byte


def is_deep_color(image: Image.Image) -> TypeGuard[ImageFile.ImageFile]:
    """Return whether an image that has not been loaded yet holds 16 bits per color channel, in a layout that is known here."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return bool(tiles) and (is_planar(image) or _is_ppm(image) or all(_other_order(tile.args) is not None for tile in tiles))


def read_deep_color(image: ImageFile.ImageFile) -> DeepColor:
    """Return the whole pixels of a file that is opened and not loaded."""
    if is_planar(image):
        return _in_color(np.stack([np.asarray(plane(image, number)) for number in range(len(image.mode))], axis=2), image)
    if _is_ppm(image):
        return _split(_read_ppm(image), None)
    layout = _raw_mode(image.tile[0].args)
    lower = _in_other_order(image, 1)
    if layout == _GRAY_ALPHA:
        image.load()  # last: it closes the file
        gray, gray_low, alpha, alpha_low = lower.split()
        return DeepColor(Image.merge("LA", (gray, alpha)), Image.merge("LA", (gray_low, alpha_low)))
    upper = _in_other_order(image, 2) if layout.startswith("RGBa") else image
    image.load()
    if layout.startswith(("RGBa", "CMYK")):
        values: NDArray[np.uint16] = np.asarray(upper, np.uint16) << np.uint16(8)
        return _in_color(values | np.asarray(lower, np.uint16), image)
    return DeepColor(image, lower)


def is_cut(image: Image.Image) -> bool:
    """Return whether an image that has not been loaded yet holds more bits per channel than the 8 that Pillow reads of it."""
    if not isinstance(image, ImageFile.ImageFile) or image.fp is None or image.mode.startswith("I"):
        return image.format == "HEIF" and image.info.get("bit_depth", 8) > 8
    if image.format not in ("JPEG2000", "AVIF", "SGI"):
        return False
    position = image.fp.tell()
    image.fp.seek(0)
    content = image.fp.read(_HEADER)
    image.fp.seek(position)
    if image.format == "SGI":
        return content[3:4] == b"\2"  # bytes per channel
    mark, place = (_STREAM, _DEPTH) if image.format == "JPEG2000" else (_AV1, len(_AV1) + 2)
    at = content.find(mark)
    byte = int.from_bytes(content[at + place : at + place + 1]) if at >= 0 else 0
    return byte & 0x7F > 7 if image.format == "JPEG2000" else byte & _HIGH_DEPTH > 0


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


def _in_other_order(image: ImageFile.ImageFile, times: int) -> Image.Image:
    """Return an image of the bytes that a file gives where the order of its bytes is exchanged so many times."""
    assert image.fp is not None and image.format is not None  # noqa: PT018 (it is not loaded yet)
    again = Image.open(image.fp, formats=[image.format])
    assert isinstance(again, ImageFile.ImageFile)  # as the first one
    for _ in range(times):
        again.tile = [tile._replace(args=_other_order(tile.args)) for tile in again.tile]
    again.load()
    return again


def _in_color(values: NDArray[np.uint16], image: Image.Image) -> DeepColor:
    """Return RGB or RGBA of the stored values of an image, (H, W, 3) or (H, W, 4): of CMYK, and of colors multiplied by alpha."""
    if image.mode == "CMYK" or is_premultiplied(image):
        n_left = 3 if image.mode == "CMYK" else 4
        colors, height = np.empty((*values.shape[:2], n_left), np.uint16), max(1, _STRIP // values.shape[1])
        for top in range(0, len(values), height):
            rows = slice(top, top + height)
            colors[rows] = _of_inks(values[rows]) if n_left == 3 else _divided(values[rows])
        values = colors
    return _split(values, no_data(image))


def _of_inks(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return RGB of CMYK, (H, W, 4) -> (H, W, 3), as Pillow does with 8 bits."""
    inks = values.astype(np.float64) / 65535
    return np.rint((1 - inks[..., :3]) * (1 - inks[..., 3:]) * 65535).astype(np.uint16)


def _divided(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return RGBA whose colors, (H, W, 4), are no longer multiplied by alpha; as they are where that is 0."""
    alpha = values[..., 3:].astype(np.float64)
    colors = np.rint(values[..., :3] * (65535 / np.where(alpha > 0, alpha, 65535))).clip(0, 65535)
    return np.concatenate([colors.astype(np.uint16), values[..., 3:]], axis=2)


def _split(values: NDArray[np.uint16], no_data: float | None) -> DeepColor:
    """Return (H, W, 3) or (H, W, 4) as two images of 8 bits."""
    return DeepColor(Image.fromarray((values >> 8).astype(np.uint8)), Image.fromarray(values.astype(np.uint8)), no_data)


def _is_ppm(image: Image.Image) -> bool:
    """Return whether an image, opened and not loaded, is a PPM file of more than 8 bits: its largest number is told there."""
    args = image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.format == "PPM" and image.tile else None
    return image.mode == "RGB" and isinstance(args, tuple) and len(args) == 2 and args[1] > 255


def _read_ppm(image: ImageFile.ImageFile) -> NDArray[np.uint16]:
    """Return the colors of a PPM file, (H, W, 3), its largest number as 65535: what Pillow makes of a gray one."""
    tile, (width, height) = image.tile[0], image.size
    assert image.fp is not None and isinstance(tile.args, tuple)  # noqa: PT018 (it is not loaded yet)
    image.fp.seek(tile.offset)
    kind = "P2" if tile.codec_name == "ppm_plain" else "P5"
    gray = PpmImageFile(BytesIO(f"{kind} {3 * width} {height} {tile.args[1]}\n".encode() + image.fp.read()))  # no Image.open:
    return np.asarray(gray).astype(np.uint16).reshape(height, width, 3)  # thrice the width may be beyond Pillow's limit


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _other_order(args: object) -> object:
    """Return the arguments of a decoder that reads the other bytes, or None for files of another kind."""
    layout, _, order = _raw_mode(args).partition(";")
    if _raw_mode(args) == _GRAY_ALPHA:
        other = "RGBA"
    elif layout in _READ_AS and order in _OTHER:
        other = f"{_READ_AS[layout]};{_OTHER[order]}"
    else:
        return None
    return (other, *args[1:]) if isinstance(args, tuple) else other

"""Files cut short whose decoders do not notice: PCX with a palette, and JPEG 2000.

Every other format fails by itself when bytes are missing. These two decode to other pixels: a PCX file keeps its colors in its
last 769 bytes, and the rest is gray without them; OpenJPEG shows as much of a code stream as there is.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import IO

from PIL import Image, ImageFile

from descend.errors import PictureError

_PALETTE = 769  # bytes: a mark and 256 colors
_END_OF_CODE_STREAM = b"\xff\xd9"  # no byte after 0xff exceeds 0x8f inside, so the mark occurs nowhere else


def refuse_truncated(image: Image.Image) -> None:
    """Raise PictureError for an image, opened and not loaded, whose file is cut short unknown to its decoder."""
    if not isinstance(image, ImageFile.ImageFile) or image.fp is None or image.format not in ("PCX", "JPEG2000"):
        return
    position = image.fp.tell()
    if image.format == "PCX":
        _check_palette(image, image.fp)
    elif not _code_stream_ends(image.fp):
        raise _truncated()
    if image.fp is not None:
        image.fp.seek(position)


def _check_palette(image: ImageFile.ImageFile, file: IO[bytes]) -> None:
    """Check the palette of a PCX file of 8 bits, and keep its decoder from reading the palette as pixels."""
    file.seek(0)
    content = file.read()
    version, bits, planes = content[1], content[3], content[65]
    if (version, bits, planes) != (5, 8, 1):
        return
    if len(content) < 128 + _PALETTE or content[-_PALETTE] != 12:
        raise _truncated()
    image.fp = BytesIO(content[:-_PALETTE])


def _code_stream_ends(file: IO[bytes]) -> bool:
    """Say whether the code stream of a JPEG 2000 file, bare or in a box, is there to its end."""
    n_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    start, end = 0, n_bytes
    if file.read(4) != b"\xff\x4f\xff\x51":  # not bare: boxes, each with its length and its kind
        kind, start, end = b"", 0, 0
        while kind != b"jp2c":
            start = end
            file.seek(start)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:  # the length follows, in 8 bytes
                length = int.from_bytes(header[8:16], "big")
            end = n_bytes if length == 0 else start + length
            if length in range(1, 8) or len(header) < 8 or end > n_bytes:
                return False
    file.seek(max(start, end - 64))
    return file.read(end - file.tell()).rstrip(b"\0").endswith(_END_OF_CODE_STREAM)


def _truncated() -> PictureError:
    return PictureError("picture", "must be a readable picture (the file is truncated)")

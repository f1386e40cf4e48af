"""Files cut short whose decoders do not notice: PCX with a palette, JPEG 2000, and JPEG that was filled up or closed.

Every other format fails by itself when bytes are missing. These decode to other pixels: a PCX file keeps its colors in its
last 769 bytes, and the rest is gray without them; OpenJPEG shows as much of a code stream as there is; and libjpeg makes gray
what no data came for, where anything follows: zeros in the place of what was not fetched, or a mark of the end.
"""

from __future__ import annotations

import contextlib
import os
from io import BytesIO
from typing import IO

from PIL import Image, ImageChops, ImageFile

from descend.errors import PictureError

_PALETTE = 769  # bytes: a mark and 256 colors
_END = b"\xff\xd9"  # of a code stream: in JPEG 2000 no byte after 0xff exceeds 0x8f inside, in JPEG each is 0 or a restart
_START_OF_SCAN = 0xDA
_GRAY = 128  # of blocks that no data came for
_JPEG = ("JPEG", "MPO")
_MORE = bytes(range(1, 251)) * 4  # data for some blocks; not zeros, which are what the block at the cut is completed with


def refuse_truncated(image: Image.Image) -> None:
    """Raise PictureError for an image, opened and not loaded, whose file is cut short unknown to its decoder."""
    if not isinstance(image, ImageFile.ImageFile) or image.fp is None or image.format not in ("PCX", "JPEG2000", *_JPEG):
        return
    position = image.fp.tell()
    if image.format == "PCX":
        _check_palette(image, image.fp)
    elif image.format in _JPEG:
        if not _scans_end(image.fp):
            _refuse_zeros(image, image.fp)
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
    return file.read(end - file.tell()).rstrip(b"\0").endswith(_END)


def _scans_end(file: IO[bytes]) -> bool:
    """Say whether the mark of its end stands anywhere behind the start of a JPEG's data; whatever may follow it."""
    n_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, n_bytes - 64))
    if file.read().rstrip(b"\0").endswith(_END):
        return True
    file.seek(0)
    content = file.read()
    at = _start_of_scan(content)
    return at is None or content.find(_END, at) >= 0  # None: its decoder decides


def _start_of_scan(content: bytes) -> int | None:
    """Return where the data of a JPEG begin, None for one that is built in another way."""
    at = 2
    while content[at : at + 1] == b"\xff" and len(content) > at + 4:  # segments; a thumbnail in one has an end of its own
        if content[at + 1] == 0xFF:  # filled up
            at += 1
            continue
        if content[at + 1] == _START_OF_SCAN:
            return at
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


def _refuse_zeros(image: ImageFile.ImageFile, file: IO[bytes]) -> None:
    """Raise PictureError for a JPEG without a mark of its end whose last blocks were made of the zeros that stand there.

    Cameras that send frames, and what takes frames out of a film, leave the mark out; zeros may follow for their own reasons.
    Without zeros the decoder runs out of bytes, and decides.
    """
    file.seek(0)
    content = file.read()
    if not content.endswith(b"\0"):
        return
    try:
        lacks = _lacks_data(content, image.size)
    except (Image.DecompressionBombError, OSError):  # too large to look at twice; not enough zeros even to be decoded
        lacks = True
    if lacks:
        raise _truncated()


def refuse_filled(image: Image.Image, file: IO[bytes] | None) -> None:
    """Raise PictureError for a JPEG, loaded from ``file``, that is gray to its end because it was cut and closed.

    Its last pixel may be as gray by itself. With more bytes before the mark of the end, a picture that is whole stays as it
    is; one that is not goes on for a few blocks (``_lacks_data``).
    """
    if image.format not in _JPEG or file is None or image.mode not in ("L", "RGB"):
        return
    if file.closed:  # an image that someone else opened, by its path: Pillow has closed it
        return
    last = image.getpixel((image.width - 1, image.height - 1))
    if last not in (_GRAY, (_GRAY,) * 3):
        return
    file.seek(0)
    with contextlib.suppress(Image.DecompressionBombError):  # too large to look at twice
        if _lacks_data(file.read(), image.size):
            raise _truncated()


def _lacks_data(content: bytes, size: tuple[int, int]) -> bool:
    """Return whether a JPEG becomes another picture where more data follow its own. size: as in ``_reduced``."""
    at = content.rfind(_END, _start_of_scan(content) or 0)
    if at < 0:  # zeros stand in its place, or nothing does; one after 0xff is part of the data, or of half a mark
        own = content.rstrip(b"\0")
        at = min(len(own) + own.endswith(b"\xff"), len(content))
    more = content[:at] + _MORE + (content[at:] if content[at:].startswith(_END) else _END)
    return ImageChops.difference(_reduced(content, size), _reduced(more, size)).getbbox() is not None


def _reduced(content: bytes, size: tuple[int, int]) -> Image.Image:
    """Return the gray levels of a JPEG, reduced by its decoder to no less than ``size``."""
    image = Image.open(BytesIO(content), formats=["JPEG"])
    image.draft("L", size)
    image.load()
    return image.convert("L")


def _truncated() -> PictureError:
    return PictureError("picture", "must be a readable picture (the file is truncated)")

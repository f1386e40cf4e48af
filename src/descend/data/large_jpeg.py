"""JPEG pictures beyond Pillow's limit, which need not be decoded in full: the decoder shrinks them by up to 8 along each side.

That holds for baseline files, which are decoded in rows. A progressive file, and one that keeps each channel in its own scan,
is held in memory as a whole before a pixel of it is known; those stay under the limit.
"""

from __future__ import annotations

from typing import IO, Any

from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

MOST_DRAFTED = 2**30  # pixels of a baseline JPEG: 32,768 a side
_SHRINKS = (1, 2, 4, 8)
_SEQUENTIAL = (0xC0, 0xC1)  # markers of Huffman-coded frames that are not progressive
_START_OF_SCAN = 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def is_beyond_limit(image: Image.Image) -> bool:
    """Say whether an image, as it would be loaded now, has more pixels than Pillow's limit (``Image.MAX_IMAGE_PIXELS``)."""
    return bool(Image.MAX_IMAGE_PIXELS) and image.width * image.height > Image.MAX_IMAGE_PIXELS


def can_be_within_limit(image: Image.Image) -> bool:
    """Say whether an image, opened and not loaded, is within the limit, or a JPEG that its decoder can bring there."""
    if not is_beyond_limit(image):
        return True
    is_jpeg = isinstance(image, JpegImagePlugin.JpegImageFile)
    return is_jpeg and image.width * image.height <= MOST_DRAFTED and not is_held_whole(image)


def is_held_whole(image: Image.Image | NDArray[Any]) -> bool:
    """Say whether an image, opened and not loaded, is a JPEG that its decoder holds as a whole, however far it shrinks it."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.fp is None:
        return False
    position = image.fp.tell()
    try:
        return not _is_decoded_in_rows(image.fp)
    finally:
        image.fp.seek(position)


def reopened(file: IO[bytes]) -> Image.Image | None:
    """Open a JPEG file that Pillow has refused for its number of pixels; None for another format."""
    file.seek(0)
    is_jpeg = file.read(3) == b"\xff\xd8\xff"
    file.seek(0)
    return JpegImagePlugin.JpegImageFile(file) if is_jpeg else None


def largest_draft(size: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (width, height) to ask a JPEG's decoder for that stays under Pillow's limit."""
    width, height = size
    limit = Image.MAX_IMAGE_PIXELS or width * height
    shrink = next((s for s in _SHRINKS if -(-width // s) * -(-height // s) <= limit), _SHRINKS[-1])
    return max(1, width // shrink), max(1, height // shrink)


def _is_decoded_in_rows(file: IO[bytes]) -> bool:
    """Say whether the first scan of a sequential frame holds all its channels."""
    file.seek(2)
    n_channels = 0
    while len(head := file.read(2)) == 2 and head[0] == 0xFF:
        if head[1] == 0xFF:  # a byte that fills
            file.seek(-1, 1)
            continue
        length = int.from_bytes(file.read(2), "big")
        content = file.read(max(0, length - 2))
        if head[1] == _START_OF_SCAN:
            return n_channels > 0 and content[:1] == bytes([n_channels])
        if head[1] in _FRAMES:
            if head[1] not in _SEQUENTIAL:
                return False
            n_channels = content[5] if len(content) > 5 else 0
    return False

"""What the tags of a TIFF file say of its samples where Pillow leaves them as they are: kinds of numbers, white as 0, no data.

Every function takes any image of Pillow; one that comes from no TIFF file, or has been converted since, has no tags.

Source of the format: Adobe, TIFF Revision 6.0, sections 8 and 19; tag 42113 is GDAL's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS, PHOTOMETRIC, SAMPLES, PLANES, SAMPLE_FORMAT, NO_DATA = 258, 262, 277, 284, 339, 42113
_EXTRA_SAMPLES, _MULTIPLIED = 338, 1
_UNSIGNED, _SIGNED = 1, 2  # of SAMPLE_FORMAT
_WHITE_IS_ZERO = 0  # of PHOTOMETRIC


def tag(image: Image.Image, number: int, default: int) -> int:
    """Return a tag that holds whole numbers, of several the first; ``default`` where the image has none."""
    value: Any = getattr(image, "tag_v2", {}).get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def is_signed_8(image: Image.Image) -> bool:
    """Return whether an image holds signed numbers of 8 bits, which Pillow shows as mode L."""
    return image.mode == "L" and tag(image, BITS, 8) == 8 and tag(image, SAMPLE_FORMAT, _UNSIGNED) == _SIGNED


def is_white_zero(image: Image.Image) -> bool:
    """Return whether an image's 0 means white; Pillow mirrors those of 8 bits or less by itself."""
    return image.mode.startswith(("I", "F")) and tag(image, PHOTOMETRIC, 1) == _WHITE_IS_ZERO


def is_premultiplied(image: Image.Image) -> bool:
    """Return whether an image's colors are stored multiplied by its alpha."""
    return tag(image, _EXTRA_SAMPLES, 0) == _MULTIPLIED


def as_declared(image: Image.Image, values: NDArray[Any]) -> NDArray[Any]:
    """Return values of an image, any shape, as the numbers that its file declares: int8 of uint8, uint32 of int32."""
    if is_signed_8(image):
        return values.view(np.int8)
    of_32_bits = image.mode == "I" and tag(image, BITS, 0) == 32
    return values.view(np.uint32) if of_32_bits and tag(image, SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED else values


def no_data(image: Image.Image) -> float | None:
    """Return the value that a file declares to stand for missing data, or None."""
    try:
        return float(str(getattr(image, "tag_v2", {})[NO_DATA]).strip("\0 "))
    except (KeyError, ValueError):
        return None

"""FITS files of 16 bits, whose numbers are signed: Pillow takes them for unsigned, and leaves the offset out that makes them so.

Source of the format: FITS Standard 4.0, sections 4.4.2.5 and 5.2.
"""

from __future__ import annotations

import re
from typing import TypeGuard

import numpy as np
from PIL import Image, ImageFile

_OFFSET = re.compile(rb"BZERO {3}= *([-+.\dEe]+)")


def is_fits_16(image: Image.Image) -> TypeGuard[ImageFile.ImageFile]:
    """Return whether an image, opened and not loaded, is a FITS file of 16 bits."""
    return isinstance(image, ImageFile.ImageFile) and image.format == "FITS" and image.mode == "I;16" and bool(image.tile)


def read_fits_16(image: ImageFile.ImageFile) -> Image.Image:
    """Return the numbers of a FITS file of 16 bits, opened and not loaded: an image of mode I."""
    assert image.fp is not None  # it is not loaded yet
    image.fp.seek(0)
    found = _OFFSET.search(image.fp.read(max(0, image.tile[0].offset)))
    image.load()
    return Image.fromarray(np.asarray(image).view(np.int16).astype(np.int32) + np.int32(float(found[1]) if found else 0))

"""Which files count as pictures: by the endings that Pillow reads, and by content where an ending says nothing."""

from __future__ import annotations

import os
from functools import cache

from PIL import Image

_FOREIGN = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})  # need an outside program, or are only identified


@cache
def formats() -> tuple[str, ...]:
    """Return the names of the formats that count as pictures."""
    Image.preinit()  # the common formats register first and are tried first
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _FOREIGN)


@cache
def suffixes() -> frozenset[str]:
    """Return the file name endings, lower case with their dot, that count as pictures."""
    known = {*formats(), "MPO"}  # MPO is a JPEG with more pictures behind the first
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def is_picture_name(name: str) -> bool:
    """Say whether a file of this name counts as a picture: not hidden, and with an ending that Pillow reads."""
    base = name.rpartition("/")[2]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in suffixes()  # noqa: PTH122 (a name, not a path)

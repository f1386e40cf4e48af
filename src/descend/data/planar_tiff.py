"""TIFF files that keep each channel in a plane of its own, with samples of more than 8 bits: Pillow takes these for 8 bits.

Each plane is read by Pillow itself, as the one channel of a file: that differs from the real one by a directory of tags that is
put behind it and lists the strips, or tiles, of this plane alone. Compressed planes and BigTIFF are read in the same way.

Source of the format: Adobe, TIFF Revision 6.0, sections 2, 8 and 15; BigTIFF's is libtiff's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, TypeGuard

from PIL import Image, ImageFile

from descend.tiff_tags import BITS, NO_DATA, PHOTOMETRIC, PLANES, SAMPLE_FORMAT, SAMPLES, tag

_SEPARATE = 2  # of PLANES
_ORIENTATION = 274  # which Pillow applies while it loads
_PARTS = (273, 279, 324, 325)  # where strips and tiles begin, and how many bytes they have: one number each, plane after plane
# width, height, compression, fill order, orientation, rows per strip, predictor, color map, width and height of tiles
_KEPT = (256, 257, 259, PHOTOMETRIC, 266, _ORIENTATION, 278, 317, 320, 322, 323, NO_DATA)
_BIG = 43  # in the place of 42
_TEXT, _SHORT, _LONG, _LONG_8 = 2, 3, 4, 16  # kinds of values
_LETTERS = {_SHORT: "H", _LONG: "I", _LONG_8: "Q"}


def is_planar(image: Image.Image) -> TypeGuard[ImageFile.ImageFile]:
    """Return whether an image, opened and not loaded, keeps samples in planes that Pillow misreads: deep ones, or only one."""
    if not isinstance(image, ImageFile.ImageFile) or image.format != "TIFF" or tag(image, PLANES, 1) != _SEPARATE:
        return False
    return bool(image.tile) and (tag(image, BITS, 1) > 8 or is_single(image))


def is_single(image: Image.Image) -> bool:
    """Return whether the first plane of a planar image is the whole of what Pillow shows."""
    return tag(image, SAMPLES, 1) == 1 or image.mode.startswith(("I", "F"))


def plane(image: ImageFile.ImageFile, number: int) -> ImageFile.ImageFile:
    """Return one plane of a planar image, opened and not loaded: one channel of the same kind of numbers."""
    assert image.fp is not None  # it is not loaded yet
    tags: Mapping[int, Any] = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue] (of TIFF files, as this one is)
    image.fp.seek(0)
    content = image.fp.read()
    kept = {name: tags[name] for name in _KEPT if name in tags}
    kept |= {name: tag(image, name, 1) for name in (BITS, SAMPLE_FORMAT)} | {SAMPLES: 1, PLANES: 1}
    if not is_single(image):
        kept |= {PHOTOMETRIC: 1, _ORIENTATION: 1}  # the numbers as they are
    for name in (name for name in _PARTS if name in tags):
        n_each = len(tags[name]) // tag(image, SAMPLES, 1)
        kept[name] = tags[name][number * n_each : (number + 1) * n_each]
    found = Image.open(BytesIO(_with_directory(content, kept)), formats=["TIFF"])
    assert isinstance(found, ImageFile.ImageFile)  # as every file
    return found


def _with_directory(content: bytes, tags: Mapping[int, Any]) -> bytes:
    """Return a TIFF file with a directory of its own at its end, to which its header points."""
    order = "<" if content[:2] == b"II" else ">"
    is_big = struct.unpack(order + "H", content[2:4])[0] == _BIG
    start = len(content) + len(content) % 2
    count, offset, n_inside = ("Q", "Q", 8) if is_big else ("H", "I", 4)
    entries, behind = b"", b""
    n_bytes = struct.calcsize(f"{order}{count}{offset}") + len(tags) * (4 + 2 * n_inside)
    for name, value in sorted(tags.items()):
        kind, n, written = _value(order, value, _LONG_8 if is_big else _LONG)
        if len(written) > n_inside:
            written, more = struct.pack(order + offset, start + n_bytes + len(behind)), written
            behind += more + b"\0" * (len(more) % 2)
        entries += struct.pack(f"{order}HH{offset}", name, kind, n) + written.ljust(n_inside, b"\0")
    directory = struct.pack(order + count, len(tags)) + entries + struct.pack(order + offset, 0)
    header = content[:8] + struct.pack(order + offset, start) if is_big else content[:4] + struct.pack(order + offset, start)
    return b"".join((header, content[len(header) :], b"\0" * (start - len(content)), directory, behind))


def _value(order: str, value: str | int | Sequence[int], large: int) -> tuple[int, int, bytes]:
    """Return the kind of a tag's values, how many there are, and how they are written."""
    if isinstance(value, str):
        text = value.encode("ascii", "replace") + b"\0"
        return _TEXT, len(text), text
    numbers = (value,) if isinstance(value, int) else value
    kind = _SHORT if max(numbers) < 2**16 else large
    return kind, len(numbers), struct.pack(f"{order}{len(numbers)}{_LETTERS[kind]}", *numbers)

"""One picture of any kind that Python code holds: a path, pixels, a tensor, a Pillow image, encoded bytes or an open file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from descend.data.opening import Source
from descend.data.scalars import plain
from descend.errors import DataError

CHANNELS = (1, 3, 4)  # gray, RGB, RGBA
PIXEL_TYPES = (np.bool_, np.uint8, np.uint16)


def is_path(item: object) -> bool:
    """Return whether an object names a file or a folder."""
    return isinstance(item, (str, os.PathLike))


def is_tensor(item: object) -> bool:
    """Return whether an object is a tensor of torch; torch itself is not needed for that."""
    return any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(item).__mro__)


def is_pixels(item: object) -> bool:
    """Return whether an object is a tensor, or an array that does not hold words or objects."""
    return is_tensor(item) or (isinstance(item, np.ndarray) and item.dtype.kind not in "OUS")


def is_one_picture(item: object) -> bool:
    """Return whether an object is one picture by its kind: encoded, opened by Pillow, or a file that is open."""
    return isinstance(item, (bytes, bytearray, memoryview, Image.Image)) or hasattr(item, "read")


def as_source(item: Any, place: int, *, who: str) -> Source:
    """Return one member of a list as a picture that ``decode`` takes, its channels last.

    place: its position in the list. Raises DataError, in the name of ``who``.
    """
    item = plain(item)
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    if isinstance(item, Image.Image) and item.mode == "La":  # which Pillow turns into LA and nothing else
        return item.convert("LA")
    if is_one_picture(item) or is_path(item):
        return item
    if isinstance(item, np.ndarray) or is_tensor(item):
        return channels_last(as_pixels(item, who=who))
    raise DataError(who, f"picture [{place}] must be a path, an array, a tensor, a Pillow image, bytes or an open file",
                    got=type(item).__name__,
                    fix="Make an array of it: np.array(picture, np.uint8)." * isinstance(item, (list, tuple)))  # fmt: skip


def as_pixels(pictures: Any, *, who: str) -> NDArray[Any]:
    """Return an array or a tensor of pixels as an array of 2 to 4 dimensions. Raises DataError, in the name of ``who``."""
    array: NDArray[Any] | None = pictures
    kind = str(pictures.dtype).removeprefix("torch.")
    if is_tensor(pictures):
        try:
            array = pictures.numpy(force=True)
        except TypeError:  # sparse, quantized, or of a type that NumPy lacks
            array, kind = None, f"{kind}, {pictures.layout}"
    if array is not None and not array.dtype.isnative:  # as some files of instruments hold them
        array = array.astype(array.dtype.newbyteorder("="))
    if array is None or array.dtype not in PIXEL_TYPES:
        raise DataError(who, "pixels must be uint8, uint16 or bool", got=kind,
                        fix="Scale them to 0..255 and cast them to uint8; undo any normalization first.")  # fmt: skip
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise DataError(who, "an array must be (H, W), (H, W, C), (n, H, W) or (n, H, W, C)", got=array.shape)
    return array


def channels_last(picture: NDArray[Any]) -> NDArray[Any]:
    """Return one picture with its channels last: (H, W) and (H, W, C) as they are, (C, H, W) turned."""
    if picture.ndim == 3 and picture.shape[2] not in CHANNELS and picture.shape[0] in CHANNELS:
        return picture.transpose(1, 2, 0)
    return picture

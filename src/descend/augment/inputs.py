"""What may come in: batches of images with their ids, and single pictures of any kind. Everything else is explained."""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL.Image import Image

from descend.augment.array_types import Ints
from descend.errors import DataError, KnobError
from descend.pixels import flattened, orientation, rgb, turned

Images: TypeAlias = torch.Tensor | NDArray[np.uint8]
Picture: TypeAlias = Image | torch.Tensor | NDArray[Any]


def whole(who: str, knob: str, value: Any) -> int:
    """Return a whole number, also one of NumPy or torch, as Python's. Raises KnobError for anything else, True and False too."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise KnobError(who, f"{knob} must be a whole number", got=value) from None


def sample_ids(ids: ArrayLike | torch.Tensor) -> Ints:
    """Return sample ids (B,) as int64. Raises DataError for anything but whole numbers."""
    given = ids.cpu().numpy() if isinstance(ids, torch.Tensor) else np.asarray(ids)
    if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
        raise DataError("augment", "ids must be (B,) whole numbers", got=f"{given.dtype} {given.shape}")
    return given.astype(np.int64)


def checked(images: Images) -> tuple[int, int]:
    """Return height and width of a legal batch, or say what is wrong with it and how to mend it."""
    if not isinstance(images, (np.ndarray, torch.Tensor)):
        raise DataError("augment", "images must be a NumPy array or a torch tensor", got=type(images).__name__)
    shape, kind = tuple(images.shape), str(images.dtype).removeprefix("torch.")
    if kind != "uint8":
        raise DataError("augment", "images must hold uint8 levels 0..255", got=kind, fix=_mend(images, kind))
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        turned = len(shape) == 4 and shape[1] == 3
        fix = (
            "These look like NCHW: move the channels last." if turned else "Stack pictures of one size; repeat gray three times."
        )
        raise DataError("augment", "images must be (B, H, W, 3) with B, H, W > 0", got=shape, fix=fix)
    return shape[1], shape[2]


def _mend(images: torch.Tensor | NDArray[Any], kind: str) -> str:
    if not kind.startswith(("float", "bfloat")) or 0 in images.shape:
        return "Convert them to uint8."
    if float(images.max()) > 1:
        return "These look like floats in 0..255: round them and convert to uint8."
    return "These look like floats in 0..1: multiply by 255, round and convert to uint8."


def writable(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an array that torch can wrap: contiguous, and copied if read-only (a memory map)."""
    return np.require(images, requirements=["C", "W"])


def one_image(who: str, picture: Picture, *, channels_last: bool = False) -> NDArray[np.uint8]:
    """Return a single picture as the policy of ``descend.pixels`` shows it: (1, H, W, 3) uint8, RGB, to read and not to write.

    picture: a Pillow image of any mode, upright as its EXIF orientation says; an array (H, W), (H, W, 1), (H, W, 3) or
    (H, W, 4) of bool, uint8 or uint16; a tensor of those types, (1, H, W), (3, H, W) or (4, H, W), and (H, W) or (H, W, 3) where
    ``channels_last`` allows it. Raises DataError for anything else.
    """
    if isinstance(picture, Image):
        return rgb(turned(flattened(picture), orientation(picture)))[None]
    if not isinstance(picture, (np.ndarray, torch.Tensor)):
        raise DataError(who, "a picture must be a Pillow image, a tensor or a NumPy array", got=type(picture).__name__)
    kind = str(picture.dtype).removeprefix("torch.")
    if kind not in ("bool", "uint8", "uint16"):
        raise DataError(who, "a picture must hold uint8 levels 0..255, uint16 or bool", got=kind, fix=_mend(picture, kind))
    array = picture if isinstance(picture, np.ndarray) else _array(who, picture, channels_last)
    as_it_is = kind == "uint8" and array.ndim == 3 and array.shape[2] == 3 and array.size > 0  # the policy changes nothing
    return (array if as_it_is else rgb(array))[None]


def _array(who: str, tensor: torch.Tensor, channels_last: bool) -> NDArray[Any]:
    """Return a tensor as an array (H, W) or (H, W, C)."""
    shape = tuple(tensor.shape)
    first = len(shape) == 3 and shape[0] in (1, 3, 4)
    last = channels_last and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3))
    if first == last:
        shapes = "(1, H, W), (3, H, W) or (4, H, W)" + (", (H, W) or (H, W, 3)" if channels_last else "")
        fix = "It reads both ways: pass an array instead." if first else "Put the channels first, as torchvision does."
        raise DataError(who, f"a tensor must be {shapes}", got=shape, fix=fix)
    return tensor.cpu().permute(1, 2, 0).numpy() if first else tensor.cpu().numpy()

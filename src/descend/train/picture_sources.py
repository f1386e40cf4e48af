"""What ``Run.predict`` takes, whatever it is: paths, arrays, tensors, Pillow images, encoded bytes, open files, alone or many."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from descend.data import decode_resized, find_pictures
from descend.data.archives import is_archive, left_out_of, unpacked
from descend.data.new_pictures import is_table, read_new_pictures
from descend.data.one_picture import CHANNELS, as_pixels, as_source, channels_last, is_one_picture, is_path, is_pixels
from descend.data.opening import Source
from descend.data.places import is_file, is_folder
from descend.data.pool import in_order
from descend.data.scalars import plain
from descend.data.shards import shards_at
from descend.data.sources import pictures_alone
from descend.errors import DataError, PictureError
from descend.train.input_checks import Look, Usual
from descend.train.record import RunRecord

BATCH = 64  # pictures decoded before the network is asked; full chunks of every size fit (``evaluate.probabilities``)
FEW = 4  # pictures of a call, up to which each alone costs less than a padded chunk, whatever their size
_SHOWN = 3  # places without a picture
_NARROWEST = 16  # pixels: up to here (n, H, W), with n and H twice W or more, may be one picture of W channels
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # of a Path, which keeps one slash, too; no drive of Windows
_ARCHIVE, _TABLE = "an archive: give it by itself", "a table: give it by itself"


class PictureSources(NamedTuple):
    """What stands for each picture, its name (a path, or ``[i]`` for what has none), and path -> why of the files passed over."""

    sources: list[Source]
    names: list[str]
    passed_over: dict[str, str]


def picture_sources(pictures: object, *, shape: Sequence[int] = ()) -> PictureSources:
    """Return what stands for each picture, and its name.

    pictures: as in ``Run.predict``. shape: of one picture in the array that the run was trained on, () where there was none: it
    tells a picture from a row of pictures. Raises DataError, with the readings, for an array that can be read in two ways.
    """
    pictures = pictures_alone(plain(pictures))
    if is_path(pictures):
        return _found([pictures])
    if is_one_picture(pictures):
        return _numbered([as_source(pictures, 0, who="predict")])
    if is_pixels(pictures):
        return _numbered(_rows(as_pixels(pictures, who="predict"), tuple(shape)))
    if not isinstance(pictures, Iterable) or isinstance(pictures, Mapping):
        raise DataError("predict", "needs paths, folders, arrays, tensors, Pillow images, bytes or open files",
                        got=type(pictures).__name__)  # fmt: skip
    items = [plain(item) for item in pictures]
    if all(is_path(item) for item in items):
        return _found(items)
    return _numbered([as_source(item, place, who="predict") for place, item in enumerate(items)])


def decoded_batches(
    sources: Sequence[Source],
    names: Sequence[str],
    problems: dict[str, str],
    *,
    record: RunRecord,
    threads: int,
    doubtful: dict[str, str] | None = None,
    told: Callable[[PictureError], str] = str,
) -> Iterator[tuple[NDArray[np.uint8], list[int]]]:
    """Yield pictures decoded as in training, up to 64 at a time: (n, R, R, 3) uint8, and their n positions in ``sources``.

    record: of the run; it tells the resolution R, and how pixels are read. problems: takes name -> reason of those that
    cannot be read; told: gives the reason. doubtful: takes name -> reason of those that may not look as the run's own did.
    """
    resolution, policy, usual = record.preparation()["resolution"], record.pixel_policy(), Usual.of(record)

    def decode(item: tuple[Source, str]) -> tuple[NDArray[np.uint8] | None, str]:
        source, name = item
        look = Look(usual)
        try:
            image = decode_resized(source, resolution, name=name, policy=policy, look=look.stored)
        except PictureError as error:
            return None, told(error)
        return image, look.why

    images, positions = list[NDArray[np.uint8]](), list[int]()
    threads = max(1, min(threads, len(sources)))
    for position, (image, why) in enumerate(in_order(decode, zip(sources, names, strict=True), threads)):
        if image is None:
            problems[names[position]] = why
            continue
        if why and doubtful is not None:
            doubtful[names[position]] = why
        images.append(image)
        positions.append(position)
        if len(images) == BATCH:
            yield np.stack(images), positions
            images, positions = [], []
    if images:
        yield np.stack(images), positions


def refuse_none(who: str, n_answers: int, left_out: Mapping[str, str]) -> None:
    """Raise DataError where there is no answer. left_out: name -> why."""
    if not n_answers:
        told = [reason if reason.startswith(name) else f"{name}: {reason}" for name, reason in list(left_out.items())[:3]]
        why = "; ".join(told) or "no picture at all"
        raise DataError(who, "needs one readable picture or more", got=why)


def _found(places: list[Any]) -> PictureSources:
    """List the pictures of files, folders, archives, shards or a table; what is in one of these is called by its path there.

    Raises DataError, which names the places, where they hold nothing at all.
    """
    if len(places) == 1 and _is_table(places[0]):
        listed = read_new_pictures(Path(places[0]))
        for note in listed.notes:
            warnings.warn(f"{places[0]}: {note}", UserWarning, stacklevel=2)
        places = listed.paths
    found = PictureSources([], [], {})
    for place in map(os.fspath, places):
        if why := _why_not_here(place):
            found.passed_over[place] = why
            continue
        shards = shards_at(Path(place))
        if shards is not None and not (is_folder(Path(place)) and find_pictures([place]).paths):  # or tars lie beside pictures
            contents, names, passed_over = shards.pictures()
            found.sources.extend(contents.members(names))
            found.names.extend(os.path.join(place, name) for name in names)  # noqa: PTH118 (as text)
            found.passed_over.update({os.path.join(place, name): why for name, why in passed_over.items()})  # noqa: PTH118
            continue
        packed = is_archive(Path(place)) and is_file(Path(place))  # whoever looks for another says that there is none
        folder = str(unpacked(Path(place))) if packed else place
        files = find_pictures([folder])
        found.sources.extend(files.paths)
        inside, called = (f"{folder}{os.sep}", f"{place}{os.sep}") if packed else ("", "")
        found.names.extend(name.replace(inside, called, 1) for name in files.paths)
        for name, why in files.passed_over.items():
            found.passed_over[name.replace(inside, called, 1)] = _ARCHIVE if is_archive(Path(name)) else why
        if packed:
            found.passed_over.update({f"{called}{name}": why for name, why in left_out_of(Path(folder))})
    if places and not found.sources and not found.passed_over:
        shown = ", ".join([*map(os.fspath, places[:_SHOWN])] + ["..."] * (len(places) > _SHOWN))
        raise DataError("predict", f"needs one readable picture or more, there is none in {shown}")
    return found


def _is_table(place: Any) -> bool:
    return is_table(Path(place)) and is_file(Path(place))


def _why_not_here(place: str) -> str:
    """Return why nothing is read at one of several places, in words that tell what to give instead; "" for all others."""
    if _is_table(place):
        return _TABLE
    if is_file(Path(place)) or is_folder(Path(place)):
        return ""
    if place == "-":
        return "standard input is not read: save the picture as a file first"
    if place[:5].lower() == "data:":
        return "a picture as text: save its bytes as a file first, or in Python give them"
    if _ADDRESS.match(place):
        return "an address: save the file that it leads to here first"
    return "a pattern that no file is called by: give the files themselves, or their folder" if set("*?") & set(place) else ""


def _numbered(sources: list[Any]) -> PictureSources:
    return PictureSources(sources, [f"[{place}]" for place in range(len(sources))], {})


def _rows(array: NDArray[Any], shape: tuple[int, ...]) -> list[NDArray[Any]]:
    """Return the pictures of an array. An array like the one that was trained on is read as that one was."""
    if shape and array.shape[1:] == shape:
        return [*array]
    if array.ndim == 2 or array.shape == shape:
        return [array]
    if array.ndim == 4:  # nobody stores pictures behind each other, (H, W, n, C)
        return [channels_last(picture) for picture in array]
    n, height, width = array.shape
    if width in CHANNELS:
        return [array]
    if width == 2:
        raise DataError("predict", f"an array of {array.shape} may be {n} gray pictures of {height} x 2 pixels, or one of gray "
                        "and alpha: say which",
                        fix="Give list(array) for the gray pictures, Image.fromarray(array) for the one.")  # fmt: skip
    if width <= _NARROWEST and 2 * width <= min(n, height):
        raise DataError("predict", f"an array of {array.shape} may be {n} gray pictures of {height} x {width} pixels, or one of "
                        f"{width} channels: say which",
                        fix="Give list(array) for the gray pictures; one has 1, 3 or 4 channels: array[..., :3].")  # fmt: skip
    if n == 1 or n not in CHANNELS:
        return [*array]
    raise DataError("predict", f"an array of {array.shape} may be {n} gray pictures of {height} x {width} pixels, or one picture "
                    "with its channels first: say which",
                    fix="Give list(array) for the gray pictures, array.transpose(1, 2, 0) for the one.")  # fmt: skip

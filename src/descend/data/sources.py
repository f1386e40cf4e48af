"""DATA, whatever it is, becomes a manifest: a folder, a table, the name of a built-in set, or arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from descend.data import builtin, folders, tables
from descend.data.manifest import SPLIT_WORDS, UNASSIGNED, Manifest, encode_labels
from descend.errors import DataError, nearest

Data = str | os.PathLike[str] | tuple[ArrayLike, ArrayLike] | Mapping[str, tuple[ArrayLike, ArrayLike]]

_PREFIX = "builtin:"


def read(data: Data) -> Manifest:
    """Return the manifest of a source: what `descend fit DATA` accepts, and in Python also arrays.

    Arrays are ``(images, labels)``, or a dict of such pairs under ``train``, ``val`` and ``test``; images are (N, H, W),
    (N, H, W, 1) or (N, H, W, 3) uint8, labels (N,) numbers or words. Raises DataError, or MissingExtra for a package.
    """
    if isinstance(data, (str, os.PathLike)):
        return _read_place(os.fspath(data))
    if isinstance(data, Mapping):
        return _read_parts(data)
    if isinstance(data, tuple) and len(data) == 2:
        pictures, labels = _pair(data, "(images, labels)")
        return _in_memory("arrays", pictures, labels, np.full(len(labels), UNASSIGNED, np.int8))
    must = "must be a folder, a table, the name of a built-in set, (images, labels), or a dict of train, val, test"
    raise DataError("data", must, got=type(data).__name__)


def _read_place(text: str) -> Manifest:
    named = text.removeprefix(_PREFIX)
    path = Path(text).expanduser()
    if named in builtin.SETS:
        if path.exists():
            raise DataError(text, "must mean one thing: there is a built-in set and a folder of that name",
                            fix=f"Write {_PREFIX}{text} or ./{text}.")  # fmt: skip
        return _in_memory(named, *builtin.SETS[named]())
    if path.is_dir():
        return folders.read_folder(path)
    if path.is_file():
        if path.suffix.lower() in tables.SUFFIXES:
            return tables.read_table(path)
        raise DataError(text, f"a file must be a table ({', '.join(tables.SUFFIXES)})",
                        fix="Give the folder that holds the class folders.")  # fmt: skip
    hint = nearest(named, builtin.SETS).replace("Known:", "Built-in sets:")
    raise DataError(text, "no such folder, table or built-in set", fix=hint)


def _pair(pair: Any, who: str) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise DataError(who, "must be a pair (images, labels)", got=type(pair).__name__)
    pictures, labels = np.asarray(pair[0]), np.asarray(pair[1])
    shape = pictures.shape
    if pictures.dtype != np.uint8 or not (pictures.ndim == 3 or (pictures.ndim == 4 and shape[3] in (1, 3))):
        must = "images must be (N, H, W), (N, H, W, 1) or (N, H, W, 3) uint8"
        raise DataError(who, must, got=f"{shape} {pictures.dtype}", fix="Scale floats to 0..255 and cast them to uint8.")
    if labels.ndim != 1 or len(labels) != len(pictures) or 0 in shape:
        raise DataError(who, f"must have at least one image and one label for each (images are {shape})", got=labels.shape)
    if labels.dtype.kind not in "biuUSO":
        raise DataError(who, "labels must be whole numbers or words", got=str(labels.dtype))
    return pictures, labels


def _read_parts(parts: Mapping[str, Any]) -> Manifest:
    unknown = [name for name in parts if str(name).lower() not in SPLIT_WORDS]
    if unknown or not parts:
        raise DataError("data", "the keys of a dict must be train, val and test", got=", ".join(map(repr, parts)))
    pairs = {name: _pair(pair, f"data[{name!r}]") for name, pair in parts.items()}
    shapes = {pictures.shape[1:] for pictures, _ in pairs.values()}
    if len(shapes) > 1:
        raise DataError("data", "all splits must have images of one shape", got=sorted(shapes, key=str))
    pictures = np.concatenate([pictures for pictures, _ in pairs.values()])
    labels = [label for _, labels in pairs.values() for label in labels]
    splits = np.concatenate([np.full(len(labels), SPLIT_WORDS[name.lower()], np.int8) for name, (_, labels) in pairs.items()])
    return _in_memory("arrays", pictures, labels, splits)


def _in_memory(
    name: str, pictures: NDArray[np.uint8], labels: Sequence[Any] | NDArray[Any], splits: NDArray[np.int8]
) -> Manifest:
    classes, numbers = encode_labels([str(label) for label in labels])
    return Manifest(name, None, classes, _Numbered(name, len(pictures)), numbers, splits, pictures=pictures)


class _Numbered(Sequence[str]):
    """``digits[0]``, ``digits[1]``, ... without storing any of them."""

    def __init__(self, name: str, n: int) -> None:
        self._name, self._n = name, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._n))]
        if not -self._n <= index < self._n:
            raise IndexError(index)
        return f"{self._name}[{int(index) % self._n}]"

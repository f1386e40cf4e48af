"""DATA, whatever it is, becomes a manifest: a folder, a table, a data frame, a built-in set, arrays, or lists."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from descend.data import builtin, folders, tables
from descend.data.archives import ENDINGS, is_archive, left_out_of, unpacked
from descend.data.headings import label_column, names_table, pick_columns, pick_path
from descend.data.labels import cell_text, check_one_for_each, encode_labels, one_label
from descend.data.listed import Listed, file_or_bytes, has_images, listed, unlabelled
from descend.data.manifest import SPLIT_WORDS, UNASSIGNED, Manifest
from descend.data.one_picture import PIXEL_TYPES, as_source, is_one_picture, is_pixels
from descend.data.places import PREFIX, check_place, is_address, is_file, is_folder, path_of
from descend.data.problems import problem
from descend.data.remote import at_address
from descend.data.scalars import plain
from descend.data.shards import Shards, shards_at
from descend.data.table_files import SUFFIXES
from descend.errors import DataError, KnobError

_LISTS = (".txt", ".json", ".jsonl", ".xlsx", ".xls", ".ods", ".lst", ".dat", ".xml")


class Frame(Protocol):
    """A data frame: pandas' or polars', or whatever gives its columns by name."""

    columns: Any

    def __getitem__(self, name: Any, /) -> Any:
        """Return a column."""
        ...


class Members(Protocol):
    """A data set that has a length and gives its members by number: torchvision's, a subset, one of Hugging Face, a list."""

    def __len__(self) -> int:
        """Return the number of members."""
        ...

    def __getitem__(self, index: Any, /) -> Any:
        """Return a member."""
        ...


Data = str | os.PathLike[str] | tuple[Any, Any] | Mapping[Any, Any] | Frame | Members | Listed


def read(data: Data, *, evaluation: bool = False, outside: bool = False) -> Manifest:
    """Return the manifest of a source: what `descend fit DATA` accepts, and in Python also arrays and data frames.

    Arrays are ``(images, labels)``, or a dict of such pairs under ``train``, ``val`` and ``test``; images are (N, H, W),
    (N, H, W, 1) or (N, H, W, 3) uint8, labels (N,) numbers or words. A data frame, or a dict of columns, has the columns of a
    table; its paths are relative to the working directory, or its pictures stand in its cells. What other libraries hold is read
    too (``listed``).
    evaluation: the pictures are measured on, not trained on, so that one split, or one class, is enough. outside: a table may
    name pictures that do not lie below its folder. Raises DataError, MissingExtra for a package, or KnobError for ``outside``
    without effect.
    """
    data = plain(data)
    if isinstance(data, (str, os.PathLike)):
        return _read_place(os.fspath(data), evaluation, outside)
    _refuse_outside(outside)
    columns = _columns(data)
    if columns is not None:
        return _read_columns(columns, evaluation)
    data = listed(data)
    if isinstance(data, Listed):
        return _read_listed(data)
    if isinstance(data, Mapping):
        return _read_parts(data)
    if isinstance(data, tuple) and len(data) == 2:
        pictures, labels = _pair(data, "(images, labels)")
        return _in_memory("arrays", pictures, labels, np.full(len(labels), UNASSIGNED, np.int8))
    must = "must be a folder, a table, the name of a built-in set, (images, labels), or a dict of train, val, test"
    raise DataError("data", must, got=type(data).__name__, fix="Files go with their labels: (paths, labels).")


def _refuse_outside(outside: bool) -> None:
    if outside:
        raise KnobError("outside", "has no effect unless the data are a table", fix="Leave it out.")


def _read_place(text: str, evaluation: bool, outside: bool) -> Manifest:
    check_place(text)
    if is_address(text) and not os.path.lexists(text):
        found = at_address(text)
        if isinstance(found, Shards):
            _refuse_outside(outside)
            return found.read(evaluation=evaluation)
        text = str(found)
    named, path = text.removeprefix(PREFIX), path_of(text)
    shards = None if named in builtin.SETS else shards_at(path)
    is_table = is_file(path) and path.suffix.lower() in SUFFIXES and not shards
    if not is_table:
        _refuse_outside(outside)
    if named in builtin.SETS:
        if is_folder(path) or is_file(path):
            raise DataError(text, "must mean one thing: there is a built-in set and a folder of that name",
                            fix=f"Write {PREFIX}{text} or ./{text}.")  # fmt: skip
        return _read_builtin(named)
    if shards is not None:
        return shards.read(evaluation=evaluation)
    if is_file(path) and is_archive(path):
        folder = unpacked(path)
        return folders.read_folder(folder, evaluation=evaluation, who=text, left_out=left_out_of(folder))
    if is_folder(path):
        return folders.read_folder(path, evaluation=evaluation, packed=True)
    if is_table:
        return tables.read_table(path, evaluation=evaluation, outside=outside)
    fix = "Give the folder that holds the class folders."
    if path.suffix.lower() in _LISTS:
        fix = "If it names pictures and their classes, save it as .csv with the columns path,label."
    raise DataError(text, f"a file must be a table ({', '.join(SUFFIXES)}) or an archive ({', '.join(ENDINGS)})", fix=fix)


def _read_builtin(name: str) -> Manifest:
    found = builtin.SETS[name]()
    if isinstance(found, builtin.Files):
        rows = [list(row) for row in zip(found.names, found.labels, strict=True)]
        return tables.list_rows(name, found.root, name, ["path", "label"], rows)
    return _in_memory(name, *found)


def _columns(data: Any) -> dict[str, Sequence[Any]] | None:
    """Return the columns of a data frame (pandas, polars, pyarrow, or a dict of lists) by name, or None where this is none."""
    if isinstance(data, Mapping):
        return dict(data) if {"path", "label"} <= {str(name).strip().lower() for name in data} or names_table([*data]) else None
    names = getattr(data, "column_names", None) or getattr(data, "columns", None)  # pyarrow says column_names
    if names is None or not hasattr(data, "__getitem__") or has_images(data):
        return None
    names = list(names)
    if len(set(names)) < len(names):
        raise DataError("data frame", "must have each column once", got=", ".join(map(str, names)), fix="Rename the others.")
    columns = {str(name): data[name] for name in names}
    return {name: column.to_pylist() if hasattr(column, "to_pylist") else list(column) for name, column in columns.items()}


def labels_column(data: Any) -> Sequence[Any] | None:
    """Return the labels of a data frame or of a dict of columns, None for other data."""
    columns = None if isinstance(data, (str, os.PathLike)) else _columns(data)
    at = label_column([*(columns or {})])
    return None if columns is None or at is None else columns[[*columns][at]]


def pictures_alone(data: Any) -> Any:
    """Return the pictures of a data frame, or of another library's data set, without their labels; all else as it is."""
    columns = None if isinstance(data, (str, os.PathLike, Mapping)) else _columns(data)
    if columns is None:
        return unlabelled(data)
    return [*columns[[*columns][pick_path("data frame", [*columns])]]]


def _read_columns(columns: dict[str, Sequence[Any]], evaluation: bool) -> Manifest:
    who = "data frame"
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise DataError(who, "all columns must have one length", got=sorted(lengths))
    header, rows = list(columns), [list(row) for row in zip(*columns.values(), strict=True)]
    at = pick_path(who, header)
    if any(_is_picture(row[at]) for row in rows):
        return _read_pictures(who, header, rows)
    return tables.list_rows("table", Path.cwd(), who, header, rows, evaluation=evaluation)


def _is_picture(cell: Any) -> bool:
    """Return whether a cell holds a picture, or more than a path can be; bytes with a zero among them are no path."""
    if isinstance(cell, bytes):
        return b"\0" in cell
    return is_one_picture(cell) or isinstance(cell, (Mapping, list, tuple)) or (is_pixels(cell) and cell.ndim > 0)


def _read_pictures(who: str, header: list[str], rows: list[list[Any]]) -> Manifest:
    """List the rows of a data frame that holds the pictures themselves. Raises DataError where it has groups too."""
    where, rows, notes = pick_columns(who, header, rows)
    if "group" in where:
        raise DataError(who, "pictures with groups must be files", got="a column 'group' beside pictures",
                        fix="Save the pictures, and name their files in a column 'path'.")  # fmt: skip
    cells = [row[where["path"]] for row in rows]
    cells = [file_or_bytes(cell, f"{who}[{at}]") if isinstance(cell, Mapping) else cell for at, cell in enumerate(cells)]
    sources = [as_source(cell, at, who=who) for at, cell in enumerate(cells)]
    found = Listed("table", sources, [one_label(row[where["label"]], who=who) for row in rows], Path.cwd())
    splits = tables.splits_of(who, [cell_text(row[where["split"]]) if "split" in where else "" for row in rows])
    manifest = _in_memory(found.name, found.in_memory(), found.labels, splits)
    notes = [*tables.about_unused(header, rows, {"group": -1} | where), *notes]  # groups are of files
    return replace(manifest, problems=[*notes, *manifest.problems])


def _read_listed(data: Listed) -> Manifest:
    """List pictures that another library holds: files as a table names them, all others in memory."""
    unknown = [word for word in dict.fromkeys(data.splits or ()) if word.lower() not in SPLIT_WORDS]
    if unknown:
        raise DataError("data", "the keys of a dict must be train, val and test", got=", ".join(map(repr, unknown)))
    if data.is_of_files:
        columns = [data.sources, data.labels] + ([data.splits] if data.splits else [])
        rows = [list(row) for row in zip(*columns, strict=True)]
        manifest = tables.list_rows(data.name, data.root, data.name, ["path", "label", "split"][: len(columns)], rows)
    else:
        n = len(data.labels)
        splits = [SPLIT_WORDS[word.lower()] for word in data.splits] if data.splits else [UNASSIGNED] * n
        manifest = _in_memory(data.name, data.in_memory(), data.labels, np.array(splits, np.int8))
    return replace(manifest, problems=[*data.notes, *manifest.problems])


def _pair(pair: Any, who: str) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise DataError(who, "must be a pair (images, labels)", got=type(pair).__name__)
    check_one_for_each(pair[1], who=who)
    pictures, labels = _as_array(pair[0], who, "images"), _as_array(pair[1], who, "labels")
    shape = pictures.shape
    if pictures.dtype != np.uint8 or not (pictures.ndim == 3 or (pictures.ndim == 4 and shape[3] in (1, 3))):
        must = "images must be (N, H, W), (N, H, W, 1) or (N, H, W, 3) uint8"
        raise DataError(who, must, got=f"{shape} {pictures.dtype}", fix=_way_to_pixels(pictures))
    if labels.ndim != 1 or len(labels) != len(pictures) or 0 in shape:
        column = "Give labels of shape (N,): labels.ravel()." if labels.shape == (len(pictures), 1) else ""
        must = f"must have at least one image and one label for each (images are {shape})"
        raise DataError(who, must, got=labels.shape, fix=column)
    if labels.dtype.kind not in "biufUSO":
        raise DataError(who, "labels must be whole numbers or words", got=str(labels.dtype))
    return pictures, labels


def _way_to_pixels(array: NDArray[Any]) -> str:
    """Return what makes images of an array that holds none as they are taken here."""
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        return "Put the channels last: transpose(0, 2, 3, 1), of a tensor permute(0, 2, 3, 1)."
    if array.ndim == 4 and array.shape[2] in (1, 3) and array.shape[3] not in (1, 3):  # as MATLAB stacks them
        return "Put the pictures first: transpose(3, 0, 1, 2), of a tensor permute(3, 0, 1, 2)."
    if array.dtype in PIXEL_TYPES and array.ndim in (3, 4):
        return "Give a list of them for pictures of any kind: (list(images), labels)."
    if array.ndim < 2:  # NumPy makes nothing of a generator
        return "Give a list of paths or of pictures, or an array of pixels."
    rows = ""
    if array.ndim == 2:  # flat pictures
        side = math.isqrt(array.shape[1])
        rows = f"Give each row its shape: reshape(-1, {f'{side}, {side}' if side**2 == array.shape[1] else 'H, W'})."
    if array.dtype == np.uint8:
        return rows
    if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255:
        return f"Cast them to uint8: astype('uint8'). {rows}".strip()
    return f"Scale {'floats' if array.dtype.kind == 'f' else 'them'} to 0..255 and cast them to uint8. {rows}".strip()


def unmasked(values: Any) -> NDArray[Any]:
    """Return a masked array as an array of objects, None where it is masked: what is masked is missing."""
    array = np.array(values, object)
    array[np.ma.getmaskarray(values)] = None
    return array


def _as_array(values: Any, who: str, what: str) -> NDArray[Any]:
    if what == "labels" and np.ma.isMaskedArray(values):
        return unmasked(values)
    if what == "labels" and isinstance(values, (list, tuple)):
        values = [plain(value) for value in values]
    if what == "labels" and isinstance(values, list) and not any(map(np.ndim, values)):
        array = np.empty(len(values), object)  # NumPy would make words of a None or NaN beside words
        array[:] = values
        return array
    try:
        return np.asarray(values)
    except ValueError:
        is_pair = isinstance(values, (tuple, list)) and len(values) == 2  # Keras: (images, labels), (images, labels)
        fix = 'Give a dict for a split of your own: {"train": (images, labels), "test": (images, labels)}.' if is_pair else ""
        must = f"{what} must have one shape"
        raise DataError(who, must, got="a ragged list", fix=fix or "Resize them, or give a folder.") from None


def _read_parts(parts: Mapping[str, Any]) -> Manifest:
    unknown = [name for name in parts if str(name).lower() not in SPLIT_WORDS]
    if unknown or not parts:
        must = "the keys of a dict must be train, val and test, or path and label"
        fix = "Call the parts so; or give {'image': images, 'label': labels}."
        if parts and all(isinstance(part, (str, int)) for part in parts.values()):  # path -> label
            fix = "Give the paths and their labels: (list(data), list(data.values()))."
        raise DataError("data", must, got=", ".join([*map(repr, parts)][:6]), fix=fix)
    pairs = {name: _pair(pair, f"data[{name!r}]") for name, pair in parts.items()}
    shapes = {pictures.shape[1:] for pictures, _ in pairs.values()}
    if len(shapes) > 1:
        raise DataError("data", "all splits must have images of one shape", got=sorted(shapes, key=str))
    pictures = np.concatenate([pictures for pictures, _ in pairs.values()])
    labels = [label for _, labels in pairs.values() for label in labels.tolist()]
    splits = np.concatenate([np.full(len(labels), SPLIT_WORDS[name.lower()], np.int8) for name, (_, labels) in pairs.items()])
    return _in_memory("arrays", pictures, labels, splits)


def _in_memory(name: str, pictures: NDArray[Any], labels: Sequence[Any] | NDArray[Any], splits: NDArray[np.int8]) -> Manifest:
    """List pictures in memory; those without a label are left out and keep no memory."""
    classes, numbers, problems = encode_labels(labels, who=name)
    rows = np.flatnonzero(numbers >= 0)
    if not len(rows):
        raise DataError(name, "must have at least one labeled picture", got=f"{len(numbers)} without a label")
    if len(rows) < len(numbers):
        unlabelled = [f"{name}[{row}]" for row in np.flatnonzero(numbers < 0)]
        problems = [*problem("unlabeled", "1 picture has no label and is left out",
                             "{n} pictures have no label and are left out", unlabelled), *problems]  # fmt: skip
        pictures, numbers, splits = pictures[rows], numbers[rows], splits[rows]
    return Manifest(name, None, classes, _Numbered(name, rows), numbers, splits, pictures=pictures, problems=problems)


class _Numbered(Sequence[str]):
    """``digits[0]``, ``digits[1]``, ... without storing any of them. rows: (n,) int64, the numbers."""

    def __init__(self, name: str, rows: NDArray[np.int64]) -> None:
        self._name, self._rows = name, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return f"{self._name}[{self._rows[index]}]"

"""Tables of pictures: ``path,label[,split][,group]`` from a file or a data frame; paths are relative to the table's folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from numpy.typing import NDArray

from descend.data.labels import cell_text, encode_labels, whole_numbers
from descend.data.manifest import SPLIT_WORDS, UNASSIGNED, Manifest, natural
from descend.data.places import is_file, is_folder
from descend.data.problems import Problem, problem, refusal
from descend.data.table_files import Rows, pick_columns, read_rows, unused_columns
from descend.errors import DataError, KnobError, nearest

MOST_LABEL = 1_000  # characters; folders, the other source of labels, have at most 255
MOST_MISSING = 0.1  # of the files that a table names: where more do not exist, something is wrong with the paths
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")

Find = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a table: its number (the header is 1), and its cells as clean text; the label as it is."""

    number: int
    path: str
    label: Any
    split: str
    group: str


def read_table(table: Path, *, evaluation: bool = False, outside: bool = False) -> Manifest:
    """List the pictures that a table file names; evaluation: as in ``list_rows``.

    outside: rows may name pictures that do not lie below the table's folder. A table may come from anywhere, and what it names is
    read, and shown in the report. Raises DataError, MissingExtra, or KnobError for ``outside`` without effect.
    """
    header, rows = read_rows(table)
    _check_outside(table, header, rows, allowed=outside)
    return list_rows(table.stem, table.parent, str(table), header, rows, evaluation=evaluation)


def list_rows(
    name: str, root: Path, who: str, header: Sequence[Any], cells: Rows, *, evaluation: bool = False, find: Find | None = None
) -> Manifest:
    """List the pictures of a table; rows without a file, a path or a label are counted as problems and left out.

    root: the folder that paths are relative to. who: what errors call the table. evaluation: a given split may have lost all its
    pictures. find: path -> the name of the picture that it means, or None; without it, paths are of files. Raises DataError, also
    where more than a tenth of the files do not exist.
    """
    where = pick_columns(who, header)
    rows = [_row(who, number, row, where) for number, row in enumerate(cells, start=2)]
    if not rows:
        raise DataError(who, "must have at least one row below its header")
    labels = [row.label for row in rows]
    classes, numbers, problems = encode_labels(labels, who=who)
    nameless = [f"row {row.number}" for row in rows if not row.path]
    unlabelled = [row.path for row, number in zip(rows, numbers, strict=True) if row.path and number < 0]
    find = find or FileFinder(root).find
    files = [find(row.path) if row.path and number >= 0 else None for row, number in zip(rows, numbers, strict=True)]
    absent = [row.path for row, number, file in zip(rows, numbers, files, strict=True) if row.path and number >= 0 and not file]
    problems = [
        *problem("missing", "1 file of the table does not exist and is left out",
                 "{n} files of the table do not exist and are left out", [path[:200] for path in absent]),
        *problem("unlabelled", "1 row of the table has no label and is left out",
                 "{n} rows of the table have no label and are left out", unlabelled),
        *problem("nameless", "1 row of the table has no path and is left out",
                 "{n} rows of the table have no path and are left out", nameless),
        *problem("unused", "1 column may give the split or the groups and is not used",
                 "{n} columns may give the split or the groups and are not used", unused_columns(header)),
        *problems,
    ]  # fmt: skip
    kept = sorted((index for index, file in enumerate(files) if file), key=lambda index: natural(files[index] or ""))
    if not kept:
        first = (absent or unlabelled or nameless)[0][:200]
        raise refusal(
            who, "must name at least one labeled picture that exists", problems, got=first, fix=_paths_fix(root, absent)
        )
    if len(absent) > MOST_MISSING * (len(absent) + len(kept)):
        must = f"at most {MOST_MISSING:.0%} of its files may be missing, {len(absent):,} of {len(absent) + len(kept):,} are"
        raise refusal(who, must, problems, fix=_paths_fix(root, absent))
    if "split" in where and not evaluation:
        _refuse_lost_splits(who, rows, [rows[index] for index in kept], problems)
    used = sorted(set(numbers[kept].tolist()))
    lost = [repr(word) for number, word in enumerate(classes) if number not in used]
    problems += problem("missing", "1 class has lost all its files and is left out",
                        "{n} classes have lost all their files and are left out", lost)  # fmt: skip
    return Manifest(
        name,
        root,
        tuple(classes[number] for number in used),
        [files[index] or "" for index in kept],
        np.searchsorted(used, numbers[kept]).astype(np.int64),
        _splits(who, [rows[index] for index in kept]) if "split" in where else np.full(len(kept), UNASSIGNED, np.int8),
        _groups([rows[index] for index in kept]) if "group" in where else None,
        problems=problems,
    )


def _row(who: str, number: int, cells: Sequence[Any], where: dict[str, int]) -> _Row:
    path, label, split, group = (
        cells[where[column]] if column in where else "" for column in ("path", "label", "split", "group")
    )
    path = clean_path(path)
    if _URL.match(path):
        raise DataError(who, "pictures must be files", got=path[:200], fix="Download them, and name the files in the table.")
    if isinstance(label, str) and len(label) > MOST_LABEL:
        raise DataError(who, f"a label must have at most {MOST_LABEL:,} characters, that of row {number} has {len(label):,}",
                        got=label, fix="Close the quotes before the end of the line.")  # fmt: skip
    for text in (path, label):
        if isinstance(text, str) and "\n" in text.strip():
            raise DataError(who, f"a path or a label must not go over several lines, one of row {number} does", got=text[:80],
                            fix="Close the quotes before the end of the line.")  # fmt: skip
    return _Row(number, path, label, cell_text(split), cell_text(group))


def clean_path(cell: Any) -> str:
    """Return a path's cell as text: "" where it is missing; accents stay as they are, the file system may tell them apart."""
    text = "" if not cell_text(cell) else os.fspath(cell) if isinstance(cell, os.PathLike) else str(cell)
    text = text.strip().strip("\ufeff")
    return url2pathname(urlsplit(text).path) if text[:8].casefold() == "file:///" else text


def _check_outside(table: Path, header: Sequence[Any], rows: Rows, *, allowed: bool) -> None:
    """Refuse paths that lead out of the table's folder to files that exist, or a permission that no row needs."""
    where = pick_columns(str(table), header)["path"]
    root = os.path.normpath(table.parent.absolute())
    leading_out = [path for row in rows if leads_out(path := clean_path(row[where]), root)]
    finder = FileFinder(table.parent)
    reached = [] if allowed else [path for path in leading_out if finder.find(path)]  # the others are told as missing
    if reached:
        rest = f", nor do {len(reached) - 1:,} more" if len(reached) > 1 else ""
        raise DataError(str(table), f"pictures must lie below the table's folder, {reached[0][:200]!r} does not{rest}",
                        fix="Put the table above its pictures, or allow it if you trust the table: --outside.")  # fmt: skip
    if allowed and not leading_out:
        raise KnobError("outside", "has no effect: all pictures of the table lie below its folder", fix="Leave it out.")


def leads_out(path: str, root: str) -> bool:
    """Say whether a path, by its words, leads out of a folder; links inside are followed as everywhere."""
    path = path.replace("\\", "/")
    if not (path.startswith("/") or ".." in path or ":" in path):
        return False
    full = os.path.normpath(os.path.join(root, path))  # noqa: PTH118 (as text: nothing is looked at)
    return not any(Path(full).is_relative_to(place) for place in (root, os.path.realpath(root)))


class FileFinder:
    """Finds the files that paths mean: as written, with ``/`` for the backslashes of Windows, with accents in any form.

    Capitals do not count where one file alone can be meant: a table from Windows or macOS may write ``A.JPG`` for ``a.jpg``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[Path, tuple[dict[str, str], dict[str, str]]] = {}

    def find(self, path: str) -> str | None:
        """Return the path of an existing file, with forward slashes, or None."""
        forms = dict.fromkeys((path.replace("\\", "/"),) if os.sep == "\\" else (path, path.replace("\\", "/")))
        for form in forms:
            if is_file(self._root / form):
                return form
        return next((file for form in forms if (file := self._spelled(form))), None)

    def _spelled(self, path: str) -> str | None:
        """Walk a path from folder to folder, accents and capitals as each name may have them."""
        at, names = self._root, list[str]()
        for part in Path(path).parts:
            name = part if is_file(at / part) or is_folder(at / part) else self._name(at, unicodedata.normalize("NFC", part))
            if name is None:
                return None
            at /= name
            names.append(name)
        return Path(*names).as_posix() if is_file(at) else None

    def _name(self, folder: Path, composed: str) -> str | None:
        """Return the name in a folder that is this one composed, or else the only one that is but for its capitals."""
        if folder not in self._listed:
            try:
                names = {unicodedata.normalize("NFC", entry.name): entry.name for entry in folder.iterdir()}
            except OSError:
                names = {}
            folds = Counter(form.casefold() for form in names)
            alone = {fold: name for form, name in names.items() if folds[fold := form.casefold()] == 1}
            self._listed[folder] = names, alone
        names, alone = self._listed[folder]
        return names.get(composed) or alone.get(composed.casefold())


def _paths_fix(root: Path, absent: Sequence[str]) -> str:
    fix = f"Paths are relative to {root}."
    if absent and (meant := _existing(root, absent[0])):
        fix += f" {meant[:200]!r} exists: write them like that."
    drive = next((path for path in absent if _DRIVE.match(path)), None)
    if drive is not None and os.sep == "/":
        fix += f" {drive[:2]} is a drive of another machine: write the paths from that folder on."
    return fix


def _existing(root: Path, path: str) -> str | None:
    """Return the file that a path would name with an ending, from the table's folder on or one further down, or None."""
    path = path.replace("\\", "/").lstrip("/")
    try:
        folders = ["", *sorted(f"{folder.name}/" for folder in root.iterdir() if is_folder(folder))]
    except OSError:
        return None
    found = (f"{folder}{path}{ending}" for folder in folders for ending in ("", ".jpg", ".png", ".jpeg"))
    return next((file for file in found if is_file(root / file)), None)


def _splits(who: str, rows: list[_Row]) -> NDArray[np.int8]:
    words = {row.split.lower() for row in rows}
    if words == {""}:
        return np.full(len(rows), UNASSIGNED, np.int8)
    for word in sorted(words):
        if word not in SPLIT_WORDS:
            hint = nearest(word, SPLIT_WORDS) if word else "Fill the column, or remove it to have the pictures split."
            raise DataError(who, "every split must be train, val or test", got=word, fix=hint)
    return np.array([SPLIT_WORDS[row.split.lower()] for row in rows], np.int8)


def _refuse_lost_splits(who: str, rows: list[_Row], kept: list[_Row], problems: list[Problem]) -> None:
    """Refuse a split that rows are given and none of them keeps; test rows without a label are pictures to classify."""
    left = {SPLIT_WORDS.get(row.split.lower()) for row in kept}
    for number, name in ((1, "val"), (2, "test")):
        given = [row for row in rows if SPLIT_WORDS.get(row.split.lower()) == number]
        if given and number not in left and (name == "val" or any(cell_text(row.label) for row in given)):
            raise refusal(who, f"the rows of split {name!r} must name a labeled picture that exists", problems,
                          fix="Mend them, or remove them.")  # fmt: skip


def _groups(rows: list[_Row]) -> NDArray[np.int64]:
    """Number the groups; an empty cell is a group of its own."""
    numbers: dict[str, int] = {}
    keys = (group or f"\0{index}" for index, group in enumerate(whole_numbers([row.group for row in rows])))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)

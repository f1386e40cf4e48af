"""Tables of pictures: ``path,label[,split][,group]`` from a file or a data frame; paths are relative to the table's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.headings import pick_columns, pick_path, unused_columns
from descend.data.labels import cell_text, encode_labels, group_text, whole_numbers
from descend.data.manifest import SPLIT_WORDS, UNASSIGNED, Manifest, natural
from descend.data.places import is_file
from descend.data.problems import Problem, problem, refusal
from descend.data.scalars import on_each
from descend.data.table_files import Rows, read_rows
from descend.data.table_paths import FileFinder, clean_path, leads_out, paths_fix
from descend.errors import DataError, KnobError, nearest

MOST_LABEL = 1_000  # characters; folders, the other source of labels, have at most 255
MOST_MISSING = 0.1  # of the files that a table names: where more do not exist, something is wrong with the paths
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

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
    header, rows, notes = read_rows(table)
    _check_outside(table, header, rows, allowed=outside)
    manifest = list_rows(table.stem, table.parent, str(table), header, rows, evaluation=evaluation, from_file=True)
    return replace(manifest, problems=[*notes, *manifest.problems])


def list_rows(
    name: str, root: Path, who: str, header: Sequence[Any], cells: Rows, *, evaluation: bool = False, find: Find | None = None,
    from_file: bool = False,
) -> Manifest:  # fmt: skip
    """List the pictures of a table; rows without a file, a path or a label are counted as problems and left out.

    root: the folder that paths are relative to. who: what errors call the table. evaluation: a given split may have lost all its
    pictures. find: path -> the name of the picture that it means, or None; without it, paths are of files. from_file: a cell of
    several lines is a quotation mark that is never closed; elsewhere it may be a name. Raises DataError, also where more than a
    tenth of the files do not exist.
    """
    where, cells, about_columns = pick_columns(who, header, cells)
    is_there = (lambda path: find(path) is not None) if find else lambda path: is_file(root / path)
    rows = [_row(who, number, row, where, is_there, from_file) for number, row in enumerate(cells, start=2)]
    if not rows:
        raise DataError(who, "must have at least one row below its header")
    labels = [row.label for row in rows]
    classes, numbers, problems = encode_labels(labels, who=who)
    nameless = [f"row {row.number}" for row in rows if not row.path]
    unlabelled = [row.path for row, number in zip(rows, numbers, strict=True) if row.path and number < 0]
    sought = [row.path if number >= 0 else "" for row, number in zip(rows, numbers, strict=True)]
    files, about_paths = ([*map(find, sought)], []) if find else FileFinder(root).find_all(sought)
    absent = [row.path for row, number, file in zip(rows, numbers, files, strict=True) if row.path and number >= 0 and not file]
    problems = [
        *problem("missing", "1 file of the table does not exist and is left out",
                 "{n} files of the table do not exist and are left out", [path[:200] for path in absent]),
        *problem("unlabeled", "1 row of the table has no label and is left out",
                 "{n} rows of the table have no label and are left out", unlabelled),
        *problem("nameless", "1 row of the table has no path and is left out",
                 "{n} rows of the table have no path and are left out", nameless),
        *about_unused(header, cells, where),
        *_about_groups(cells, where),
        *about_columns,
        *about_paths,
        *problems,
    ]  # fmt: skip
    kept = sorted((index for index, file in enumerate(files) if file), key=lambda index: natural(files[index] or ""))
    if not kept:
        first = (absent or unlabelled or nameless)[0][:200]
        raise refusal(who, "must name at least one labeled picture that exists", problems, got=first, fix=paths_fix(root, absent))
    if len(absent) > MOST_MISSING * (len(absent) + len(kept)):
        must = f"at most {MOST_MISSING:.0%} of its files may be missing, {len(absent):,} of {len(absent) + len(kept):,} are"
        raise refusal(who, must, problems, fix=paths_fix(root, absent))
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
        splits_of(who, [rows[index].split for index in kept]) if "split" in where else np.full(len(kept), UNASSIGNED, np.int8),
        _groups([rows[index] for index in kept]) if "group" in where else None,
        problems=problems,
    )


def _row(
    who: str, number: int, cells: Sequence[Any], where: dict[str, int], is_there: Callable[[str], bool], from_file: bool
) -> _Row:
    written, label, split, group = (
        cells[where[column]] if column in where else "" for column in ("path", "label", "split", "group")
    )
    path = clean_path(written)
    if isinstance(written, str) and written != path and is_there(written):
        path = written  # blanks or quotes around it are its own
    if _URL.match(path):
        raise DataError(who, "pictures must be files", got=path[:200], fix="Download them, and name the files in the table.")
    if isinstance(label, str) and len(label) > MOST_LABEL:
        raise DataError(who, f"a label must have at most {MOST_LABEL:,} characters, that of row {number} has {len(label):,}",
                        got=label, fix="Close the quotes before the end of the line.")  # fmt: skip
    for text in (path, label) if from_file else ():
        if isinstance(text, str) and "\n" in text.strip():
            raise DataError(who, f"a path or a label must not go over several lines, one of row {number} does", got=text[:80],
                            fix="Close the quotes before the end of the line.")  # fmt: skip
    return _Row(number, path, label, cell_text(split), group_text(group))


def _check_outside(table: Path, header: Sequence[Any], rows: Rows, *, allowed: bool) -> None:
    """Refuse paths that lead out of the table's folder to files that exist, or a permission that no row needs."""
    where = pick_path(str(table), header)
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


def splits_of(who: str, words: Sequence[str]) -> NDArray[np.int8]:
    """Return the splits that a column names, (n,) int8; none where it is empty. Raises DataError for a word that is no split."""
    if not any(words):
        return np.full(len(words), UNASSIGNED, np.int8)
    for word in sorted({word.lower() for word in words}):
        if word not in SPLIT_WORDS:
            hint = nearest(word, SPLIT_WORDS) if word else "Fill the column, or remove it to have the pictures split."
            raise DataError(who, "every split must be train, val or test", got=word, fix=hint)
    return np.array([SPLIT_WORDS[word.lower()] for word in words], np.int8)


def _refuse_lost_splits(who: str, rows: list[_Row], kept: list[_Row], problems: list[Problem]) -> None:
    """Refuse a split that rows are given and none of them keeps; test rows without a label are pictures to classify."""
    left = {SPLIT_WORDS.get(row.split.lower()) for row in kept}
    for number, name in ((1, "val"), (2, "test")):
        given = [row for row in rows if SPLIT_WORDS.get(row.split.lower()) == number]
        if given and number not in left and (name == "val" or any(cell_text(row.label) for row in given)):
            raise refusal(who, f"the rows of split {name!r} must name a labeled picture that exists", problems,
                          fix="Mend them, or remove them.")  # fmt: skip


def about_unused(header: Sequence[Any], cells: Rows, where: dict[str, int]) -> list[Problem]:
    """Return the problem of columns that may give the split or the groups by their names, and are not called so."""
    named = unused_columns(header, cells, where)
    return problem("unused", "1 column may give the split or the groups and is not used",
                   "{n} columns may give the split or the groups and are not used", named)  # fmt: skip


def _about_groups(cells: Rows, where: dict[str, int]) -> list[Problem]:
    """Return the problem of groups that are taken as missing though something stands in their cells."""
    groups = on_each(cell_text, (row[where["group"]] for row in cells)) if "group" in where else []
    gaps = {group for group in {*groups} if group and not group_text(group)}
    named = [f"row {number} ({group!r})" for number, group in enumerate(groups, start=2) if group in gaps]
    return problem("doubtful", "1 row has a group that stands for none, and is a group of its own",
                   "{n} rows have a group that stands for none, and are each a group of their own", named)  # fmt: skip


def _groups(rows: list[_Row]) -> NDArray[np.int64]:
    """Number the groups, whatever their capitals; an empty cell is a group of its own."""
    numbers: dict[str, int] = {}
    keys = (group.casefold() or f"\0{index}" for index, group in enumerate(whole_numbers([row.group for row in rows])))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)

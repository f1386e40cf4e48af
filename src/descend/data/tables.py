"""Tables of pictures: ``path,label[,split][,group]`` as CSV, TSV or Parquet; paths are relative to the table's folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from descend.data.manifest import SPLIT_WORDS, UNASSIGNED, Manifest, encode_labels, natural
from descend.data.problems import problem
from descend.errors import DataError, MissingExtra, nearest

SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": ""}
_COLUMNS = ("path", "label", "split", "group")
_Row = tuple[str, str, str, str]


def read_table(table: Path) -> Manifest:
    """List the pictures that a table names; rows without a file or a label are counted as problems and left out."""
    rows, has_split, has_group = _rows(table)
    if not rows:
        raise DataError(str(table), "must have at least one row below its header")
    nameless = [f"row {number}" for number, row in enumerate(rows, start=2) if not row[0]]
    unlabelled = [row[0] for row in rows if row[0] and not row[1]]
    rows = [row for row in rows if row[0] and row[1]]
    absent = [row[0] for row in rows if not (table.parent / row[0]).is_file()]
    gone = set(absent)
    rows = sorted((row for row in rows if row[0] not in gone), key=lambda row: natural(row[0]))
    if not rows:
        first = (absent or unlabelled or nameless)[0]
        raise DataError(str(table), "must name at least one labelled picture that exists", got=first,
                        fix=f"Paths are relative to {table.parent}.")  # fmt: skip
    classes, labels = encode_labels([row[1] for row in rows])
    problems = problem("missing", "1 file of the table does not exist and is left out",
                       "{n} files of the table do not exist and are left out", absent)  # fmt: skip
    problems += problem("unlabelled", "1 row of the table has no label and is left out",
                        "{n} rows of the table have no label and are left out", unlabelled)  # fmt: skip
    problems += problem("nameless", "1 row of the table has no path and is left out",
                        "{n} rows of the table have no path and are left out", nameless)  # fmt: skip
    splits = _splits(table, rows) if has_split else np.full(len(rows), UNASSIGNED, np.int8)
    groups = _groups(rows) if has_group else None
    return Manifest(table.stem, table.parent, classes, [row[0] for row in rows], labels, splits, groups, problems=problems)


def _rows(table: Path) -> tuple[list[_Row], bool, bool]:
    suffix = table.suffix.lower()
    if suffix == ".parquet":
        columns, records = _parquet(table)
        return _picked(table, columns, records)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=SUFFIXES[suffix])
            return _picked(table, reader.fieldnames or (), reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(str(table), f"must be a UTF-8 {suffix[1:].upper()} table ({error})") from None


def _picked(table: Path, columns: Iterable[str], records: Iterable[Mapping[str, object]]) -> tuple[list[_Row], bool, bool]:
    """Keep the four columns we know, as stripped text; the header may be in any case and order."""
    columns = list(columns)
    known = {str(column).strip().lower(): column for column in columns}
    for twice in (name for name in _COLUMNS if sum(str(column).strip().lower() == name for column in columns) > 1):
        raise DataError(str(table), f"must have one column {twice!r}", got=", ".join(map(str, columns)), fix="Rename the others.")
    for needed in ("path", "label"):
        if needed not in known:
            fix = "A table reads path,label and may add split and group."
            if len(known) == 1 and ";" in next(iter(known)):
                fix = "Its columns are parted by semicolons: save it with commas, or with tabs as .tsv."
            raise DataError(str(table), f"must have a column {needed!r}", got=", ".join(known) or "no header", fix=fix)
    kept = [known.get(column) for column in _COLUMNS]
    rows = [_row([_text(record.get(column)) if column else "" for column in kept]) for record in records]
    return rows, "split" in known, "group" in known


def _row(cells: list[str]) -> _Row:
    path, label, split, group = cells
    return path.replace("\\", "/") if os.sep == "\\" else path, label, split, group


def _text(value: object) -> str:
    """Return a cell as text: nothing for an empty or missing one, ``3`` for the 3.0 that Parquet makes of a gap in integers."""
    if value is None or value != value:  # NaN is the one value that differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _parquet(table: Path) -> tuple[list[str], list[dict[str, object]]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra(
            "Parquet tables", "pyarrow must be installed", fix="Install it with: pip install 'descend[tables]'"
        ) from None
    try:
        found = parquet.read_table(table)
    except (OSError, ValueError) as error:
        raise DataError(str(table), f"must be a Parquet table ({error})") from None
    wanted = [name for name in found.column_names if name.strip().lower() in _COLUMNS]
    return found.column_names, found.select(wanted).to_pylist()


def _splits(table: Path, rows: list[_Row]) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    words = {row[2].lower() for row in rows}
    if words == {""}:
        return np.full(len(rows), UNASSIGNED, np.int8)
    for word in sorted(words):
        if word not in SPLIT_WORDS:
            hint = nearest(word, SPLIT_WORDS) if word else "Fill the column, or remove it to have the pictures split."
            raise DataError(str(table), "every split must be train, val or test", got=word, fix=hint)
    return np.array([SPLIT_WORDS[row[2].lower()] for row in rows], np.int8)


def _groups(rows: list[_Row]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Number the groups; an empty cell is a group of its own."""
    numbers: dict[str, int] = {}
    keys = (row[3] or f"\0{index}" for index, row in enumerate(rows))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)

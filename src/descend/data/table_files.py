"""Table files, read: CSV, TSV and Parquet become a header and rows of cells; what does not fit is refused with the fix."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from descend.data.labels import clean_text
from descend.errors import DataError, MissingExtra

SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": ""}
COLUMNS = ("path", "label", "split", "group")
_OTHER_NAMES = {
    "path": ("filename", "file_name", "file", "filepath", "file_path", "image_path", "image", "img", "image_id", "id", "name"),
    "label": ("labels", "class", "category", "target", "class_name", "label_name", "y"),
    "split": ("is_valid", "is_test", "set", "subset", "partition", "phase", "usage", "fold"),
    "group": ("groups", "group_id", "patient", "patient_id", "subject", "subject_id", "video", "video_id", "burst", "scene"),
}
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
                     codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
_FIXES = {"\t": "name it .tsv", ",": "name it .csv"}

Rows = list[list[Any]]


def read_rows(table: Path) -> tuple[list[str], Rows]:
    """Return the columns of a table file and its rows, each as long as the header. Raises DataError or MissingExtra."""
    if table.suffix.lower() == ".parquet":
        return _parquet(table)
    delimiter = SUFFIXES[table.suffix.lower()]
    reader = csv.reader(io.StringIO(_text(table), newline=None), delimiter=delimiter, skipinitialspace=True)  # a, "b, c"
    try:
        rows = list(reader)
    except csv.Error as error:
        raise DataError(str(table), f"must be a {_kind(table)} table ({error}, in line {reader.line_num:,})",
                        fix="A cell that large is mostly a quotation mark that is never closed: double it, or remove it."
                        * ("limit" in str(error))) from None  # fmt: skip
    header = [clean_text(cell) for cell in rows[0]] if rows else []
    _refuse_other_delimiter(table, header, delimiter)
    return header, [_as_long(table, header, number, row) for number, row in enumerate(rows[1:], start=2) if row]


def pick_columns(who: str, header: Sequence[Any], needed: Sequence[str] = ("path", "label")) -> dict[str, int]:
    """Return where each of the columns that we know stands; names may be in any case. Raises DataError."""
    names = [clean_text(str(name)).casefold() for name in header]
    for column in COLUMNS:
        if names.count(column) > 1:
            raise DataError(who, f"must have one column {column!r}", got=", ".join(map(str, header)), fix="Rename the others.")
    for column in needed:
        if column not in names:
            others = [str(header[names.index(name)]) for name in _OTHER_NAMES[column] if name in names]
            fix = f"Rename the column {others[0]!r} to {column!r}." if others else ""
            raise DataError(who, f"must have a column {column!r}", got=", ".join(names) or "no header",
                            fix=fix or "The first line of a table reads path,label and may add split and group.")  # fmt: skip
    return {column: names.index(column) for column in COLUMNS if column in names}


def unused_columns(header: Sequence[Any]) -> list[str]:
    """Return the columns that by their names may give the split or the groups, where no column is called so."""
    names = {clean_text(str(name)).casefold(): str(name) for name in header}
    return [
        f"{names[other]!r} (rename it to {column!r} to use it)"
        for column in ("split", "group")
        if column not in names
        for other in _OTHER_NAMES[column]
        if other in names
    ]


def _kind(table: Path) -> str:
    return table.suffix[1:].upper()


def _text(table: Path) -> str:
    """Return the text of a table: UTF-8, or what its byte order mark says."""
    try:
        content = table.read_bytes()
    except OSError as error:
        raise DataError(str(table), f"must be a readable table ({error.strerror})") from None
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(str(table), f"must be a UTF-8 {_kind(table)} table ({error})", fix=_other_encoding(content)) from None
    if "\0" in text:
        raise DataError(str(table), f"must be a UTF-8 {_kind(table)} table (it holds zero bytes)", fix=_other_encoding(content))
    return text


def _other_encoding(content: bytes) -> str:
    how = "in a spreadsheet, save it as 'CSV UTF-8'; on a command line, iconv -f {} -t utf-8"
    if b"\0" in content:
        return f"It looks like UTF-16 without a byte order mark: {how.format('utf-16le')}."
    return f"It looks like Windows-1252 or another 8-bit encoding: {how.format('cp1252')}."


def _refuse_other_delimiter(table: Path, header: Sequence[str], delimiter: str) -> None:
    for other, name in _DELIMITERS.items():
        if len(header) == 1 and other != delimiter and other in header[0]:
            fix = _FIXES.get(other, "save it with commas, or with tabs as .tsv")
            raise DataError(str(table), f"its columns must be parted by {_DELIMITERS[delimiter]}", got=header[0],
                            fix=f"They are parted by {name}: {fix}.")  # fmt: skip


def _as_long(table: Path, header: Sequence[str], number: int, row: list[str]) -> list[str]:
    """Return a row as long as the header; cells beyond it would cut a label short, so they are refused."""
    surplus = [cell for cell in row[len(header) :] if cell.strip()]
    if surplus:
        raise DataError(str(table), f"every row must have the header's {len(header)} cells, row {number} has {len(row)}",
                        got=row[:8], fix='Put quotes around a cell that holds the delimiter: "wolf, gray".')  # fmt: skip
    return (row + [""] * len(header))[: len(header)]


def _parquet(table: Path) -> tuple[list[str], Rows]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra(
            "Parquet tables", "pyarrow must be installed", fix="Install it with: pip install 'descend[tables]'"
        ) from None
    try:
        content = parquet.read_table(table)
    except (OSError, ValueError) as error:
        raise DataError(str(table), f"must be a Parquet table ({error})") from None
    known = [
        clean_text(name).casefold() in COLUMNS for name in content.column_names
    ]  # the others may hold anything, pictures too
    columns = [
        column.to_pylist() if is_known else [None] * len(column) for column, is_known in zip(content.columns, known, strict=True)
    ]
    return content.column_names, [list(row) for row in zip(*columns, strict=True)]

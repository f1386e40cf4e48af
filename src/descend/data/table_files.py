"""Table files, read: CSV, TSV and Parquet become a header and rows of cells; what does not fit is refused with the fix.

Before the header may stand blank lines, comments (``# ...``), and the line ``sep=;`` with which Excel is told the delimiter.
Where cells stand in single quotes, those quote.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from descend.data.encodings import way_to_utf_8
from descend.data.formats import LFS_POINTER, is_picture_name
from descend.data.headings import COLUMNS, columns_by_name, is_heading
from descend.data.labels import clean_text
from descend.data.manifest import SPLIT_WORDS
from descend.data.problems import Problem, problem
from descend.errors import DataError, MissingExtra

SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": ""}
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
                     codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
_FIXES = {"\t": "name it .tsv", ",": "name it .csv"}
_DELIMITER_TOLD = re.compile(r"sep=(\\t|[,;|\t])", re.IGNORECASE)
_QUOTES = "'\"`\u2018\u2019\u201c\u201d"  # straight and typographic
_MOST_TITLE = 20  # lines in which a header is sought
_QUOTED = 'Put quotes around a cell that holds the delimiter: "wolf, gray".'
_LOOKED_AT = 1_000  # lines, for the mark that quotes

Rows = list[list[Any]]


class Table(NamedTuple):
    """The columns of a table file, its rows, each as long as the header, and what its owner should know."""

    header: list[str]
    rows: Rows
    notes: list[Problem]


def read_rows(table: Path) -> Table:
    """Return what stands in a table file. Raises DataError or MissingExtra."""
    if table.suffix.lower() == ".parquet":
        return Table(*_parquet(table), [])
    text, delimiter = _from_header(_text(table), SUFFIXES[table.suffix.lower()])
    read = partial(csv.reader, delimiter=delimiter, quotechar=_quote(text, delimiter))
    reader = read(io.StringIO(text), skipinitialspace=True)
    try:
        rows = list(reader)  # skipinitialspace: a, "b, c"
    except csv.Error as error:
        raise DataError(str(table), f"must be a {_kind(table)} table ({error}, in line {reader.line_num:,})",
                        fix="A cell that large is mostly a quotation mark that is never closed: double it, or remove it."
                        * ("limit" in str(error))) from None  # fmt: skip
    rows = [row if len(row) < 2 or any(map(str.strip, row)) else [] for row in rows]  # emptied in a spreadsheet
    _refuse_escaped(table, text, delimiter)
    _refuse_other_delimiter(table, rows[0] if rows else [], delimiter)
    header = [clean_text(cell).strip(_QUOTES) for cell in rows[0]] if rows else []
    _refuse_title(table, rows)
    _refuse_ends(table, header, rows[1:], delimiter)
    _refuse_row_names(table, header, rows[1:])
    _refuse_swallowed(table, header, rows[1:], delimiter)
    _refuse_uneven(table, header, rows[1:])
    notes = _short(table, header, rows[1:], islice(read(io.StringIO(text)), 1, None))
    return Table(header, [_as_long(table, header, number, row) for number, row in enumerate(rows[1:], start=2) if row], notes)


def _from_header(text: str, delimiter: str) -> tuple[str, str]:
    """Return a table's text from its header on, and its delimiter. A header may be a comment itself, as NumPy writes it."""
    text, comment = text.replace("\r\n", "\n").replace("\r", "\n"), ""
    while text:
        line, _, rest = text.partition("\n")
        if told := _DELIMITER_TOLD.fullmatch(line.strip().strip('"')):
            delimiter = told[1].replace("\\t", "\t")
        elif line.startswith("#"):
            comment = line.lstrip("#").strip()
        elif line.strip(f"{delimiter} \t"):
            break
        text = rest
    n_known, n_in_comment = (sum(map(is_heading, words.split(delimiter))) for words in (text.partition("\n")[0], comment))
    return (f"{comment}\n{text}" if n_in_comment > n_known else text), delimiter


def _quote(text: str, delimiter: str) -> str:
    """Return the mark that quotes cells: ' where every line has a cell between two of them, and none holds the usual one."""
    cell = re.compile(rf"(?:^|{re.escape(delimiter)})\s*'(?:[^']|'')*'\s*(?:{re.escape(delimiter)}|$)")
    lines = [line.rstrip("\n") for line in islice(io.StringIO(text), 1, _LOOKED_AT) if line.strip()]
    return "'" if lines and all(cell.search(line) and '"' not in line for line in lines) else '"'


def _kind(table: Path) -> str:
    return table.suffix[1:].upper()


def _text(table: Path) -> str:
    """Return the text of a table: UTF-8, or what its byte order mark says."""
    content = _content(table)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(str(table), f"must be a UTF-8 {_kind(table)} table ({error})", fix=way_to_utf_8(content)) from None
    if "\0" in text:
        raise DataError(str(table), f"must be a UTF-8 {_kind(table)} table (it holds zero bytes)", fix=way_to_utf_8(content))
    return text


def _content(table: Path) -> bytes:
    try:
        content = table.read_bytes()
    except OSError as error:
        raise DataError(str(table), f"must be a readable table ({error.strerror})") from None
    _refuse_pointer(table, content)
    return content


def _refuse_pointer(table: Path, content: bytes) -> None:
    if content.startswith(LFS_POINTER):
        raise DataError(str(table), "must be a table (it is a pointer of Git LFS in its place)", fix="Fetch it: git lfs pull.")


def _refuse_escaped(table: Path, text: str, delimiter: str) -> None:
    r"""Refuse ``"5\" nail"``: the cell ends at the second mark, and what follows would stand in the class with the others."""
    for number, line in enumerate(text.split("\n"), start=1):
        if '\\"' not in line:
            continue
        try:
            for _ in csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True):
                pass
        except csv.Error:
            must = f"a quotation mark within quotes must be doubled, line {number:,} has a backslash before it"
            raise DataError(str(table), must, got=line[:80], fix='Write "" for it; in pandas, leave escapechar out.') from None


def _refuse_title(table: Path, rows: Sequence[Sequence[str]]) -> None:
    """Refuse lines above the header: a title, the time of an export."""
    known = [sum(map(is_heading, row)) if len(row) > 1 else 0 for row in rows[:_MOST_TITLE]]
    above = next((at for at, n_known in enumerate(known) if n_known), 0)
    if above:
        raise DataError(str(table), "the first line must name the columns", got=", ".join(rows[0]),
                        fix=f"Line {above + 1} seems to: remove what stands above it, or begin those lines with #.")  # fmt: skip


def _refuse_other_delimiter(table: Path, header: Sequence[str], delimiter: str) -> None:
    if len(header) == 1 and delimiter in header[0]:
        raise DataError(str(table), "cells must be quoted one by one", got=header[0],
                        fix="Each line stands in quotation marks as a whole: remove them.")  # fmt: skip
    for other, name in _DELIMITERS.items():
        if len(header) == 1 and other != delimiter and other in header[0]:
            fix = _FIXES.get(other, "save it with commas, or with tabs as .tsv")
            raise DataError(str(table), f"its columns must be separated by {_DELIMITERS[delimiter]}", got=header[0],
                            fix=f"They are separated by {name}: {fix}.")  # fmt: skip
    if len(header) == 1 and sum(map(is_heading, header[0].split())) > 1:
        raise DataError(str(table), f"its columns must be separated by {_DELIMITERS[delimiter]}", got=header[0],
                        fix="They are separated by blanks: save it with commas, or with tabs as .tsv.")  # fmt: skip


def _refuse_ends(table: Path, header: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str) -> None:
    """Refuse lines that all end in another delimiter: it would be a letter of every class."""
    ends = {row[-1].rstrip()[-1:] for row in rows if row}
    end = ends.pop() if len(ends) == 1 else ""
    if end in {*_DELIMITERS} - {delimiter} and (header[-1].endswith(end) or is_heading(header[-1])):
        raise DataError(str(table), f"its lines must not end in {_DELIMITERS[end]}", got=next(row for row in rows if row)[-1],
                        fix="Remove them, from the header too.")  # fmt: skip


def _refuse_row_names(table: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Refuse a header that lacks the name of a first column of row numbers, as R's write.table writes it."""
    filled = [row for row in rows if row]
    if filled and all(len(row) == len(header) + 1 and row[0] == str(at) for at, row in enumerate(filled, start=1)):
        raise DataError(str(table), "the header must name the column of row numbers too", got=", ".join(header),
                        fix="In R: write.csv(..., row.names = FALSE).")  # fmt: skip


def _refuse_swallowed(table: Path, header: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str) -> None:
    """Refuse a cell, in whatever column, that holds whole rows: a quotation mark before them is never closed."""
    for number, row in enumerate(rows, start=2):
        for line in (line for cell in row if "\n" in cell for line in cell.split("\n")[1:]):
            parts = line.split(delimiter)
            if len(parts) >= len(header) and any(is_picture_name(part.strip()) for part in parts):
                raise DataError(str(table), f"a cell with rows in it must not go over several lines, one of row {number} does",
                                got=line[:80], fix="Close the quotes before the end of the line.")  # fmt: skip


def _refuse_uneven(table: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Refuse rows with more cells than the header where others have not: a comma in a label, and an empty cell behind it."""
    longer = [(number, row) for number, row in enumerate(rows, start=2) if len(row) > len(header)]
    if longer and any(len(row) == len(header) for row in rows):
        raise _too_long(table, header, *longer[0])


def _short(table: Path, header: Sequence[str], rows: Sequence[Sequence[str]], written: Iterable[Sequence[str]]) -> list[Problem]:
    """Return the problems of rows that have fewer cells than others, or refuse them where a comma in a label tells why.

    Writers leave the empty cells at the end of a line out. Where lines differ, the longer ones may hold a comma in a label. A
    blank behind it says so: ``a.png,wolf, gray`` with no blank before ``wolf``. Refused is what fills a column in use wrongly.
    written: the rows with the blanks at the beginning of their cells.
    """
    used = columns_by_name(header)
    last = max(used.values(), default=0)
    short = [number for number, row in enumerate(rows, start=2) if 1 < len(row) < len(header)]
    if not short or "label" not in used or all(len(row) < len(header) for row in rows):
        return []
    doubtful, written = list[str](), [*written]
    if any(len(cells) > used.get("group", len(cells)) and cells[used["group"]][:1].strip() for cells in written):
        del used["group"]  # has cells without a blank too: one with a blank may be of these
    for number, (cells, row) in enumerate(zip(written, rows, strict=False), start=2):
        if len(row) < len(header) or len(cells) != len(row) or len({cell[0] == " " for cell in cells[1:] if cell.strip()}) < 2:
            continue
        if _has_comma(cells, used):
            must = f"every row must have the header's {len(header)} cells, row {short[0]} has not, {number} only by a comma"
            raise DataError(str(table), must, got=cells[:8], fix=f"{_QUOTED} Or give row {short[0]} its empty cells.")
        behind = [cell for cell in cells[used["label"] + 1 :] if cell.strip()]
        doubtful += [f"row {number}"] * (len(behind) == 1 and behind[0] is cells[used["label"] + 1] and behind[0][0] == " ")
    lacking = [f"row {number}" for number in short if len(rows[number - 2]) <= last]
    return [
        *problem("table", "1 row has fewer cells than others, what it lacks is empty; if a label holds a comma, quote it",
                 "{n} rows have fewer cells than others, what they lack is empty; if a label holds a comma, quote it", lacking),
        *problem("table", "1 row may have a comma in its label, for a blank stands behind that alone; if so, quote the label",
                 "{n} rows may have commas in their labels, for blanks stand behind those alone; if so, quote them", doubtful),
    ]  # fmt: skip


def _has_comma(cells: Sequence[str], used: Mapping[str, int]) -> bool:
    """Return whether a row makes sense only if its label, or what stands before it, goes on in the next cell, after the comma.

    Without that comma a split or a picture's name stands in its column, or nothing does where the rest of a label is the group.
    """
    fits = {"split": lambda cell: not cell or cell.lower() in SPLIT_WORDS, "path": is_picture_name}
    for at in {used["label"], used["label"] + 1} - {0, len(cells)}:
        if cells[at][:1] != " ":
            continue
        joined = [cell.strip() for cell in (*cells[:at], *cells[at + 1 :], "")]
        mended = any(fits[name](joined[place]) and not fits[name](cells[place].strip())
                     for name, place in used.items() if name in fits and place >= at)  # fmt: skip
        if mended or (at > used["label"] and at == used.get("group") and not joined[at]):
            return True
    return False


def _as_long(table: Path, header: Sequence[str], number: int, row: list[str]) -> list[str]:
    """Return a row as long as the header; cells beyond it would cut a label short, so they are refused."""
    surplus = [cell for cell in row[len(header) :] if cell.strip()]
    if surplus:
        raise _too_long(table, header, number, row)
    return (row + [""] * len(header))[: len(header)]


def _too_long(table: Path, header: Sequence[str], number: int, row: Sequence[str]) -> DataError:
    must = f"every row must have the header's {len(header)} cells, row {number} has {len(row)}"
    return DataError(str(table), must, got=row[:8], fix=_QUOTED)


def _parquet(table: Path) -> tuple[list[str], Rows]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra(
            "Parquet tables", "pyarrow must be installed", fix="Install it with: pip install 'descend[tables]'"
        ) from None
    try:
        with table.open("rb") as file:
            _refuse_pointer(table, file.read(len(LFS_POINTER)))
        content = parquet.read_table(table)
    except (OSError, ValueError) as error:
        raise DataError(str(table), f"must be a Parquet table ({error})") from None
    names = [clean_text(name).casefold() for name in content.column_names]
    is_complete = {"path", "label"} <= set(names)
    columns = [  # of the others none is read that may hold anything, pictures too
        column.to_pylist() if name in COLUMNS or not (is_complete or _is_large(column.type)) else [None] * len(column)
        for name, column in zip(names, content.columns, strict=True)
    ]
    return content.column_names, [list(row) for row in zip(*columns, strict=True)]


def _is_large(kind: Any) -> bool:
    """Say whether the cells of an Arrow type may hold anything, pictures too."""
    import pyarrow.types as types

    return types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind)

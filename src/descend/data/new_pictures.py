"""A table of new pictures, without labels: which files its rows name, and what identifies each row."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from descend.data.headings import path_columns, pick_path
from descend.data.labels import cell_text
from descend.data.parquet_rows import has_pictures
from descend.data.places import is_folder
from descend.data.problems import Problem
from descend.data.scalars import plain
from descend.data.table_files import SUFFIXES, read_rows
from descend.data.table_paths import FileFinder, clean_path, leads_out, paths_fix
from descend.errors import DataError, nearest


class NewPictures(NamedTuple):
    """What each row of a table is called, and the path of its picture; where there is no such file, the path as it would be.

    notes: what is to be told of paths that were taken for others.
    """

    ids: list[str]
    paths: list[str]
    notes: list[Problem]


def is_table(path: Path) -> bool:
    """Say whether a path is, by its name, that of a table of pictures; one of Parquet with the pictures in it is none."""
    return path.suffix.lower() in SUFFIXES and not has_pictures(path)


def read_new_pictures(table: Path, identifier: str | None = None) -> NewPictures:
    """Read a table of new pictures: its column ``path``, or of a name like it (``headings.pick_path``), names the files.

    Paths are relative to the table's folder. identifier: the column that identifies a row, and names the files where no other
    does; None for the paths themselves. Raises DataError where there is no such column, or no row, where several columns may name
    the files, and where a path is missing, leads out of the table's folder, or to a folder; MissingExtra for Parquet without its
    package.
    """
    header, rows, _ = read_rows(table)
    names = [str(name).strip() for name in header]
    if identifier is not None and identifier not in names:
        raise DataError(str(table), f"must have a column {identifier!r}", got=", ".join(names) or "no header",
                        fix=nearest(identifier, names) if names else "")  # fmt: skip
    path = names.index(identifier) if identifier and not path_columns(header) else pick_path(str(table), header)
    if not rows:
        raise DataError(str(table), "must have at least one row below its header")
    named = [_as_written(row[names.index(identifier) if identifier else path]) for row in rows]
    written = [clean_path(row[path]) for row in rows]
    finder = FileFinder(table.parent)
    files, notes = finder.find_all(written)
    if not any(files) and finder.meanings(written):
        must = "must name at least one picture that exists"
        raise DataError(str(table), must, got=written[0], fix=paths_fix(table.parent, written))
    root = os.path.normpath(table.parent.absolute())
    outside = next((text for file, text in zip(files, written, strict=True) if leads_out(file or text, root)), None)
    if outside is not None:
        raise DataError(str(table), "pictures must lie below the table's folder", got=outside,
                        fix="Put the table above its pictures, or name the files themselves.")  # fmt: skip
    for number, (file, text) in enumerate(zip(files, written, strict=True), start=2):
        if not text or (file is None and is_folder(table.parent / text)):
            raise DataError(str(table), f"every row must name a picture's file, row {number} does not", got=text,
                            fix="Mend the row, or remove it.")  # fmt: skip
    paths = [str(table.parent / (file or text)) for file, text in zip(files, written, strict=True)]
    return NewPictures(named, paths, notes)


def _as_written(cell: Any) -> str:
    """Return an identifier as it stands in its cell, without blanks around it: a program compares it.

    ``3`` for the float 3.0, which a gap makes of an integer in Parquet; "" for None and NaN.
    """
    value = plain(cell)
    return value.strip() if isinstance(value, str) else cell_text(value)

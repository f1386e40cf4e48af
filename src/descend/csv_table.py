"""CSV tables that the product writes: cells that a spreadsheet would run as formulas are disarmed.

A cell of text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe before it (OWASP, "CSV
Injection"): a file called ``=cmd|...`` or a class called ``@SUM(...)`` would be run otherwise by whoever opens the table. Numbers
stay numbers, also where they are negative, and so does text that is a plain number: a class ``-1``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TextIO

Cell = str | int | float
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def write_table(file: TextIO, header: Sequence[str], rows: Iterable[Sequence[Cell]], *, in_quotes: bool = False) -> None:
    """Write a header and rows as CSV (RFC 4180); floats get six decimals.

    file: opened with ``newline=""``. in_quotes: put every cell in quotes, not only those that need it.
    """
    for row in chain([header], rows):
        write_row(file, row, in_quotes=in_quotes)


def write_row(file: TextIO, cells: Sequence[Cell], *, in_quotes: bool = False) -> None:
    """Write one row as ``write_table`` does."""
    csv.writer(file, quoting=csv.QUOTE_ALL if in_quotes else csv.QUOTE_MINIMAL).writerow([_text(cell) for cell in cells])


def disarmed(text: str) -> str:
    """Return the text of a cell so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def as_read(text: str) -> str:
    """Return what a reader gets for a cell of ``text``, in a table that is written as UTF-8 with ``backslashreplace``."""
    return disarmed(text).encode("utf-8", "backslashreplace").decode()


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return disarmed(cell)
    return f"{cell:.6f}" if isinstance(cell, float) else str(cell)

"""Tables of measured numbers on the pages: how a value reads, and where a table stands.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``; each page's ``build.py`` fills it anew by what is here. Same
results, same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


def cell(value: Any) -> str:
    """Return a number, share, mean or median as a reader wants it."""
    if value is None:
        return "never"
    if isinstance(value, dict) and "share" in value:
        return f"{value['share']:.0%} ({value['low']:.0%} to {value['high']:.0%})"
    if isinstance(value, dict):
        middle, low, high = (cell(value[key]) for key in ("mean" if "mean" in value else "median", "low", "high"))
        return middle if low == middle == high else f"{middle} ({low} to {high})"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"
    return re.sub(r"(\d) %", r"\1%", str(value))  # older results keep a gap


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(map(cell, rows[0])) + " |", "|" + " --- |" * len(rows[0])]
    return "\n".join(lines + ["| " + " | ".join(cell(value) for value in row.values()) + " |" for row in rows])


def fill(page: str, made: Callable[[str], str]) -> str:
    """Return the Markdown ``page`` with every table drawn anew. made: name -> Markdown of what stands between the marks."""
    pattern = r"(<!-- table ([\w.]+) -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda found: f"{found[1]}\n{made(found[2])}\n\n{found[3]}", page, flags=re.DOTALL)


def fill_rows(page: str, result: dict[str, Any]) -> str:
    """Return ``page`` with every table PAGE.NAME drawn from the rows ``result[PAGE][NAME]``."""

    def rows_of(name: str) -> str:
        place, _, key = name.partition(".")
        return table(result[place][key])

    return fill(page, rows_of)

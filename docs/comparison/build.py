"""Fill the tables of docs/comparison from the results of the benchmarks that they name.

python docs/comparison/build.py
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
TABLES = runpy.run_path(str(HERE.parent / "tables.py"))
FALSE, COVERED, POWER = "false verdicts, %", "coverage, %", "power, %"

Row = dict[str, Any]


def results() -> dict[str, Any]:
    """Return what the benchmarks measured."""
    return {name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["result"] for name in PAGES}


def span(values: Iterable[float]) -> str:
    """Return the lowest and the highest."""
    known = list(values)
    return f"{min(known):g} to {max(known):g}"


def points(row: Row) -> str:
    """Return the true difference as a column's head."""
    return f"{row['points']:g} point" + "s" * (row["points"] != 1)


def overview(tables: dict[str, list[Row]]) -> list[Row]:
    """Return one line per interval and kind of runs: settings, false verdicts and coverage."""
    kinds: list[tuple[str, str, str, str]] = [
        ("seeds and pictures", "seeds_and_pictures", COVERED, "runs"),
        ("the same, bootstrap", "bootstraps", COVERED, "runs"),
        ("seeds", "own_splits", COVERED, "runs"),
        ("the same, bootstrap", "own_splits", "coverage of the bootstrap, %", "runs"),
        ("mean of one side", "own_splits", "coverage of the mean of one side, %", "runs"),
        ("one run each", "one_run_each", COVERED, ""),
        ("share, median", "shares_and_medians", COVERED, ""),
    ]
    lines = []
    for spoken, table, column, axis in kinds:
        for kind in dict.fromkeys(row.get(axis, "") for row in tables[table]):
            rows = [row for row in tables[table] if row.get(axis, "") == kind]
            false = span(row[FALSE] for row in rows) if column == COVERED and FALSE in rows[0] else "-"
            few, many = ([row[column] for row in rows if (row.get("seeds", 5) < 5) is less] for less in (True, False))
            lines.append({"interval over": spoken, "runs": kind or "-", "settings": len(rows), FALSE: false,
                          "coverage, 3 seeds, %": span(few) if few else "-", "coverage, otherwise, %": span(many)})  # fmt: skip
    return lines


def power(tables: dict[str, list[Row]]) -> list[Row]:
    """Return how often a difference is found, by its size, where all runs judge the same pictures."""
    known: dict[tuple[int, int], Row] = {}
    for row in tables["seeds_and_pictures"]:
        if row["runs"] == "normal" and row["points"]:
            line = known.setdefault((row["seeds"], row["pictures"]), {"seeds": row["seeds"], "pictures": row["pictures"]})
            line[points(row)] = row[POWER]
    return list(known.values())


def rules(tables: dict[str, list[Row]]) -> list[Row]:
    """Return one line per rule of adding seeds: false verdicts at worst, power and seeds spent by the size of the difference."""
    lines: dict[str, Row] = {}
    given, own = tables["until_decided"], tables["until_decided_on_own_splits"]
    for rule in dict.fromkeys(row["rule"] for row in given):
        line: Row = {"rule": rule}
        for where, rows in (("given pictures", given), ("own splits", own)):
            known = [row[FALSE] for row in rows if row["rule"] == rule and row["points"] == 0]
            line[f"false verdicts, {where}, %"] = span(known) if known else "-"
        for row in given:
            if row["rule"] == rule and row["points"] and row["pictures"] == 2000:
                line[f"{points(row)}: power, % (seeds)"] = f"{row[POWER]:g} ({row['seeds']:g})"
        lines[rule] = line
    return list(lines.values())


PAGES: dict[str, Callable[[dict[str, Any]], dict[str, list[Row]]]] = {
    "false_alarms": lambda result: {"rows": result["rows"]},
    "calibration_coverage": lambda result: {"overview": result["overview"]},
    "verdict_validity": lambda result: {**result, "overview": overview(result), "power": power(result), "rules": rules(result)},
}


def filled(page: str, measured: dict[str, Any]) -> str:
    """Return the page with its tables as measured."""
    return TABLES["fill_rows"](page, {name: tables(measured[name]) for name, tables in PAGES.items()})


def main() -> None:
    """Fill the page."""
    page = HERE / "README.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), results()), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

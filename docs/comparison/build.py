"""Fill the table of docs/comparison from benchmarks/results/false_alarms.json.

python docs/comparison/build.py
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results" / "false_alarms.json"
TABLES = runpy.run_path(str(HERE.parent / "tables.py"))


def filled(page: str, result: dict[str, Any]) -> str:
    """Return the page with its table as measured."""
    return TABLES["fill_rows"](page, {"false_alarms": result})


def main() -> None:
    """Fill the page."""
    page = HERE / "README.md"
    result = json.loads(RESULTS.read_text(encoding="utf-8"))["result"]
    page.write_text(filled(page.read_text(encoding="utf-8"), result), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

"""Hold the test run to its floor: at least 90 % of the branches in ``src`` were taken.

    python -m pytest -n logical --cov --cov-report=json:FILE && python scripts/coverage_floor.py FILE

Kernels that Numba compiles do not count (pyproject.toml, ``tool.coverage.report``): no tracer sees their lines run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FLOOR = 90.0
N_SHOWN = 10


def share(summary: dict[str, Any]) -> float:
    """Return the branches that were taken, in percent; 100 where there are none."""
    return 100.0 * summary["covered_branches"] / summary["num_branches"] if summary["num_branches"] else 100.0


def main(path: Path) -> int:
    """Print the share of branches and the files that lack most. Returns 1 below the floor, else 0."""
    report = json.loads(path.read_text(encoding="utf-8"))
    files = {name: file["summary"] for name, file in report["files"].items()}
    lacking = sorted(
        (name for name in files if files[name]["missing_branches"]), key=lambda name: -files[name]["missing_branches"]
    )
    for name in lacking[:N_SHOWN]:
        missing, n = files[name]["missing_branches"], files[name]["num_branches"]
        print(f"{missing:5} of {n:4} branches not taken in {Path(name).as_posix()}")
    taken = share(report["totals"])
    print(f"branches taken: {taken:.1f} % of {report['totals']['num_branches']}, the floor is {FLOOR:g} %")
    return int(taken < FLOOR)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

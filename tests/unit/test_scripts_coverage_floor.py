"""``scripts/coverage_floor.py`` fails below the floor, and names the files that lack most."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

main = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "coverage_floor.py"))["main"]


def _report(path: Path, **files: tuple[int, int]) -> Path:
    """Write what coverage would: of every file the branches that were taken, and how many there are."""
    summaries = {f"src/descend/{name}.py": {"covered_branches": taken, "num_branches": n, "missing_branches": n - taken}
                 for name, (taken, n) in files.items()}  # fmt: skip
    totals = {key: sum(summary[key] for summary in summaries.values()) for key in ("covered_branches", "num_branches")}
    report = {"files": {name: {"summary": summary} for name, summary in summaries.items()}, "totals": totals}
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


@pytest.mark.parametrize(("taken", "status"), [(89, 1), (90, 0), (100, 0)])
def test_the_floor_holds(tmp_path: Path, taken: int, status: int) -> None:
    assert main(_report(tmp_path / "c.json", a=(taken, 100))) == status


def test_files_that_lack_most_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(_report(tmp_path / "c.json", whole=(4, 4), plain=(0, 0), some=(1, 2), most=(7, 30)))
    told = capsys.readouterr().out.splitlines()
    assert [line.split("/")[-1] for line in told[:-1]] == ["most.py", "some.py"]
    assert told[-1] == "branches taken: 33.3 % of 36, the floor is 90 %"

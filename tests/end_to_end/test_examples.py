"""Every example runs as a script does, on the first of the digits, and prints something."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from descend.data import builtin

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
N_DIGITS = 400


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, labels, splits = builtin.digits()
    monkeypatch.setitem(builtin.SETS, "digits", lambda: (pictures[:N_DIGITS], labels[:N_DIGITS], splits[:N_DIGITS]))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()

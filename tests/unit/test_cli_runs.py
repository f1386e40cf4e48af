"""`descend runs`: what stands in the table, what differs, what may be deleted. No run is made: records are written."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from descend.cli import main
from descend.train import folder, initial_run, record
from descend.train.lock import LOCK, RunLock
from descend.train.recipe import Recipe
from descend.train.record_types import Score

PLAN = {"transfer": "scratch", "backbone": "smallcnn(width=32)", "optimizer": "adamw(lr=0.005, beta1=0.9)", "epochs": 3}


def _score(accuracy: float, low: float, high: float) -> Score:
    return Score(accuracy=accuracy, accuracy_interval=[low, high], balanced_accuracy=accuracy, macro_f1=accuracy, loss=0.5, n=10,
                 n_independent=10)  # fmt: skip


def _run(parent: Path, name: str, *, at: int = 0, plan: dict[str, Any] | None = None, **facts: Any) -> Path:
    """Make a run folder. at: when its recipe was written, seconds."""
    run = parent / name
    run.mkdir(parents=True)
    noted: dict[str, Any] = {"status": "finished", "data": {"name": "photos"}, "val": _score(0.9, 0.6, 0.98)} | facts
    record.RunRecord(plan=PLAN | (plan or {}), wall_s={"train": 61.0, "judge": 1.0}, **noted).save(run)
    (run / folder.RECIPE).write_text("")
    os.utime(run / folder.RECIPE, (at, at))
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    parent = tmp_path / "runs"
    _run(parent, "first", at=1)
    test = _score(0.8, 0.49, 0.94)
    _run(parent, "second", at=2, plan={"optimizer": "adamw(lr=0.01, beta1=0.9)"}, test=test)
    _run(parent, "third", at=3, plan={"optimizer": "sgd(lr=0.1)", "augment": ["flip(p=0.5)"]}, status="running")
    return parent


def test_the_table_has_a_row_per_run_the_newest_first(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "second" / "big").write_bytes(bytes(5_000_000))
    (runs / "damaged").mkdir()
    (runs / "damaged" / "record.json").write_text("{")
    (runs / ".hidden-unfinished").mkdir()
    (runs / ".hidden-unfinished" / "record.json").write_text("{}")
    (runs / "notes.txt").write_text("mine")
    assert main(["runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["third", "second", "first", "damaged"]
    assert lines[1].endswith("killed")  # it says that it runs, and no process has it
    assert lines[2].split("  ")[-1] == "finished"
    assert "90.0% [60.0, 98.0]  80.0% [49.0, 94.0]  1 min 02 s  5 MB" in lines[2]
    assert "must be intact JSON" in lines[5]
    assert lines[6].startswith("4 runs, 5 MB")


def test_json_tells_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in told] == ["third", "second", "first"]
    assert (told[1]["test"]["accuracy"], told[1]["wall_s"], told[1]["transfer"]) == (0.8, 62.0, "scratch")
    assert told[0]["status"] == "killed"


def test_the_time_of_a_search_is_the_one_that_its_report_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stages leave out imports and choices between steps: 36.7 of 56.9 s were told."""
    (tmp_path / "searched").mkdir()
    record.RunRecord(plan=PLAN, wall_s={"features": 30.0}, budget_used_s=57.0).save(tmp_path / "searched")
    assert main(["runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["wall_s"] == 57.0


def test_what_differs_stands_side_by_side(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs), "--compare", "first", "second"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["optimizer.lr", "0.005", "0.01"] in rows  # one rule: the knob, not the text
    assert not any(row[:1] == ["epochs"] for row in rows)
    assert main(["runs", str(runs), "--compare", "second", "latest"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["augment", "-", "flip"] in rows
    assert ["optimizer", "adamw(lr=0.01)", "sgd"] in rows  # knobs at their defaults are left out
    assert main(["runs", str(runs), "--compare", "second", "third", "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["augment"] == [None, ["flip(p=0.5)"]]


def test_runs_of_other_pictures_are_not_compared_in_silence(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(runs, "elsewhere", data_fingerprint="other")
    assert main(["runs", str(runs), "--compare", "first", "elsewhere"]) == 0
    out = capsys.readouterr().out
    assert "the settings are the same" in out
    assert "not of the same pictures" in out


def test_deleting_asks_and_takes_all_or_none(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(runs), "--delete", "first"]) == 2
    assert "nobody can be asked here. Add --yes." in capsys.readouterr().err
    for answer, left in (("\n", 3), ("no\n", 3), ("y\n", 2)):
        keyboard = io.StringIO(answer)
        keyboard.isatty = lambda: True  # type: ignore[method-assign]  (a terminal is played)
        monkeypatch.setattr(sys, "stdin", keyboard)
        assert main(["runs", str(runs), "--delete", "first"]) == (1 if left == 3 else 0)
        assert len([*runs.iterdir()]) == left
    assert "Delete it for good?" in capsys.readouterr().out
    assert main(["runs", str(runs), "--delete", "second", "nowhere", "--yes"]) == 1
    assert (runs / "second").exists()
    assert main(["runs", str(runs), "--delete", "second", str(runs / "second"), "latest", "--yes"]) == 0
    assert "deleted 2 runs, freed" in capsys.readouterr().out
    assert [*runs.iterdir()] == []


def test_what_is_no_run_to_delete_is_refused(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_text("")
    link = tmp_path / "link"
    link.symlink_to(runs / "first")
    _run(tmp_path, "outer")
    _run(tmp_path / "outer", "inner")
    for name, told in (
        ("frist", "Did you mean 'first'?"), (str(tmp_path / "pictures"), "must be given run folders"),
        (str(link), "not a link to one"), (str(tmp_path / "outer"), "holds others, such as inner"),
        (str(runs), "must be given run folders"),
    ):  # fmt: skip
        assert main(["runs", str(runs), "--delete", name, "--yes"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    assert (tmp_path / "pictures" / "cat.png").exists()
    assert (tmp_path / "outer" / "inner").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_run_that_a_process_has_is_shown_as_running_and_not_deleted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    other = [sys.executable, "-S", "-c", hold, str(runs / "third" / LOCK)]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert main(["runs", str(runs)]) == 0
        assert capsys.readouterr().out.splitlines()[1].endswith("running")
        assert main(["runs", str(runs), "--delete", "first", "third", "--yes"]) == 1
        assert "must not be in use" in capsys.readouterr().err
        process.communicate()
    assert (runs / "first").exists()
    assert (runs / "third").exists()
    RunLock(runs / "third").release()


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["nowhere"], 1, "must be given a folder that exists"),
        (["runs/first"], 1, "must be given a folder that holds runs, not a run"),
        (["--compare", "first"], 2, "needs two runs or more"),
        (["--compare", "first", "nowhere"], 1, "must be given run folders, got 'nowhere'"),
        (["--yes"], 2, "has no effect without --delete"),
        (["--delete", "first", "--json"], 2, "has no effect with --delete"),
        (["empty", "--compare", "latest", "latest"], 1, "needs a run in empty"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], status: int, told: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs.parent)
    Path("empty").mkdir()
    assert main(["runs", *words]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_folder_without_runs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "no run in" in capsys.readouterr().out


def test_latest_is_a_place_for_report_and_init_too(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr("descend.report.write", lambda place: opened.append(place) or place)
    assert main(["report", str(runs / "latest")]) == 0

    class OpenedError(Exception):
        pass

    def note(place: Path) -> None:
        opened.append(place)
        raise OpenedError

    monkeypatch.setattr(initial_run, "Run", note)
    with pytest.raises(OpenedError):
        initial_run.settled(Recipe(init=str(runs / "latest")))
    assert opened == [runs / "third"] * 2

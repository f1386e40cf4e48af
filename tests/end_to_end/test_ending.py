"""SIGTERM, a second process, and runs that lack their last files: each ends in a run that is whole, or in one sentence."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import StopAfter  # pyright: ignore[reportMissingImports] (pytest finds it)

import descend
from descend.cli import main
from descend.errors import RunError
from descend.progress import Silent
from descend.train.fit import _lacks
from descend.train.run import Run
from descend.train.run_log import RunLog

pytestmark = pytest.mark.charts

TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, "epochs": 2, "batch_size": 8}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]


@pytest.fixture
def run(shapes: Path, tmp_path: Path) -> Run:
    return descend.fit(shapes, out=tmp_path / "run", **TINY)


class Terminated(Silent):
    """A listener that sends SIGTERM at the first news of a stage after ``n`` pictures."""

    def __init__(self, stage: str, n: int) -> None:
        self.stage, self.n = stage, n

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == self.stage and done >= self.n:
            self.n = 10**9
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
@pytest.mark.parametrize(("stage", "n"), [("training", 40), ("decode", 0)])
def test_sigterm_is_ctrl_c_with_143(
    run: Run,
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    n: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if stage == "decode":
        monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr("descend.cli.fit.Terminal", lambda: Terminated(stage, n))
        assert main(["fit", str(shapes), "--out", str(tmp_path / "cut"), *WORDS]) == 143
    assert "Go on:   descend fit --resume" in capsys.readouterr().out
    assert descend.load(tmp_path / "cut").record.status == "interrupted"
    assert main(["fit", "--resume", str(tmp_path / "cut")]) == 0
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_sigterm_before_there_is_a_run_is_143_too(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class AtOnce(Silent):
        def say(self, text: str) -> None:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("descend.cli.fit.Terminal", AtOnce)
    assert main(["fit", str(shapes), "--out", str(tmp_path / "cut"), *WORDS]) == 143
    assert not (tmp_path / "cut").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks there")
def test_a_second_process_is_told_of_the_first(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[int] = []

    class Resuming(Silent):
        def update(self, stage: str, done: int, total: int, note: str = "") -> None:
            if stage == "training" and done >= 8 and not told:
                told.append(main(["fit", "--resume", str(tmp_path / "run")]))
                seen = descend.load(tmp_path / "run")
                assert seen._note_look("a look") is False, "the record is the owner's while it trains"

    descend.fit(shapes, out=tmp_path / "run", progress=Resuming(), **TINY)
    assert told == [1]
    assert "must not be in use, and process" in capsys.readouterr().err
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_run_that_lacks_only_its_last_record_is_completed(run: Run) -> None:
    path = run.folder / "record.json"
    record = json.loads(path.read_text())
    del record["wall_s"]["report"], record["digest"]
    path.write_text(json.dumps(record))
    assert descend.resume(run.folder).record.status == "finished"
    assert "report" in json.loads(path.read_text())["wall_s"]
    anew = f"To train it again: descend fit --recipe {run.folder}/recipe.toml --out NEW"
    with pytest.raises(RunError, match=f"unfinished.*{re.escape(anew)}"):
        descend.resume(run.folder)


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_finished_run_builds_a_damaged_model_again(run: Run, damage: str) -> None:
    path = run.folder / "model.safetensors"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-100])
    left = path.exists()
    with RunLog.reopened(run.folder) as log:
        assert _lacks(run.folder, log) == "a model"  # a question, which deletes nothing
    assert path.exists() == left
    again = descend.resume(run.folder)
    assert path.read_bytes() == whole
    assert again.record.status == "finished"
    assert again.record.test == run.record.test


def test_without_a_checkpoint_a_damaged_model_is_one_sentence(run: Run) -> None:
    (run.folder / "checkpoint.safetensors").unlink()
    (run.folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"must be intact .*no checkpoint.*Train again from its recipe"):
        descend.resume(run.folder)


def test_an_empty_folder_is_filled_where_it_is(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    made = descend.fit(shapes, out=Path(), progress=StopAfter(8), **TINY)
    assert made.record.status == "interrupted"
    assert (tmp_path / "run" / "record.json").exists()

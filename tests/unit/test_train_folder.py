"""The run folder: atomic files, readable after a crash, never overwritten."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from descend.errors import RunError
from descend.train import folder, record


def test_a_failed_write_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    folder.write_json(path, {"a": 1})

    def fill_the_disk() -> None:
        with folder.replacing(path) as part:
            part.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left"):
        fill_the_disk()
    assert folder.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_line_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    folder.append_line(path, {"epoch": 1})
    with path.open("a") as file:
        file.write('{"epoch": 2, "tra')
    assert folder.read_lines(path) == [{"epoch": 1}]


def test_a_folder_that_holds_something_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(RunError, match="new or empty"):
        folder.create(tmp_path, "name")
    assert (tmp_path / "x").read_text() == "mine"


def test_default_names_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len({folder.create(None, "digits") for _ in range(3)}) == 3


def test_a_strange_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run folder"):
        record.load(tmp_path)
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(RunError, match="intact"):
        record.load(tmp_path)
    (tmp_path / "record.json").write_text('{"schema": 99}')
    with pytest.raises(RunError, match="schema"):
        record.load(tmp_path)


def test_record_round_trips_and_counts_looks(tmp_path: Path) -> None:
    note = record.RunRecord(classes=["a", "b"], seed=3)
    note.look_at_test("why")
    note.add_wall("train", 1.5)
    note.add_wall("train", 1.0)
    note.save(tmp_path)
    again = record.load(tmp_path)
    assert again == note
    assert again.wall_s == {"train": 2.5}
    assert again.test_looks[0]["what"] == "why"


def test_the_command_that_trains_anew_is_one_that_a_shell_reads_as_it_was_meant(tmp_path: Path) -> None:
    run = tmp_path / "my run's $HOME"
    assert shlex.split(folder.train_anew(run)) == ["descend", "fit", "--recipe", str(run / "recipe.toml"), "--out", "NEW"]

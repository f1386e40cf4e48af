"""What ``Run.evaluate`` and ``descend eval`` leave out of labeled pictures is told, in Python, on the terminal and in JSON."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

import descend
from descend.cli import main
from descend.errors import DataError
from descend.train.record_types import Evaluation
from descend.train.run import Run

TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "epochs": 2, "batch_size": 16, "augment": []}
CLASSES = ("red", "green")


def picture(i: int) -> np.ndarray:
    values = np.random.default_rng(i).normal(0, 30, (16, 16, 3)) + np.array(((200, 60, 60), (60, 200, 60))[i % 2])
    return values.clip(0, 255).astype(np.uint8)


def encoded(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(i)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    labels = np.array(CLASSES * 20)
    return descend.fit((np.stack([*map(picture, range(40))]), labels), **TINY, out=tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten new pictures of each class in a folder of class folders, ``red/100.png`` to ``green/119.png``."""
    root = tmp_path / "new"
    for i in range(100, 120):
        (root / CLASSES[i % 2]).mkdir(parents=True, exist_ok=True)
        (root / CLASSES[i % 2] / f"{i}.png").write_bytes(encoded(i))
    return root


def told(found: Evaluation) -> dict[str, tuple[int, list[str]]]:
    """Return the notes of an evaluation: kind -> n, names."""
    return {note["kind"]: (note["n"], note["examples"]) for note in found["notes"]}


def test_everything_that_a_folder_holds_besides_is_named(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "red/junk.jpg").write_text("<html>")
    (folder / "red/empty.png").write_bytes(b"")
    (folder / "green/x.CR2").write_bytes(b"II*\0CR")
    (folder / "green/link.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "green/pipe.png")
    (folder / "loose.png").write_bytes(encoded(1))
    (folder / "unlabeled").mkdir()
    (folder / "unlabeled/u.png").write_bytes(encoded(2))
    found = run.evaluate(folder)
    assert found["n"] == 20
    assert found["problems"] == {"red/empty.png": "the file is empty", "red/junk.jpg": "not a format that Pillow reads"}
    n, names = told(found)["ignored"]
    assert (n, [name.split(" ")[0] for name in names]) == (4, ["loose.png", "green/link.png", "green/pipe.png", "green/x.CR2"])
    assert told(found)["unlabeled"] == (1, ["unlabeled/u.png"])
    assert main(["eval", str(run.folder), str(folder), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["notes"] == found["notes"]
    assert json.loads(out)["problems"] == found["problems"]
    left_out = [*found["problems"], *names, "unlabeled/u.png"]
    assert all(name in err for name in left_out)


def test_a_picture_that_breaks_off_is_told_in_the_form_of_the_others(run: Run, folder: Path) -> None:
    (folder / "red/cut.png").write_bytes(encoded(100)[:-40])  # which only decoding finds
    (folder / "red/junk.png").write_bytes(b"<html>")
    problems = run.evaluate(folder)["problems"]
    assert problems["red/junk.png"] == "not a format that Pillow reads"
    assert "truncated" in problems["red/cut.png"]
    assert "must be" not in problems["red/cut.png"]


def test_every_picture_that_cannot_be_read_is_named_however_many(run: Run, folder: Path) -> None:
    for i in range(120):  # more than a note has examples
        (folder / f"red/bad{i}.jpg").write_text("<html>")
    assert len(run.evaluate(folder)["problems"]) == 120


def test_pictures_of_another_split_that_cannot_be_read_are_not_told(run: Run, folder: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(folder, folder.parent / "splits" / split)
        (folder.parent / f"splits/{split}/red/bad.png").write_bytes(b"<html>")
    for split in ("train", "test"):
        assert [*run.evaluate(folder.parent / "splits", split=split)["problems"]] == [f"{split}/red/bad.png"]


def test_rows_of_a_table_that_do_not_count_are_told(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{CLASSES[i % 2]}/{i}.png,{CLASSES[i % 2]}" for i in range(100, 120)]
    rows += ["red/none.png,red", "green/101.png,", "red/100.png,green", ",red"]
    (folder / "t.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    notes = told(run.evaluate(folder / "t.csv"))
    assert notes["missing"] == (1, ["red/none.png"])
    assert notes["unlabeled"] == (1, ["green/101.png"])
    assert notes["nameless"][0] == 1
    assert notes["conflict"][0] == 1
    assert main(["eval", str(run.folder), str(folder / "t.csv")]) == 0
    err = capsys.readouterr().err
    assert "note: 1 file of the table does not exist and is left out: red/none.png" in err
    assert "note: 1 picture stands in several classes: red/100.png = red/100.png" in err


def test_what_is_no_picture_or_has_no_label_in_memory_is_told(run: Run) -> None:
    pictures, labels = [picture(i) for i in range(200, 212)], [*(CLASSES * 6)]
    broken = run.evaluate(([*pictures, b"junk"], [*labels, "red"]))
    assert broken["n"] == 12
    assert [*broken["problems"].values()] == ["not a format that Pillow reads"]
    unlabeled = run.evaluate(([*pictures, picture(3)], [*labels, None]))
    assert unlabeled["n"] == 12
    assert told(unlabeled)["unlabeled"][0] == 1


def test_rows_of_parquet_without_a_picture_are_told(run: Run, tmp_path: Path) -> None:
    cells = [{"bytes": encoded(i), "path": None} for i in range(300, 312)]
    table = {"image": [*cells, None, {"bytes": b"junk", "path": "j.png"}], "label": [*(CLASSES * 7)]}
    parquet.write_table(pa.table(table), tmp_path / "new.parquet")
    found = run.evaluate(tmp_path / "new.parquet")
    assert found["n"] == 12
    assert told(found)["nameless"][0] == 1
    assert [*found["problems"].values()] == ["not a format that Pillow reads"]


def test_notes_speak_of_no_scale_but_the_runs(run: Run, folder: Path) -> None:
    """The data's own scale, which ``fit`` would take, is not what the run reads them by."""
    Image.fromarray(np.random.default_rng(1).integers(900, 1100, (16, 16)).astype(np.uint16)).save(folder / "red/deep.png")
    assert "scale" not in told(run.evaluate(folder))


def test_a_class_without_pictures_has_dashes_and_no_shares_of_nothing(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "green")
    assert main(["eval", str(run.folder), str(folder)]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()[0] in CLASSES}
    answers = run.predict([folder / "red"]).labels
    was_answered = "green" in answers
    share = "0.0%" if was_answered else "\N{EN DASH}"
    assert rows["green"] == [share, "\N{EN DASH}", share, "0"]
    assert ("no pictures of: green; macro F1 counts it as 0" in out) == was_answered
    assert [share.endswith("%") for share in rows["red"][:3]] == ["red" in answers, True, True]


def test_pictures_of_the_training_are_known_after_their_data_have_changed_and_moved(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = descend.fit(folder, **TINY, out=tmp_path / "run")
    splits, looks = run.record.data["splits"], len(run.record.test_looks)
    n_seen = splits["train"] + splits["val"]
    (folder / "red/new.png").write_bytes(encoded(500))
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    found = run.evaluate(moved)
    assert (found["n"], found["n_trained_on"], found["n_near_trained_on"]) == (21, n_seen, None)
    assert (found["judged"], found["is_own"]) == ("moved", False)
    assert (found["is_look"], found["test_looks"]) == (splits["test"] > 0, looks + (splits["test"] > 0))
    assert main(["eval", str(run.folder), str(moved)]) == 0
    told = capsys.readouterr()
    assert f"careful: {n_seen} of these pictures were trained or selected on" in told.err
    assert told.out.startswith("moved, 21 pictures")
    (run.folder / "pictures.json").unlink()
    assert main(["eval", str(run.folder), str(moved)]) == 0
    assert "careful: cannot tell how many of these pictures were trained or selected on" in capsys.readouterr().err


def test_arrays_of_the_training_are_known_among_others(run: Run, folder: Path) -> None:
    splits = run.record.data["splits"]
    pictures = np.stack([*map(picture, range(45))])
    assert run.evaluate((pictures, np.array([*CLASSES * 23][:45])))["n_trained_on"] == splits["train"] + splits["val"]
    looks = len(run.record.test_looks)
    found = run.evaluate(folder)
    assert (found["judged"], found["n_trained_on"], found["is_look"], found["test_looks"]) == ("new", 0, False, looks)
    shutil.copytree(folder, folder.parent / "parts/test")
    assert run.evaluate(folder.parent / "parts")["judged"] == "split test of parts"


def test_a_class_that_the_run_does_not_know_is_said_once(run: Run, folder: Path) -> None:
    (folder / "red").rename(folder / "yellow")
    with pytest.raises(DataError) as refused:
        run.evaluate(folder)
    assert str(refused.value).endswith("The run knows green, red. Leave pictures of other classes out, or train a run with them.")

"""What ``descend predict`` writes, and where: without a network, on answers made up here."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest

from descend import files
from descend.cli import answers as writers
from descend.cli import main
from descend.cli import predict as verb
from descend.data import heic
from descend.errors import DataError, RunError
from descend.train.answers import Predictions
from descend.train.folder import resolve_run

HOSTILE = "a\x1b[2J\n\u202eb.png"


def _answers(*names: str, problems: dict[str, str] | None = None, passed_over: dict[str, str] | None = None) -> Predictions:
    probabilities = np.tile(np.array([[0.25, 0.75]], np.float32), (len(names), 1))
    classes = ("cat", "=dog\x1b[31m\n")
    labels = np.array(classes)[probabilities.argmax(1)]
    return Predictions(labels, probabilities, classes, names, problems or {}, passed_over=passed_over or {})


def _run(stream: Iterator[Predictions], classes: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(
        is_verified=True, stream=lambda *_, **__: stream, classes=classes,
        record=SimpleNamespace(sure_answers=lambda p: f"curve at {p}"),
    )  # fmt: skip


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Predictions]:
    """A list whose last entry is what the run answers."""
    given = [_answers("x.png")]
    monkeypatch.setattr(verb, "load", lambda _: _run(iter([given[-1]])))
    return given


def test_no_name_moves_the_cursor_or_forges_a_line(answers: list[Predictions], capsys: pytest.CaptureFixture[str]) -> None:
    answers.append(_answers(HOSTILE, "x.png", problems={HOSTILE: "no"}, passed_over={HOSTILE: "not a picture"}))
    assert main(["predict", "RUN", "x.png"]) == 0
    told = capsys.readouterr()
    assert not set("\x1b\u202e") & set(told.out + told.err)
    first, second = told.out.splitlines()
    assert first.index("=dog") == second.index("=dog")  # columns stand below each other
    assert told.err.splitlines() == [
        r"skipped: a\x1b[2J\n\u202eb.png: no",
        r"passed over (not a picture): 1: a\x1b[2J\n\u202eb.png",
        "2 of 4 files were skipped",
    ]


def test_a_folder_that_is_not_entered_is_no_file(answers: list[Predictions], capsys: pytest.CaptureFixture[str]) -> None:
    hidden = "hidden: its name begins with a dot"
    answers.append(_answers("x.png", passed_over={"in/.a.png": hidden, "in/.git/": hidden, "in/@eaDir/": "a system's folder"}))
    assert main(["predict", "RUN", "in"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"passed over ({hidden}): 1: in/.a.png",
        f"folders not entered ({hidden}): 1: in/.git/",
        "folders not entered (a system's folder): 1: in/@eaDir/",
        "1 of 2 files were skipped",
    ]


def test_tables_hold_the_names_themselves_and_no_formula(answers: list[Predictions], tmp_path: Path) -> None:
    answers.append(_answers("=cmd|' /C calc'!A0", "two\nlines.png"))
    assert main(["predict", "RUN", "x.png", "--out", str(tmp_path / "p.csv")]) == 0
    rows = list(csv.reader(io.StringIO((tmp_path / "p.csv").read_bytes().decode(), newline="")))
    assert rows[1] == ["'=cmd|' /C calc'!A0", "'=dog\x1b[31m\n", "0.750000", "0.250000", "0.750000"]
    assert rows[2][0] == "two\nlines.png"


def test_a_table_on_a_terminal_is_escaped(answers: list[Predictions], monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    answers.append(_answers(HOSTILE))
    monkeypatch.setattr(sys, "stdout", screen := Screen(newline=""))
    assert main(["predict", "RUN", "x.png", "--format", "csv"]) == 0
    assert r"a\x1b[2J\n\u202eb.png" in screen.getvalue()
    assert "\x1b" not in screen.getvalue()


def test_paths_of_a_table_that_are_taken_for_others_are_told(
    answers: list[Predictions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del answers
    (tmp_path / "a.png").touch()
    (tmp_path / "t.csv").write_text("path\nold/a.png\n")
    assert main(["predict", "RUN", str(tmp_path / "t.csv")]) == 0
    told = "note: 1 path leads to no file as it is written, and is taken for another: old/a.png for a.png"
    assert told in capsys.readouterr().err


def test_out_is_whole_or_as_it_was(answers: list[Predictions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        args[-1].write("half")
        raise KeyboardInterrupt

    out = tmp_path / "p.csv"
    out.write_text("before")
    monkeypatch.setitem(writers.WRITERS, "csv", interrupted)
    assert main(["predict", "RUN", "x.png", "--out", str(out)]) == 130
    assert out.read_text() == "before"
    assert [*tmp_path.iterdir()] == [out]  # nothing half-written stays beside it


def test_a_disk_that_takes_no_answers_is_told_by_the_name_of_the_file(
    answers: list[Predictions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{path}.hidden")

    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    for name in ("p.csv", "p.parquet"):
        with monkeypatch.context() as patch:
            patch.setattr(files, "replacing", full)
            assert main(["predict", "RUN", "x.png", "--out", str(tmp_path / name)]) == 1
        must = f"{tmp_path / name}: must be a file that can be written (No space left on device)"
        assert capsys.readouterr().err == f"error: {must}. Free some space, or choose another place.\n"
    monkeypatch.setattr(Path, "touch", refused)
    monkeypatch.setattr(verb, "load", lambda _: pytest.fail("nothing is asked before"))
    assert main(["predict", "RUN", "x.png", "--out", str(tmp_path / "p.csv")]) == 1
    assert (
        "p.csv: must be a file that can be written (Permission denied). Choose a place where you may" in capsys.readouterr().err
    )


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes in the file system")
def test_links_are_followed_and_pipes_are_written_as_they_are(answers: list[Predictions], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "there" / "p.json")
    assert main(["predict", "RUN", "x.png", "--out", str(tmp_path / "link.json")]) == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "there" / "p.json").read_text())["predictions"][0]["path"] == "x.png"

    pipe, read = tmp_path / "pipe.csv", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert main(["predict", "RUN", "x.png", "--out", str(pipe)]) == 0
    reader.join(10)
    assert read[0].startswith("path,predicted")
    assert pipe.is_fifo()
    assert main(["predict", "RUN", "x.png", "--out", os.devnull]) == 0
    assert main(["predict", "RUN", "x.png", "--out", str(tmp_path)]) == 2  # a folder


def _parts(*parts: Predictions) -> Any:
    return lambda _: _run(iter(parts), parts[0].classes)


def test_of_very_many_classes_the_likeliest_are_told_and_all_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    classes = tuple(f"c{k:03}" for k in range(101))
    probabilities = np.full((1, 101), 0.005, np.float32)
    probabilities[0, 7] = 0.5
    monkeypatch.setattr(verb, "load", _parts(Predictions(np.array(["c007"]), probabilities, classes, ("a.png",), {})))
    for name in ("p.csv", "p.json"):
        assert main(["predict", "RUN", ".", "--out", str(tmp_path / name)]) == 0
    header, row = csv.reader((tmp_path / "p.csv").read_text().splitlines())
    assert header[3:] == [f"{what}_{rank}" for rank in range(1, 6) for what in ("class", "p")]
    assert row[3:5] == ["c007", "0.500000"]
    assert len(json.loads((tmp_path / "p.json").read_text())["predictions"][0]["probabilities"]) == 5
    assert main(["predict", "RUN", ".", "--top", "101", "--out", str(tmp_path / "all.csv")]) == 0
    assert len((tmp_path / "all.csv").read_text().splitlines()[1].split(",")) == 3 + 2 * 101


def test_top_and_unsure_reach_every_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "load", _parts(_answers("a.png"), _answers("b.png", problems={"c.png": "c.png is empty"})))
    assert main(["predict", "RUN", ".", "--top", "1", "--unsure-below", "0.8"]) == 0
    told = capsys.readouterr()
    assert [line.split("  ")[1] for line in told.out.splitlines()] == ["not sure"] * 2
    assert "cat" not in told.out
    assert told.err.splitlines()[-2:] == ["sure of 0 of 2 answers (a probability of 0.8 or more)", "curve at 0.8"]
    for name in ("p.csv", "p.json"):
        assert main(["predict", "RUN", ".", "--top", "1", "--unsure-below", "0.8", "--out", str(tmp_path / name)]) == 0
    rows = list(csv.reader((tmp_path / "p.csv").read_text().splitlines()))
    assert rows[0] == ["path", "predicted", "confidence", "class_1", "p_1"]
    assert [row[1] for row in rows[1:]] == ["not sure", "not sure"]
    found = json.loads((tmp_path / "p.json").read_text())
    assert [row["sure"] for row in found["predictions"]] == [False, False]
    assert [len(row["probabilities"]) for row in found["predictions"]] == [1, 1]
    assert found["skipped"] == {"c.png": "c.png is empty"}


def test_an_unsure_answer_is_never_taken_for_a_class(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answered = replace(_answers("a.png"), classes=("not sure", "sure"))
    monkeypatch.setattr(verb, "load", _parts(answered))
    for form in ("table", "csv"):
        assert main(["predict", "RUN", "a.png", "--unsure-below", "0.8", "--format", form]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert "--unsure-below: answers 'not sure', which is a class of this run" in told.err
    assert main(["predict", "RUN", "a.png", "--unsure-below", "0.8", "--out", str(tmp_path / "p.parquet")]) == 2
    assert main(["predict", "RUN", "a.png", "--unsure-below", "0.8", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["sure"] is False
    assert main(["predict", "RUN", "a.png"]) == 0


def test_a_submission_keeps_the_rows_of_its_table_and_says_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test.csv").write_text("id,path\n7,a.png\n8,gone.png\n9,b.png\n")
    names = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for name in names:
        Path(name).touch()
    monkeypatch.setattr(verb, "load", _parts(_answers(names[0]), _answers(names[1], problems={"gone.png": "no such file"})))
    out = tmp_path / "s.csv"
    assert main(["predict", "RUN", str(tmp_path / "test.csv"), "--submission", "id,label", "--out", str(out)]) == 1
    rows = list(csv.reader(out.read_text().splitlines()))
    assert [row[0] for row in rows] == ["id", "7", "8", "9"]
    assert [bool(row[1]) for row in rows] == [True, True, False, True]
    assert "1 of 3 rows of the submission have no answer" in capsys.readouterr().err
    monkeypatch.setattr(verb, "load", _parts(_answers(*names)))
    assert main(["predict", "RUN", str(tmp_path), "--submission", "id,label", "--out", str(out)]) == 0
    assert [row[0] for row in csv.reader(out.read_text().splitlines())] == ["id", "a", "b"]


@pytest.mark.parametrize("words", [["--submission", "id,label"], ["--format", "json"]])
def test_where_nothing_can_be_answered_nothing_is_written(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_left() -> Iterator[Predictions]:
        raise DataError("predict", "needs one readable picture or more")
        yield

    monkeypatch.setattr(verb, "load", lambda _: _run(none_left()))
    (tmp_path / "x.png").touch()
    assert main(["predict", "RUN", str(tmp_path / "x.png"), *words]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "error: predict: needs one readable picture or more.\n")


def test_a_submission_has_identifiers_as_they_were_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program compares them: what keeps a spreadsheet from running a cell would make others of them."""
    (tmp_path / "test.csv").write_text("=id,path\n-KJ3f,a.png\n@7,b.png\n")
    names = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for name in names:
        Path(name).touch()
    monkeypatch.setattr(verb, "load", _parts(_answers(*names)))
    out = tmp_path / "s.csv"
    assert main(["predict", "RUN", str(tmp_path / "test.csv"), "--submission", "=id,label", "--out", str(out)]) == 0
    with out.open(newline="") as file:
        assert list(csv.reader(file)) == [["=id", "label"], ["-KJ3f", "=dog\x1b[31m\n"], ["@7", "=dog\x1b[31m\n"]]


def test_doubts_go_into_parquet_and_a_part_that_only_tells_what_was_skipped_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    doubts = np.array([0.1, 0.2], np.float32)
    answered = replace(_answers("a.png", "b.png"), entropy=doubts, mutual_information=doubts / 2)
    monkeypatch.setattr(verb, "load", _parts(answered, _answers(problems={"c.png": "no"})))
    out = tmp_path / "a.parquet"
    assert main(["predict", "RUN", "a.png", "--mc", "3", "--out", str(out)]) == 0
    table = parquet.read_table(out)
    assert table["path"].to_pylist() == ["a.png", "b.png"]
    np.testing.assert_array_equal(table["mutual_information"].to_numpy(), doubts / 2)


def test_a_picture_that_is_not_read_here_keeps_its_row_in_a_submission(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(heic, "available", lambda: False)
    for name in ("a.HEIC", "b.png", "c.heif", "note.txt", "._d.heic"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    monkeypatch.setattr(verb, "load", _parts(_answers(str(tmp_path / "b.png"))))
    out = tmp_path / "s.csv"
    assert main(["predict", "RUN", str(tmp_path), "--submission", "id,label", "--out", str(out)]) == 1
    rows = [(row[0], bool(row[1])) for row in csv.reader(out.read_text().splitlines())][1:]
    assert sorted(rows) == [("a", False), ("b", True), ("c", False)]
    assert "2 of 3 rows of the submission have no answer" in capsys.readouterr().err


@pytest.mark.parametrize("names", [("x/1.png", "y/1.png"), ("x/1.png", "x/1.jpg")])
def test_a_submission_tells_every_picture_from_every_other(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(verb, "load", _parts(_answers(*(str(tmp_path / name) for name in names))))
    out = tmp_path / "s.csv"
    assert main(["predict", "RUN", str(tmp_path), "--submission", "id,label", "--out", str(out)]) == 1
    assert "must identify it" in capsys.readouterr().err
    assert not out.exists()
    one = str(tmp_path / names[0])  # the same picture twice is one name
    monkeypatch.setattr(verb, "load", _parts(_answers(one, one)))
    assert main(["predict", "RUN", one, one, "--submission", "id,label", "--out", str(out)]) == 0


def test_a_submission_may_be_about_the_pictures_in_an_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed, out = tmp_path / "new.zip", tmp_path / "s.csv"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("a.png", "b.png"):
            archive.writestr(name, name)
    monkeypatch.setattr(verb, "load", _parts(_answers(f"{packed}/a.png", f"{packed}/b.png")))
    assert main(["predict", "RUN", str(packed), "--submission", "id,label", "--out", str(out)]) == 0
    rows = list(csv.reader(out.read_text().splitlines()))
    assert [row[0] for row in rows] == ["id", "a", "b"]
    assert all(row[1] for row in rows[1:])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--top", "0"], "--top"), (["--unsure-below", "80"], "probability"), (["--submission", "id"], "two names"),
        (["--submission", "id,label", "--top", "2"], "--top: has no effect"),
        (["t.csv", "--submission", "nr,label"], "column 'nr'"),
        (["list.txt"], "a list of pictures must be a table (.csv, .tsv, .parquet)"),
        (["--out", "a.xlsx"], "must end in .csv, .json or .parquet"), (["--out", "a.TSV"], "Such as a.csv"),
        (["t.csv"], "stands alone"), (["out.csv", "--submission", "id,label"], "below the table's folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(
    words: list[str], told: str, answers: list[Predictions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("id,path\n1,a.png\n")
    (tmp_path / "out.csv").write_text("id,path\n1,../a.png\n")
    (tmp_path / "list.txt").write_text("a.png\n")
    alone = words[0] in ("out.csv",) or words[:2] == ["t.csv", "--submission"]
    assert main(["predict", "RUN", *([] if alone else ["x.png"]), *words]) in (1, 2)
    assert told in capsys.readouterr().err


def test_the_newest_run_is_called_latest(tmp_path: Path) -> None:
    for age, name in ((30, "old"), (10, "new"), (20, "middle")):
        (tmp_path / name).mkdir()
        for file in ("record.json", "recipe.toml"):
            (tmp_path / name / file).touch()
        os.utime(tmp_path / name / "recipe.toml", (1e9 - age, 1e9 - age))
    (tmp_path / "no-run").mkdir()
    assert resolve_run(tmp_path / "latest") == tmp_path / "new"
    assert resolve_run(tmp_path / "old") == tmp_path / "old"
    with pytest.raises(RunError, match="needs a run in"):
        resolve_run(tmp_path / "no-run" / "latest")
    (tmp_path / "latest").mkdir()  # empty, it is nobody's
    assert resolve_run(tmp_path / "latest").name == "new"
    (tmp_path / "latest" / "mine.txt").touch()  # one's own folder of that name is meant
    assert resolve_run(tmp_path / "latest") == tmp_path / "latest"


def test_parquet_holds_all_probabilities_as_they_are(
    answers: list[Predictions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as parquet

    monkeypatch.setattr(verb, "_say_sure", lambda *_: None)
    answers.append(_answers("a.png", "\udcff.png"))
    out = tmp_path / "p.parquet"
    assert main(["predict", "RUN", "x.png", "--out", str(out), "--unsure-below", "0.8"]) == 0
    table = parquet.read_table(out)
    assert json.loads(table.schema.metadata[b"classes"]) == ["cat", "=dog\x1b[31m\n"]
    assert table["probabilities"].to_pylist() == [[0.25, 0.75]] * 2
    assert table["predicted"].to_pylist() == ["not sure"] * 2
    assert table["path"].to_pylist() == ["a.png", "\\udcff.png"]
    assert main(["predict", "RUN", "x.png", "--out", str(out), "--top", "2"]) == 2
    assert main(["predict", "RUN", "x.png", "--out", str(out), "--submission", "id,label"]) == 2


def test_parquet_without_its_extra_is_told_before_anything_is_answered(
    answers: list[Predictions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setattr(verb, "load", lambda _: pytest.fail("it has been told"))
    assert main(["predict", "RUN", "x.png", "--out", str(tmp_path / "p.parquet")]) != 0
    assert "descend[tables]" in capsys.readouterr().err

"""What ``descend predict`` writes, and where: without a network, on answers made up here."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from descend.cli import main
from descend.cli import predict as verb
from descend.train.run import Predictions

HOSTILE = "a\x1b[2J\n\u202eb.png"


def _answers(*names: str, problems: dict[str, str] | None = None, passed_over: dict[str, str] | None = None) -> Predictions:
    probabilities = np.tile(np.array([[0.25, 0.75]], np.float32), (len(names), 1))
    classes = ("cat", "=dog\x1b[31m\n")
    labels = np.array(classes)[probabilities.argmax(1)]
    return Predictions(labels, probabilities, classes, names, problems or {}, passed_over=passed_over or {})


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Predictions]:
    """A list whose last entry is what the run answers."""
    given = [_answers("x.png")]
    monkeypatch.setattr(verb, "load", lambda _: SimpleNamespace(is_verified=True, predict=lambda *_, **__: given[-1]))
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


def test_out_is_whole_or_as_it_was(answers: list[Predictions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        args[-1].write("half")
        raise KeyboardInterrupt

    out = tmp_path / "p.csv"
    out.write_text("before")
    monkeypatch.setattr(verb, "_csv", interrupted)
    assert main(["predict", "RUN", "x.png", "--out", str(out)]) == 130
    assert out.read_text() == "before"
    assert [*tmp_path.iterdir()] == [out]  # nothing half-written stays beside it


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

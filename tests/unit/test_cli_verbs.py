"""Each verb's own part: what it refuses before any work, and what it says about what came back. The work itself is faked."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import descend
from descend import __version__
from descend.cli import cache, evaluate, export, listing, main, pages, predict
from descend.cli.progress import Terminal
from descend.train import Predictions, RunRecord, exporting
from descend.train.record_types import Preprocessing


@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [(KeyboardInterrupt(), 130, "Stopped."), (PermissionError(13, "Permission denied", "runs"), 1, "Permission denied: 'runs'")],
)
def test_what_stops_a_verb_is_told_in_one_line(
    raised: BaseException, status: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(rest: list[str]) -> int:
        raise raised

    monkeypatch.setattr(listing, "main", stopped)
    assert main(["list"]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.skipif(os.name == "nt", reason="a pipe without a reader is another error there")
def test_a_reader_that_has_gone_ends_the_verb_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "descend.cli", "list", "--json"], stdout=writing, stderr=subprocess.PIPE, timeout=120
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_a_command_leaves_with_its_status_and_everything_that_was_left_for_the_end_done() -> None:
    """The output goes to a pipe, so what was printed waits in a buffer; taking modules apart would run ``__del__``."""
    script = (
        "import atexit, sys; from descend import cli\n"
        "class Last:\n    def __del__(self): print('taken apart')\n"
        "last = Last(); atexit.register(print, 'done'); sys.argv = ['descend', *sys.argv[1:]]; cli.command()"
    )
    for words, status, said in ((["--version"], 0, f"descend {__version__}\ndone\n"), (["nosuchverb"], 2, "done\n")):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (status, said)


def test_cache_frees_one_kind_or_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path))
    for kind, n_bytes in (("decoded", 2_000), ("features", 3_000_000)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "entry").write_bytes(bytes(n_bytes))
    assert cache.main(["--clear", "decoded"]) == 0
    assert capsys.readouterr().out == "freed 2 KB\n"
    assert cache.main(["--clear"]) == 0
    assert capsys.readouterr().out == "freed 3 MB\n"
    assert not list(tmp_path.glob("*/entry"))


def test_every_kind_that_lies_in_the_cache_can_be_cleared() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(descend.__file__).parent.rglob("*.py")]
    kinds = {kind for text in sources for kind in re.findall(r'^KIND(?:, \w+)? = "(\w+)"', text, re.MULTILINE)}
    assert {"unpacked", "fetched", "features", "graphs"} <= kinds <= cache.KINDS.keys()


def _judged(**changes: Any) -> dict[str, Any]:
    row = {"class": "disc", "precision": 1.0, "recall": 0.5, "f1": 2 / 3, "n": 4}
    return {
        "split": "test", "judged": "split test", "is_own": True, "is_look": True,
        "n": 4, "n_independent": 4, "problems": {}, "n_trained_on": 0, "n_near_trained_on": 0,
        "notes": [], "doubtful": {}, "look_noted": True, "accuracy": 0.75,
        "accuracy_interval": [0.3, 0.95], "balanced_accuracy": 0.75, "macro_f1": 0.7, "doubt": None, "per_class": [row],
        "test_looks": 2,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "out", "err"),
    [
        ({}, "split test, 4 pictures", "the run's test split has been looked at twice"),
        ({"judged": "pets", "is_own": False, "is_look": False}, "pets, 4 pictures\n", ""),
        ({"split": "val", "is_own": False, "n_trained_on": 2}, "", "careful: 2 of these pictures were trained or selected on"),
        ({"n_trained_on": None, "n_near_trained_on": None}, "", "careful: cannot tell how many of these pictures were trained"),
        ({"problems": {"a.png": "a.png: is empty"}}, "75.0%", "skipped: a.png: is empty\n"),
        ({"problems": {"a.png": "the file is empty"}}, "75.0%", "skipped: a.png: the file is empty\n"),
        ({"problems": {"file": "the file is empty"}}, "75.0%", "skipped: file: the file is empty\n"),
        ({"notes": [{"kind": "missing", "message": "12 files do not exist", "n": 12, "examples": [*"abcdefghijkl"]}]}, "75.0%",
         "note: 12 files do not exist: a, b, c, d, e, f, g, h, i, j, ...\n"),
        ({"doubtful": {"a.png": "8 bits", "b.png": "8 bits"}}, "75.0%", "answers may mean nothing (8 bits): 2: a.png, b.png\n"),
        ({"n_trained_on": 3}, "75.0%", "careful: 3 of these pictures were trained or selected on"),
        ({"n_near_trained_on": 1}, "75.0%", "careful: 1 picture is a near copy (saved again, resized, mirrored, "),
        ({"per_class": [{"class": "bees", "precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 0, "n_answered": 2}]},
         "  bees       0.0%       –    0.0%       0\n  no pictures of: bees; macro F1 counts it as 0", ""),
        ({"look_noted": False}, "75.0%", "this look at its test split is not stored"),
        ({"doubt": {"wrong": {"entropy": 0.5, "mutual_information": 0.25}}},
         "wrong answers: entropy 0.500 nats, mutual information 0.250 nats", ""),
    ],
)  # fmt: skip
def test_eval_prints_what_was_measured_and_warns_of_what_weakens_it(
    changes: dict[str, Any], out: str, err: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "load", lambda path: SimpleNamespace(evaluate=lambda data, **asked: _judged(**changes)))
    assert evaluate.main(["run", "data"]) == 0
    told = capsys.readouterr()
    assert out in told.out
    assert err in told.err


def test_eval_of_a_validation_split_speaks_of_no_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, record = _judged(split="val", n_trained_on=4, is_look=False), RunRecord()
    monkeypatch.setattr(evaluate, "load", lambda path: SimpleNamespace(evaluate=lambda data, **asked: found, record=record))
    assert evaluate.main(["run", "data", "--split", "val"]) == 0
    assert capsys.readouterr().err == ""
    record.reasons["refit"] = "the head was fitted once more, from training and validation pictures together"
    assert evaluate.main(["run", "data", "--split", "val"]) == 0
    assert "careful: the model has learned from 4 of these pictures: the head was fitted once more" in capsys.readouterr().err


def test_export_checks_on_pictures_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = Preprocessing(
        architecture="", size=8, resolution=9, mean=[0.5] * 3, std=[0.5] * 3, scale=None, background="white", fit="crop", taps=[]
    )
    record = RunRecord(preprocessing=prepared, classes=["a", "b"])
    run = SimpleNamespace(
        folder=tmp_path,
        export=lambda out, **asked: exporting.export(None, record, out, data=None, **asked),  # pyright: ignore
    )
    given: dict[str, Any] = {}
    monkeypatch.setattr(export, "load", lambda path: run)
    monkeypatch.setattr(exporting, "export_file", lambda classifier, out, **asked: given.update(asked, out=out) or "agrees")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert main(["export", str(tmp_path), "--check", str(tmp_path)]) == 1
    assert "--check needs one readable picture or more" in capsys.readouterr().err
    for number in range(18):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{number}.png")
    assert main(["export", str(tmp_path), "--check", str(tmp_path)]) == 0
    assert (given["out"], len([*given["check_images"]]), given["classes"]) == (tmp_path / "model.onnx", 18, ["a", "b"])
    assert "model.onnx: agrees" in capsys.readouterr().out
    assert main(["export", str(tmp_path)]) == 1
    assert "needs the run's pictures to check the file on" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--out", "net.pt"]) == 2
    assert "must be the name of an ONNX file, ending in .onnx, got 'net.pt'. Write net.onnx." in capsys.readouterr().err


def test_fit_notices_data_that_a_list_has_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--augment", "flip()", "digits"]) == 2
    assert "must stand before --augment" in capsys.readouterr().err


def test_a_former_flag_tells_its_new_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--batch", "8"]) == 2
    assert "It is called --batch-size." in capsys.readouterr().err


def test_pages_are_written_into_a_folder(tmp_path: Path) -> None:
    pages.main(tmp_path / "made")
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "made").iterdir()} == pages.pages()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "no-such-folder/p.csv"], "--out: must lie in a folder that exists"),
        (["--top", "0"], "--top: must be a whole number >= 1"),
    ],
)
def test_predict_refuses_before_it_works(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "run", "a.png", *words]) == 2
    assert told in capsys.readouterr().err


ANSWERS = Predictions(np.array(["b"]), np.array([[0.25, 0.75]], np.float32), ("a", "b"), ("x.png",), {"y.png": "is empty"},
                      np.array([0.5], np.float32), np.array([0.125], np.float32))  # fmt: skip
TABLE = "x.png  b 75.0%  a 25.0%  entropy 0.500  mutual information 0.125"
CSV = "path,predicted,confidence,entropy,mutual_information,p_a,p_b\nx.png,b,0.750000,0.500000,0.125000,0.250000,0.750000"
ANSWER = {"path": "x.png", "predicted": "b", "entropy": 0.5, "mutual_information": 0.125, "probabilities": {"a": 0.25, "b": 0.75}}
JSON = json.dumps({"predictions": [ANSWER], "skipped": {"y.png": "is empty"}, "doubtful": {}})


@pytest.mark.parametrize(("out", "told"), [("answers.txt", TABLE), ("answers.csv", CSV), ("answers.json", JSON)])
def test_predict_writes_answers_with_their_doubt(
    out: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        predict, "load", lambda path: SimpleNamespace(is_verified=True, stream=lambda pictures, **asked: iter([ANSWERS]))
    )
    assert predict.main(["run", "pictures", "--out", str(tmp_path / out)]) == 0
    assert (tmp_path / out).read_text(encoding="utf-8").strip() == told
    told_beside = [line for line in capsys.readouterr().err.splitlines() if "predicting" not in line]
    assert told_beside == ["skipped: y.png: is empty", "1 of 2 files were skipped"]


def _terminal(*, drawn: bool) -> tuple[Terminal, io.StringIO]:
    terminal, text = Terminal(), io.StringIO()
    terminal.console = Console(file=text, force_terminal=drawn, width=120, highlight=False)
    return terminal, text


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell the time of every stage, short as those of a test are."""
    monkeypatch.setattr("descend.cli.progress.LEAST_TIMED_S", 0.0)


def test_a_stage_that_took_no_time_tells_no_rate() -> None:
    terminal, text = _terminal(drawn=False)
    terminal.update("scan", 0, 398)
    terminal.update("scan", 398, 398)
    assert text.getvalue() == "  scan: 398 pictures\n"


@pytest.mark.usefixtures("timed")
def test_a_stage_whose_beginning_was_known_counts_what_was_done_and_names_the_whole() -> None:
    terminal, text = _terminal(drawn=False)
    terminal.update("scan", 256, 398)  # found in the index of earlier runs
    terminal.update("scan", 398, 398)
    assert "  scan: 142 of 398 pictures in " in text.getvalue()


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("drawn", [False, True])
def test_a_log_has_a_line_for_every_epoch_and_no_control_character(drawn: bool) -> None:
    terminal, text = _terminal(drawn=drawn)
    for done, note in ((0, ""), (10, ""), (10, "epoch 1/2"), (15, "epoch 1/2"), (20, "epoch 1/2"), (20, "epoch 2/2")):
        terminal.update("training", done, 20, note)
    terminal.say("done")
    lines = [line.strip() for line in text.getvalue().splitlines()]
    assert drawn or lines[0] == "epoch 1/2"
    assert drawn or lines[1].startswith("training: 20 pictures in ")
    assert drawn or lines[2:] == ["epoch 2/2", "done"]
    assert ("\x1b" in text.getvalue()) is drawn
    assert text.getvalue().count("pictures in") == 1


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("drawn", [False, True])
def test_a_stage_leaves_one_line_and_class_names_are_no_markup(drawn: bool) -> None:
    terminal, text = _terminal(drawn=drawn)
    terminal.update("reading", 1, 40)
    terminal.update("reading", 2, 40)  # within a tenth of a second: not drawn
    terminal.update("reading", 40, 40)
    terminal.update("training", 0, 10, "[red]")
    terminal._drawn = 0.0  # as if time had passed
    terminal.update("training", 5, 10, "[red]")
    terminal.say("stopped at [red]")
    assert "  reading: 40 pictures in " in text.getvalue()
    assert "  training: 5 of 10 pictures in " in text.getvalue()
    assert "stopped at [red]" in text.getvalue()
    assert ("5/10" in text.getvalue()) is drawn

"""The command line as a newcomer meets it: what it prints where, its exit status, and what it says when things go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from descend.cli import main

TINY = ["--backbone", "smallcnn(width=4)", "--transfer", "scratch", "--size", "16", "--epochs", "2", "--batch-size", "8"]


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    assert main(["fit", str(shapes), *TINY, "--out", str(out)]) == 0
    return out


def test_json_is_the_last_line_of_standard_output(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(shapes), *TINY, "--out", str(tmp_path / "run"), "--json"]) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    found = json.loads(line)
    assert found["val"]["n"] > 0
    assert found["chosen"]["transfer"] == "scratch"
    assert "pictures" in err


def test_settings_without_data_come_from_a_recipe(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--recipe", str(run / "recipe.toml"), "--out", str(tmp_path / "again"), "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 3


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["fti"], 2, "Did you mean 'fit'?"),
        (["fit"], 1, "descend fit digits"),
        (["fit", "no-such-folder"], 1, "no such folder"),
        (["fit", "digit"], 1, "Did you mean 'digits'?"),
        (["fit", "digits", "--optimizer", "adamww"], 1, "Did you mean 'adamw'?"),
        (["fit", "digits", "--optimizer", "adamw(lr=-1)"], 1, "lr must be a finite number >= 0, got -1"),
        (["fit", "digits", "--engine", "torch"], 1, "has no effect with transfer='scratch'"),
        (["fit", "digits", "--epochs", "0"], 1, "epochs must be a whole number >= 1"),
        (["fit", "--resume", "nowhere"], 1, "must be a run folder"),
        (["fit", "digits", "--resume", "nowhere"], 1, "takes no DATA"),
        (["predict", "nowhere", "x.png"], 1, "must be a run folder"),
        (["cache", "--clear", "decodd"], 1, "Did you mean 'decoded'?"),
        (["list", "optimzer"], 1, "Did you mean 'optimizer'?"),
    ],
)
def test_mistakes_are_explained_in_one_breath(
    words: list[str], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status
    err = capsys.readouterr().err
    assert told in err
    assert "Traceback" not in err


def test_list_names_every_technique(capsys: pytest.CaptureFixture[str]) -> None:
    from descend.technique import registered

    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {(row["family"], row["name"]) for row in listed} == {(cls.family, cls.name) for cls in registered()}
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("  ")]) == len(listed)


def test_predict_as_table_csv_and_json(run: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    pictures = [str(shapes / "disc"), str(tmp_path / "bad.png")]
    assert main(["predict", str(run), *pictures]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 12
    assert "bad.png" in err
    assert main(["predict", str(run), *pictures, "--out", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == "path,predicted,confidence,p_disc,p_square,p_stripes"
    capsys.readouterr()
    assert main(["predict", str(run), *pictures, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["predictions"]) == 12
    assert len(found["skipped"]) == 1


def test_eval_prints_and_counts_looks(run: Path, shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), str(shapes), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["eval", str(run), str(shapes)]) == 0
    out, err = capsys.readouterr()
    assert "balanced accuracy" in out
    assert f"looked at {first['test_looks'] + 1} times" in err


def test_export_writes_a_file_that_agrees(run: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--check", str(shapes / "disc"), "--out", str(tmp_path / "m.onnx")]) == 0
    assert "0 clear answers changed" in capsys.readouterr().out
    assert (tmp_path / "m.onnx").stat().st_size > 1000


def test_cache_shows_and_clears(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del run  # something has been cached
    assert main(["cache", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert before["bytes"] > 0
    assert "decoded" in before["kinds"]
    assert main(["cache"]) == 0
    assert "decoded" in capsys.readouterr().out


def test_help_of_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    from descend.cli import VERBS

    for verb in VERBS:
        with pytest.raises(SystemExit) as left:
            main([verb, "--help"])
        assert left.value.code == 0
        assert "usage: descend" in capsys.readouterr().out


def test_a_closed_pipe_is_no_crash(run: Path, shapes: Path) -> None:
    command = f"{sys.executable} -m descend.cli list | {sys.executable} -c 'print(input())'"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a console interrupt cannot be sent to one process there")
def test_ctrl_c_keeps_what_was_trained_and_says_how_to_go_on(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "descend.cli",
        "fit",
        str(shapes),
        *TINY[:-4],
        "--epochs",
        "100000",
        "--batch-size",
        "8",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (out / "metrics.jsonl").exists())
    process.send_signal(signal.SIGINT)
    told, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"descend fit --resume {out}" in told
    assert "Traceback" not in err
    assert {"model.safetensors", "checkpoint.pt", "report.html", "predictions.csv"} <= {path.name for path in out.iterdir()}


def wait_for(condition: Callable[[], bool], timeout_s: float = 90) -> None:
    """Wait until ``condition`` holds; fail after ``timeout_s``."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)

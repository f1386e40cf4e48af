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
from descend.report.words import times

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
        (["fit"], 2, "descend fit digits"),
        (["lr-find"], 2, "descend lr-find digits"),
        (["fit", "--epochs", "3", "--augment", "flip"], 2, "fit: needs DATA"),
        (["fit", "--recipe", "nowhere.toml"], 1, "must be a TOML file that exists"),
        (["fit", "no-such-folder"], 1, "no such folder"),
        (["fit", "digit"], 1, "Did you mean 'digits'?"),
        (["fit", "digits", "--optimizer", "adamww"], 2, "Did you mean 'adamw'?"),
        (["fit", "digits", "--optimizer", "adamw(lr=-1)"], 2, "lr must be a finite number >= 0, got -1"),
        (["fit", "digits", "--engine", "torch"], 2, "has no effect with transfer='scratch'"),
        (["fit", "digits", "--epochs", "0"], 2, "epochs must be a whole number >= 1"),
        (["fit", "--resume", "nowhere"], 1, "must be a run folder"),
        (["fit", "digits", "--resume", "nowhere"], 2, "takes no DATA"),
        (["predict", "nowhere", "x.png"], 1, "must be a run folder"),
        (["cache", "--clear", "decodd"], 2, "Did you mean 'decoded'?"),
        (["list", "optimzer"], 2, "Did you mean 'optimizer'?"),
    ],
)
def test_mistakes_are_explained_in_one_breath(
    words: list[str], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status
    err = capsys.readouterr().err
    assert told in err
    assert "Traceback" not in err


def test_an_unknown_flag_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["fit", "digits", "--no-such-flag"])
    assert left.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err


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
    assert f"the run's test split has been looked at {times(first['test_looks'] + 1)}" in err


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
    assert {"model.safetensors", "checkpoint.safetensors", "report.html", "predictions.csv"} <= {
        path.name for path in out.iterdir()
    }


def wait_for(condition: Callable[[], bool], timeout_s: float = 90) -> None:
    """Wait until ``condition`` holds; fail after ``timeout_s``."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


OWN_NETWORK = """
from torch import nn
from descend.models import Architecture
from descend.models.stages import Backbone
from descend.technique import technique


@technique("one_layer", source="none")
class OneLayer(Architecture):
    width: int = 4

    def build(self, seed):
        body = nn.Sequential(nn.Conv2d(3, self.width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Backbone(str(self), {"body": body}, n_features=self.width, native_size=16)
"""


COMMANDS = """
import json, sys
from descend.cli import main
ended = [main(words) for words in json.loads(sys.argv[1])]
print(json.dumps([ended, "torch._dynamo" in sys.modules]))
"""


def test_a_network_of_ones_own_is_used_again_by_naming_its_module(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "my_networks.py").write_text(OWN_NETWORK, encoding="utf-8")
    predicting = ["predict", "run", str(shapes / "disc" / "00.png")]

    def told(*commands: list[str]) -> tuple[list[int], bool, str, str]:
        """Run commands in a process of their own: how each ended, whether Dynamo was imported, what was said."""
        words = [sys.executable, "-P", "-c", COMMANDS, json.dumps(commands)]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=240, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        *said, last = ended.stdout.splitlines()
        return *json.loads(last), "\n".join(said), ended.stderr

    settings = [str(shapes), *TINY[2:], "--backbone", "one_layer(width=3)", "--out", "run"]
    fitted, traced, _, err = told(["fit", *settings, "--import", "my_networks"])
    assert fitted == [0], err
    assert not traced, "a training that compiles nothing has imported torch's tracer, which takes seconds"
    assert "--import my_networks" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    answered, _, said, err = told(
        predicting,  # the run's graph answers: no module is needed
        [*predicting, "--tta", "flip"],
        ["predict", "--import=my_networks", *predicting[1:], "--tta", "flip"],
    )
    assert answered == [0, 1, 0], err
    assert said.count("00.png") == 2
    assert err.count("give --import my_networks") == 1


@pytest.mark.parametrize("words", [["--import", "no_such_module"], ["--import"], ["--import="]])
def test_a_module_that_is_not_there_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *words]) == 2
    assert "--import: must name a module that Python finds from here" in capsys.readouterr().err

"""What goes wrong in real life: each mishap has its own clear answer, and nothing that was computed is lost."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import descend
from descend import report
from descend.cli import main
from descend.errors import KnobError, RunError, TrainingError
from descend.models import Lite0
from descend.progress import Silent
from descend.train.interrupt import Interrupt
from descend.train.run import Run

TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, "epochs": 2, "batch_size": 8}


@pytest.fixture
def folder(shapes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes, tmp_path / "data"))


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "run", **TINY)


class StopIn(Silent):
    """A listener that presses Ctrl-C, without mercy, at the first news of a stage or the first line that holds a text."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == self.stage:
            raise KeyboardInterrupt

    def say(self, text: str) -> None:
        if self.stage in text:
            raise KeyboardInterrupt


def test_a_clock_that_jumps_changes_nothing(run: Run, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, now_ns, n_asked = time.time, time.time_ns, count()

    def jump() -> int:
        """Return seconds: two months ahead, or back, by turns."""
        return 5_000_000 * (-1) ** next(n_asked)

    monkeypatch.setattr(time, "time", lambda: now() + jump())
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 10**9 * jump())
    monkeypatch.setattr("descend.data.scan._now_ns", time.time_ns)
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    jumped = descend.fit(shapes, out=tmp_path / "run", **TINY, checkpoint_every="1")
    assert next(n_asked) > 0  # somebody has asked
    for name in ("model.safetensors", "predictions.csv"):
        assert (jumped.folder / name).read_bytes() == (run.folder / name).read_bytes()
    assert sum(jumped.record.wall_s.values()) < 3600


def test_scratch_begins_from_random_weights_whatever_the_backbone(shapes: Path, tmp_path: Path) -> None:
    settings = {**TINY, "backbone": "lite0", "size": 32, "epochs": 1, "optimizer": "sgd(lr=0.0)"}
    made = descend.fit(shapes, out=tmp_path / "run", **settings)
    pretrained = dict(Lite0().build(0).named_parameters())
    first = next(name for name, value in pretrained.items() if value.ndim == 4)
    assert not torch.equal(dict(made.classifier.backbone.named_parameters())[first], pretrained[first])
    assert made.recipe.backbone == "lite0(pretrained=False)"
    with pytest.raises(KnobError, match="random weights"):
        descend.fit(shapes, out=tmp_path / "no", **{**settings, "backbone": "lite0(pretrained=True)"})


@pytest.mark.parametrize("transfer", ["features", "head", "finetune"])
def test_what_is_not_pretrained_cannot_be_transferred(shapes: Path, tmp_path: Path, transfer: str) -> None:
    with pytest.raises(KnobError, match="must be pretrained"):
        descend.fit(shapes, out=tmp_path / "run", transfer=transfer, backbone="smallcnn")


def test_what_is_advised_without_a_network_works(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("descend.models.hub.answers", lambda address: False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    small = ["--size", "32", "--epochs", "1", "--batch-size", "32", "--out", str(tmp_path / "run")]
    assert main(["fit", str(shapes), "--transfer", "features", "--backbone", "resnet10t", *small]) == 1
    advice = re.search(r"random weights: (--transfer .*?) \(", capsys.readouterr().err)
    assert advice is not None
    assert main(["fit", str(shapes), *advice[1].split(), *small]) == 0


@pytest.mark.parametrize("place", ["runs/one", "run"])
def test_a_run_inside_the_data_is_no_class(folder: Path, place: str) -> None:
    first = descend.fit(folder, out=folder / place, **TINY)
    again = descend.fit(folder, out=folder / "runs" / "two", **TINY)
    assert first.record.data_fingerprint == again.record.data_fingerprint
    assert again.classes == ("disc", "square", "stripes")


def test_a_loss_that_is_not_finite_ends_in_words(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        descend.fit(shapes, out=tmp_path / "run", **{**TINY, "batch_size": 64, "optimizer": "sgd(lr=1e30)"})


def test_an_undecodable_picture_is_named_in_record_and_report(folder: Path, tmp_path: Path) -> None:
    broken = folder / "disc" / "00.png"
    broken.write_bytes(broken.read_bytes()[:100])
    made = descend.fit(folder, out=tmp_path / "run", **TINY)
    assert any("disc/00.png" in example for item in made.record.data["problems"] for example in item["examples"])
    assert sum(made.record.data["splits"].values()) == 35
    assert "disc/00.png" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_file_name_that_is_no_unicode_costs_nothing(folder: Path, tmp_path: Path) -> None:
    os.rename(os.fsencode(folder / "disc" / "00.png"), os.fsencode(folder / "disc") + b"/\xff00.png")  # noqa: PTH104 (bytes: such a name is no string)
    made = descend.fit(folder, out=tmp_path / "run", **TINY)
    assert made.record.status == "finished"
    assert main(["predict", str(made.folder), str(folder), "--out", str(tmp_path / "p.csv")]) == 0
    assert "00.png" in (tmp_path / "p.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["decode", "training 2 epochs", "scan"])
def test_ctrl_c_outside_the_loop_goes_on_where_it_can(folder: Path, tmp_path: Path, stage: str, run: Run) -> None:
    (folder / "disc" / "00.png").touch()
    os.environ["DESCEND_CACHE"], before = str(tmp_path / "cache"), os.environ["DESCEND_CACHE"]
    try:
        if stage == "scan":
            with pytest.raises(KeyboardInterrupt):
                descend.fit(folder, out=tmp_path / "run", progress=StopIn(stage), **TINY)
            assert not (tmp_path / "run").exists()
            return
        cut = descend.fit(folder, out=tmp_path / "run", progress=StopIn(stage), **TINY)
        assert cut.record.status == "interrupted"
        assert (cut.folder / "report.html").exists()
        assert descend.resume(cut.folder).record.val == run.record.val
    finally:
        os.environ["DESCEND_CACHE"] = before


def test_the_rate_of_an_epoch_is_the_same_after_a_stop_on_its_last_step(shapes: Path, tmp_path: Path) -> None:
    class StopAtTheEnd(Silent):
        asked = False

        def update(self, stage: str, done: int, total: int, note: str = "") -> None:
            if stage == "training" and done and not self.asked:
                self.asked = True
                signal.raise_signal(signal.SIGINT)

    settings = {**TINY, "batch_size": 64}  # one step an epoch
    whole = descend.fit(shapes, out=tmp_path / "whole", **settings)
    cut = descend.fit(shapes, out=tmp_path / "cut", progress=StopAtTheEnd(), **settings)
    descend.resume(cut.folder)
    rates = [
        [json.loads(line)["lr"] for line in (made.folder / "metrics.jsonl").read_text().splitlines()] for made in (whole, cut)
    ]
    assert rates[0] == rates[1]
    assert min(rates[0]) > 0


def test_two_signals_in_one_breath_are_one() -> None:
    interrupt = Interrupt()
    interrupt.request()
    interrupt.request()
    assert interrupt
    interrupt._first -= 10
    with pytest.raises(KeyboardInterrupt):
        interrupt.request()


def test_a_report_that_could_not_be_written_comes_with_resume(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            descend.fit(shapes, out=tmp_path / "run", **TINY)
    assert not (tmp_path / "run" / "report.html").exists()
    assert descend.resume(tmp_path / "run").record.status == "finished"
    assert (tmp_path / "run" / "report.html").exists()
    with pytest.raises(RunError, match="unfinished"):
        descend.resume(tmp_path / "run")


def test_eval_answers_although_the_look_cannot_be_saved(run: Run, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, folder: Path) -> None:
        raise RunError("run folder", "must be writable")

    with (run.folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        right = [row["label"] == row["predicted"] for row in csv.DictReader(file) if row["split"] == "test"]
    monkeypatch.setattr("descend.train.record.RunRecord.save", refuse)
    found = descend.load(run.folder).evaluate(shapes)
    assert found["accuracy"] == pytest.approx(np.mean(right))
    assert found["look_noted"] is False


def test_a_look_joins_the_record_as_it_is_by_then(run: Run, shapes: Path) -> None:
    """Another process may have looked since the run was opened, or gone on with it."""
    one, other = descend.load(run.folder), descend.load(run.folder)
    before = len(one.record.test_looks)
    assert one.evaluate(shapes, split="test")["test_looks"] == before + 1
    assert other.evaluate(shapes, split="test")["test_looks"] == before + 2
    assert len(descend.load(run.folder).record.test_looks) == before + 2


def test_eval_tells_pictures_that_were_trained_on(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (40, 40, 3), np.uint8)).save(folder / "disc" / "new.png")
    found = descend.load(run.folder).evaluate(folder)
    splits = run.record.data["splits"]
    assert found["n_trained_on"] == splits["train"] + splits["val"]
    assert main(["eval", str(run.folder), str(folder)]) == 0
    assert "were trained or selected on" in capsys.readouterr().err


def test_data_swallowed_by_a_list_flag_is_told(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--augment", "flip()", str(shapes)]) == 2
    assert "must stand before --augment" in capsys.readouterr().err


def test_a_batch_of_one_that_a_norm_cannot_learn_from(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(KnobError, match="--batch-size"):
        descend.fit(shapes, out=tmp_path / "run", **{**TINY, "backbone": "resnet9(width=4)", "size": 8, "batch_size": 1})


def test_a_class_with_one_picture_is_noted_and_nothing_warns(folder: Path, tmp_path: Path) -> None:
    for path in sorted((folder / "disc").iterdir())[1:]:
        path.unlink()
    made = descend.fit(folder, out=tmp_path / "run", **TINY)
    assert any(
        item["kind"] == "few" and "disc (none in val and test)" in item["examples"] for item in made.record.data["problems"]
    )


def test_one_text_stands_for_a_list_of_one(shapes: Path, tmp_path: Path) -> None:
    made = descend.fit(shapes, out=tmp_path / "run", recipe={"augment": "flip()", **TINY})
    assert made.recipe.augment == ("flip(p=0.5, axis='horizontal')",), "with every knob, for a default may change"


def test_one_picture_and_lists_of_pictures(run: Run) -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    assert run.predict(picture).probabilities.shape == (1, 3)
    assert run.predict([picture, picture[:10]]).probabilities.shape == (2, 3)


@pytest.mark.parametrize("words", [["--top", "0"], ["--out", "no-such-folder/x.csv"]])
def test_predict_refuses_before_it_works(run: Run, shapes: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run.folder), str(shapes), *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_a_table_reached_by_a_link_keeps_the_folder_of_the_link(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "tables"
    elsewhere.mkdir()
    rows = [f"{kind}/{n:02d}.png,{kind}" for kind in ("disc", "stripes") for n in range(12)]
    (elsewhere / "table.csv").write_text("\n".join(["path,label", *rows]))
    (folder / "table.csv").symlink_to(elsewhere / "table.csv")
    made = descend.fit(folder / "table.csv", out=tmp_path / "run", **TINY)
    again = descend.fit(recipe=made.folder / "recipe.toml", out=tmp_path / "again")
    assert made.classes == again.classes == ("disc", "stripes")


def test_two_runs_at_once_on_an_empty_cache_are_two_equal_runs(folder: Path, tmp_path: Path, run: Run) -> None:
    (folder / "new").write_text("a file of its own, so that nothing is shared with another test's cache")
    os.environ["DESCEND_CACHE"], before = str(tmp_path / "cache"), os.environ["DESCEND_CACHE"]
    try:
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda name: descend.fit(folder, out=tmp_path / name, **TINY), ("a", "b")))
    finally:
        os.environ["DESCEND_CACHE"] = before
    assert [one.record.val for one in made] == [run.record.val] * 2


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # every larger file ends as on a full disk: with an OSError
from descend.cli import main
sys.exit(main(["fit", *sys.argv[1:]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_disk_that_takes_no_more_is_said_and_the_run_is_no_ruin(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    asked = [str(shapes), "--out", str(out), "--transfer", "scratch", "--backbone", "resnet9(width=8)", "--size", "16",
             "--epochs", "1"]  # fmt: skip
    asked += ["--augment", "none"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # it writes files too
    command = [sys.executable, "-c", FULL_DISK, *asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "must be writable" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in out.iterdir() if path.name.endswith(".part")]
    assert main(["fit", "--resume", str(out)]) == 0

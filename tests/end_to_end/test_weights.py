"""A backbone's weights from a file of one's own: used, told, kept, and not needed any more once the run has begun."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import descend
from descend.errors import KnobError, ModelError
from descend.models import backbone
from descend.progress import Silent
from descend.train.modes.mode import Mode
from descend.train.run import Run

SMALL = "resnet9(width=4)"
COMMON: dict[str, Any] = {"backbone": SMALL, "size": 32, "engine": "torch"}
MODES: dict[str, dict[str, Any]] = {
    "features": {"transfer": "features"},
    "head": {"transfer": "head", "epochs": 2, "augment": ["flip"]},  # named, so that it is not measured first
    "finetune": {"transfer": "finetune", "epochs": 2, "batch_size": 8, "augment": ["flip"], "optimizer": "adamw(lr=0.002)"},
}


class Told(Silent):
    """Keeps what is said, and presses Ctrl-C when a stage is heard of for the n-th time."""

    def __init__(self, stage: str = "", n: int = 1) -> None:
        self.stage, self.n, self.lines = stage, n, list[str]()

    def say(self, line: str) -> None:
        self.lines.append(line)

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == self.stage:
            self.n -= 1
            if not self.n:
                signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def made(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run from scratch, whose model is the file that the others begin with."""
    settings: dict[str, Any] = {"transfer": "scratch", "backbone": SMALL, "size": 32, "epochs": 3, "batch_size": 8}
    return descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "made", **settings)


@pytest.fixture
def file(made: Run, tmp_path: Path) -> Path:
    return Path(shutil.copy(made.folder / "model.safetensors", tmp_path / "mine.safetensors"))


def same_backbone(run: Run, file: Path) -> bool:
    mine, theirs = load_file(run.folder / "model.safetensors"), load_file(file)
    names = [name for name in theirs if name.startswith("backbone.")]
    return all(torch.equal(mine[name], theirs[name]) for name in names)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_that_needs_weights_takes_them_from_a_file_and_is_whole_without_it(mode, shapes, file, tmp_path):
    told = Told()
    run = descend.fit(shapes, out=tmp_path / "run", weights=file, progress=told, **COMMON, **MODES[mode])
    assert same_backbone(run, file) == (mode != "finetune")
    assert any("40 of 40 tensors" in line and "classifier left out" in line for line in told.lines), told.lines
    record = run.record.weights
    assert record is not None
    assert (record["n_matched"], record["share"], record["prefix"]) == (40, 1.0, "backbone.")
    assert "40 of 40 tensors" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert not (run.folder / "initial.safetensors").exists()
    file.unlink()
    run = descend.load(run.folder)
    assert len(run.predict(shapes).labels) == 36
    assert run.evaluate(shapes)["accuracy"] == (run.record.test or {})["accuracy"]


def test_the_weights_matter(shapes, file, tmp_path):
    net = backbone(SMALL).build(5)
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, tmp_path / "other.safetensors")
    runs = [
        descend.fit(shapes, out=tmp_path / path.stem, weights=path, transfer="features", **COMMON)
        for path in (file, tmp_path / "other.safetensors")
    ]
    assert not np.allclose(runs[0].predict(shapes).probabilities, runs[1].predict(shapes).probabilities)


@pytest.mark.slow
def test_a_recipe_repeats_the_run_from_anywhere(shapes, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = descend.fit(shapes, out=tmp_path / "a", weights=file.name, transfer="features", **COMMON)
    assert first.recipe.weights == str(file)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = descend.fit(recipe=tmp_path / "a" / "recipe.toml", out=tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert again.record.weights == first.record.weights


@pytest.mark.parametrize(
    ("mode", "stage", "n", "then"),
    [
        ("features", "features", 1, "changed"),
        pytest.param("features", "features", 1, "gone", marks=pytest.mark.slow),
        pytest.param("finetune", "training", 4, "changed", marks=pytest.mark.slow),
        ("finetune", "training", 4, "gone"),
    ],
)
def test_an_interrupted_run_goes_on_with_the_weights_it_began_with(then, mode, stage, n, shapes, file, tmp_path, monkeypatch):
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    settings = {**COMMON, **MODES[mode]}
    whole = descend.fit(shapes, out=tmp_path / "whole", weights=file, **settings)
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache2"))
    cut = descend.fit(shapes, out=tmp_path / "cut", weights=file, progress=Told(stage, n), **settings)
    assert cut.record.status == "interrupted"
    assert (cut.folder / "initial.safetensors").exists()
    file.unlink()
    if then == "changed":
        save_file({"stages.stem.0.weight": torch.ones(3)}, file)
    resumed = descend.resume(cut.folder)
    assert resumed.record.status == "finished"
    assert not (cut.folder / "initial.safetensors").exists()
    assert (cut.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert resumed.record.weights == whole.record.weights


def test_a_run_goes_on_with_the_crop_that_it_began_with(shapes, file, tmp_path, monkeypatch):
    """Another version may know another one of the same backbone."""
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))  # empty: features of another test's run need no computing
    settings = {**COMMON, **MODES["features"], "weights": file}
    cut = descend.fit(shapes, out=tmp_path / "cut", progress=Told("features", 1), **settings)
    assert (cut.record.status, cut.record.preparation()["resolution"]) == ("interrupted", 32)
    with monkeypatch.context() as patch:
        patch.setattr(Mode, "crop_margin", lambda self, network: 0.5)
        resumed = descend.resume(cut.folder)
        other = descend.fit(shapes, out=tmp_path / "other", **settings)
    assert (resumed.record.status, resumed.record.preparation()["resolution"]) == ("finished", 32)
    assert other.record.preparation()["resolution"] == 64


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"transfer": "scratch"}, KnobError, "no effect with transfer='scratch'"),
        ({"transfer": "features", "weights": "nowhere.pt"}, ModelError, "must be a file that exists, got .*nowhere"),
        ({"transfer": "features", "backbone": "lite0"}, ModelError, "Name the backbone"),
    ],
)
def test_what_cannot_be_used_is_refused_before_there_is_a_run(settings, kind, words, shapes, file, tmp_path):
    asked = {**COMMON, "weights": file, **settings}
    if asked["transfer"] == "scratch":
        del asked["engine"]
    with pytest.raises(kind, match=words):
        descend.fit(shapes, out=tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()

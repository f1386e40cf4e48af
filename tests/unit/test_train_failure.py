"""What stops a run outside and inside its loop: a full memory names the sizes, and the record says what it was."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.fakes import make_task  # pyright: ignore[reportMissingImports]

import descend
from descend.errors import KnobError, RunError, TrainingError
from descend.train import training
from descend.train.failure import with_location
from descend.train.loop import Batch, Position, Task
from descend.train.plan import Plan
from descend.train.run import Run
from descend.unfinished import unfinished_name

LABELS = np.arange(60) % 2
IMAGES = (np.random.default_rng(0).integers(0, 60, (60, 12, 12)) + 150 * LABELS[:, None, None]).astype(np.uint8)
TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "epochs": 2, "batch_size": 16, "augment": []}
TOO_MUCH = 2**46  # elements: no machine has the memory


WITHOUT_NORMS: dict[str, Any] = {"transfer": "features", "backbone": "lite0", "head": "linear()", "size": 32, "engine": "torch"}


def fit(out: Path, **settings: Any) -> Run:
    return descend.fit((IMAGES, LABELS), out=out, **(TINY | settings))


def test_a_full_memory_of_torch_names_batch_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Task.step

    def step(task: Task, epoch: int, batch: Batch) -> Any:
        return torch.empty(TOO_MUCH) if (epoch, batch.step) == (1, 1) else plain(task, epoch, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "step", step)
        words = r"batches of 16 pictures of \d+ x \d+ px .*allocate.*--batch-size, for example to 8.*\n  in epoch 2, step 2 of"
        with pytest.raises(TrainingError, match=words):
            fit(tmp_path / "run")
    assert descend.load(tmp_path / "run").predict(IMAGES[:2]).probabilities.shape == (2, 2)
    again, whole = descend.resume(tmp_path / "run", data=(IMAGES, LABELS)), fit(tmp_path / "whole")
    assert (again.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert again.record.stopped_by == ""


@pytest.mark.parametrize("allocate", [torch.empty, np.empty])
def test_before_the_loop_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allocate: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training, "rehearse", lambda *_: allocate(TOO_MUCH))
        with pytest.raises(TrainingError, match=r"must fit into memory, with batches of 1 pictures .*Lower --size") as caught:
            fit(tmp_path / "run", batch_size=1, **WITHOUT_NORMS)
    record = descend.load(tmp_path / "run").record
    assert (record.status, record.stopped_by) == ("interrupted", str(caught.value))
    assert descend.resume(tmp_path / "run", data=(IMAGES, LABELS)).record.status == "finished"


def test_what_is_refused_after_the_folder_was_made_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise KnobError("batch_size", "must be larger")

    monkeypatch.setattr(training, "rehearse", refuse)
    with pytest.raises(KnobError):
        fit(tmp_path / "run")
    assert descend.load(tmp_path / "run").record.stopped_by == "batch_size: must be larger."


def test_what_killed_processes_were_writing_is_swept_when_a_run_goes_on(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", snapshots=2)
    run.record.status = "interrupted"
    run.record.save(run.folder)
    killed = subprocess.Popen(["true"])
    killed.wait()
    ours, theirs = (unfinished_name(".pt").replace(f"-{os.getpid()}-", f"-{pid}-") for pid in (os.getpid(), killed.pid))
    for place in (run.folder, run.folder / "snapshots"):
        for name in (ours, theirs):
            (place / name).write_bytes(b"half")
    descend.resume(run.folder, data=(IMAGES, LABELS))
    assert [path.name for path in run.folder.rglob("*.pt")] == [ours, ours]


def test_what_fails_after_the_last_step_is_of_the_last_epoch() -> None:
    task = make_task(epochs=2)
    told = with_location(RunError("run folder", "must be writable"), cast("Plan", None), task, Position(2))
    assert "\n  in epoch 2, step 4 of 4, at learning rate 0.1" in str(told)

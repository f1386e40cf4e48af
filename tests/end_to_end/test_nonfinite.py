"""What stops a training (a gradient that is not finite, a full memory, a listener's error) never costs the good epochs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import StopAfter  # pyright: ignore[reportMissingImports] (pytest finds it)
from tests.fakes import FakeSource, make_task, seeded_module, weights  # pyright: ignore[reportMissingImports]
from torch import nn

import descend
from descend.cli import main
from descend.errors import RunError, TrainingError
from descend.progress import Silent
from descend.train.loop import Batch, Position, Task
from descend.train.nonfinite import Rollback, largest_gradients, notes

pytestmark = pytest.mark.charts

TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, "epochs": 3, "batch_size": 8,
                        "augment": ["flip"]}  # fmt: skip


def poisoned(monkeypatch: pytest.MonkeyPatch, where: Callable[[Task, int, int], bool], error: Exception | None = None) -> None:
    """Make the inputs of the steps for which ``where(task, epoch, step)`` holds NaN, or raise ``error`` there."""
    plain = Task.step

    def step(task: Task, epoch: int, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if where(task, epoch, batch.step):
            if error is not None:
                raise error
            batch = dataclasses.replace(batch, inputs=batch.inputs * math.nan)
        return plain(task, epoch, batch)

    monkeypatch.setattr(Task, "step", step)


def in_second_epoch(_: Task, epoch: int, step: int) -> bool:
    return (epoch, step) == (1, 1)


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_gradient_that_is_not_finite_leaves_the_best_epoch_and_says_where(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = descend.fit(shapes, out=tmp_path / "one", schedule="constant", **{**TINY, "epochs": 1})
    poisoned(monkeypatch, in_second_epoch)
    with pytest.raises(TrainingError) as caught:
        descend.fit(shapes, out=tmp_path / "run", schedule="constant", **TINY)
    told = str(caught.value)
    n_steps = -(-one.record.data["splits"]["train"] // 8)
    assert f"in epoch 2, step 2 of {n_steps}, at learning rate" in told
    assert "gradient norms, the worst first: " in told
    assert " nan" in told.split("worst first: ")[1]
    assert "the last good epoch is 1; the best so far, epoch 1, is kept as the model" in told
    assert "--on-nan rollback" in told
    run = descend.load(tmp_path / "run")
    assert run.record.status == "interrupted"
    assert "must be finite" in run.record.stopped_by
    assert (run.folder / "report.html").exists()
    kept, expected = load_file(run.folder / "model.safetensors"), load_file(one.folder / "model.safetensors")
    assert all(torch.equal(kept[name], expected[name]) for name in expected)
    assert run.predict(shapes / "disc").probabilities.shape == (12, 3)


def test_before_an_epoch_was_complete_there_is_nothing_to_keep(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, lambda task, epoch, step: step == 1)
    with pytest.raises(TrainingError, match="no epoch was complete: there is no model"):
        descend.fit(shapes, out=tmp_path / "run", **TINY)
    assert descend.load(tmp_path / "run").record.status == "interrupted"
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("mode", ["skip", "rollback"])
def test_going_on_is_resumed_to_the_bit(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    if mode == "skip":
        poisoned(monkeypatch, in_second_epoch)
    else:
        poisoned(monkeypatch, lambda task, epoch, step: (epoch, step) == (1, 2) and task.rate_factor > 0.3)
    whole = descend.fit(shapes, out=tmp_path / "whole", on_nan=mode, **TINY)
    assert whole.record.status == "finished"
    assert whole.record.notes == [
        "1 step was dropped: the gradients were not finite."
        if mode == "skip"
        else "Training went back to the last good epoch 2 times and ended with 0.25 of the learning rate."
    ]
    out = tmp_path / "cut"
    cut = descend.fit(shapes, out=out, on_nan=mode, progress=StopAfter(48), **TINY)
    assert cut.record.status == "interrupted"
    again = descend.resume(out)
    assert again.record.notes == whole.record.notes
    assert (out / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert [row["train_loss"] for row in rows(out)] == [row["train_loss"] for row in rows(whole.folder)]


def test_a_rollback_goes_back_to_the_end_of_the_epoch_before_with_half_the_rate(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = descend.fit(shapes, out=tmp_path / "plain", **TINY)
    poisoned(monkeypatch, lambda task, epoch, step: (epoch, step) == (1, 2) and task.rate_factor == 1)
    back = descend.fit(shapes, out=tmp_path / "back", on_nan="rollback", **TINY)
    expected, found = rows(plain.folder), rows(back.folder)
    assert found[0]["train_loss"] == expected[0]["train_loss"]
    assert [row["lr"] for row in found] == [expected[0]["lr"], expected[1]["lr"] / 2, expected[2]["lr"] / 2]


def test_the_fourth_rollback_is_the_end(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Heard(Silent):
        lines: list[str]

        def say(self, text: str) -> None:
            self.lines.append(text)

    poisoned(monkeypatch, in_second_epoch)
    heard = Heard()
    heard.lines = []
    with pytest.raises(TrainingError, match="epoch 1, is kept"):
        descend.fit(shapes, out=tmp_path / "run", on_nan="rollback", progress=heard, **TINY)
    assert [line.rpartition("(")[2] for line in heard.lines if "half the learning rate" in line] == [
        "1 of 3)",
        "2 of 3)",
        "3 of 3)",
    ]
    assert (tmp_path / "run" / "model.safetensors").exists()


class Unwell(Silent):
    """A listener whose own code fails in the second epoch."""

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "training" and note:
            raise LookupError("the listener's own")


def test_an_error_of_a_listener_keeps_its_type_and_the_model(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="the listener's own") as caught:
        descend.fit(shapes, out=tmp_path / "run", progress=Unwell(), **TINY)
    assert any("epoch 1, is kept" in line for line in caught.value.__notes__)
    assert descend.resume(tmp_path / "run").record.status == "finished"


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error"), RunError("run folder", "must be writable")])
def test_an_error_of_the_machine_is_a_sentence_and_resumed_to_the_bit(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        poisoned(patch, in_second_epoch, error)
        words = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "augment"]
        assert main(["fit", str(shapes), "--out", str(tmp_path / "run"), *words]) == 1
    told = capsys.readouterr().err
    assert "in epoch 2, step 2 of" in told
    assert "epoch 1, is kept as the model" in told
    assert main(["fit", "--resume", str(tmp_path / "run")]) == 0


def test_what_cannot_be_saved_either_is_said(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RunError("run folder", "must be writable")

    poisoned(monkeypatch, in_second_epoch, MemoryError())
    monkeypatch.setattr("descend.train.judge.save_model", full)
    with pytest.raises(TrainingError, match="could not be saved"):
        descend.fit(shapes, out=tmp_path / "run", **TINY)


def test_a_dropped_step_changes_nothing() -> None:
    task = make_task(seeded_module(nn.BatchNorm1d(5), nn.Linear(5, 3)), rule="adamw(lr=0.1)")
    task.optimizer.nonfinite = "skip"
    before, batch = weights(task.module), FakeSource().batch(0, 0)
    assert task.step_or_drop(0, dataclasses.replace(batch, inputs=batch.inputs * math.nan)) is None
    assert all(torch.equal(value, before[name]) for name, value in weights(task.module).items())
    task.optimizer.load_state_dict(task.optimizer.state_dict())  # as a checkpoint does
    assert not any(task.optimizer.state.values())
    assert task.step_or_drop(0, batch) is not None


def test_a_rollback_restores_every_slot() -> None:
    task, rollback = make_task(rule="adamw(lr=0.1)"), Rollback()
    source = FakeSource()
    task.step(0, source.batch(0, 0))
    rollback.keep(Position(1), task)
    task.step(0, source.batch(0, 1))
    once = weights(task.module)
    assert rollback.go_back(task) == Position(1)
    assert task.set_lr(1, 0) == pytest.approx(0.05)
    task.rate_factor = 1.0
    task.set_lr(1, 0)
    task.step(0, source.batch(0, 1))
    assert all(torch.equal(value, once[name]) for name, value in weights(task.module).items())


def test_the_largest_gradients_come_first_and_the_broken_ones_before_them() -> None:
    module = seeded_module(nn.Linear(2, 2), nn.Linear(2, 2))
    assert largest_gradients(module) == ""
    for parameter, value in zip(module.parameters(), (1.0, 2.0, math.nan, 0.5), strict=True):
        parameter.grad = torch.full_like(parameter, value)
    assert largest_gradients(module) == "1.weight nan, 0.bias 2.83, 0.weight 2"


def test_a_loss_that_grew_is_told_at_the_end() -> None:
    assert notes([1.0, 0.5, 0.3], 3, n_dropped=0, n_rollbacks=0) == []
    assert notes([0.05, 0.2], 3, n_dropped=0, n_rollbacks=0) == []
    (line,) = notes([1.0, 0.5, 7.0], 3, n_dropped=0, n_rollbacks=0)
    assert "from 1 in the first epoch to 7 in the last" in line


def test_divergence_is_the_last_line_of_fit(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "augment"]
    assert main(["fit", str(shapes), "--out", str(tmp_path / "run"), *words, "--optimizer", "sgd(lr=30.0)", "--schedule",
                 "then(warmup(fraction=0.7), constant())"]) == 0  # fmt: skip
    assert "Training diverged" in capsys.readouterr().out.splitlines()[-1]


def test_a_loss_that_exploded_in_the_first_epoch_is_told_too() -> None:
    (told,) = notes([2e5, 1e5], 3, n_dropped=0, n_rollbacks=0)
    assert "is 1e+05 in the last epoch, and that of guessing 1.1. Lower the learning rate." in told
    assert notes([2.1], 3, n_dropped=0, n_rollbacks=0) == []
    assert notes([], 3, n_dropped=0, n_rollbacks=0) == []

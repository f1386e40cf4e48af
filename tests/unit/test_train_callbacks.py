"""After a step and after an epoch: selection, the metrics' row, checkpoints, decisions, early stopping, bad losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes import N_CLASSES, N_INPUTS, FakeSource, Listener, make_task, seeded_module, weights  # pyright: ignore[reportMissingImports]
from torch import nn

from descend.errors import TrainingError
from descend.regularize import EarlyStopping
from descend.train import callbacks, checkpoint, folder
from descend.train.callbacks import KeepBest, RunCallback
from descend.train.checkpoint import Best
from descend.train.loop import Position, Task, train_loop
from descend.train.snapshots import Snapshots

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def answers(n_right: int, confidence: float = 0.8) -> np.ndarray:
    """Return probabilities of which the first ``n_right`` of ten are right, (10, 3) float32."""
    rows = np.full((10, N_CLASSES), (1 - confidence) / 2)
    predicted = np.where(np.arange(10) < n_right, LABELS, (LABELS + 1) % 3)
    rows[np.arange(10), predicted] = confidence
    return rows.astype(np.float32)


class Script:
    """Validation that follows a script: one number of right answers, or a whole answer, per epoch."""

    def __init__(self, *epochs: int | np.ndarray) -> None:
        self.epochs, self.n_asked = list(epochs), 0

    def __call__(self) -> np.ndarray:
        answer = self.epochs[self.n_asked]
        self.n_asked += 1
        return answers(answer) if isinstance(answer, int) else answer


def callback_for(task: Task, path: Path, script: Any, **more: Any) -> tuple[RunCallback, Best, Listener]:
    """Return a callback over a scripted validation, its best epoch, and what its progress heard."""
    best, heard = more.pop("best", None) or Best(), Listener()
    settings = {"metric": "accuracy", "position": Position(), "labels": LABELS} | more
    return RunCallback(path, task, best, n_train=24, progress=heard, validate=script, **settings), best, heard


def trained(task: Task, path: Path, script: Any, **more: Any) -> tuple[RunCallback, Best, Listener]:
    """Run the whole loop with such a callback."""
    callback, best, heard = callback_for(task, path, script, **more)
    train_loop(task, Position(), callback, lambda: False)
    return callback, best, heard


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / folder.METRICS).read_text().splitlines()]


def test_the_best_epoch_is_the_highest_metric_then_the_lowest_loss_then_the_first(tmp_path: Path) -> None:
    script = Script(5, answers(7, 0.5), answers(7, 0.6), answers(7, 0.6), 3)
    task = make_task(epochs=5)
    states: list[dict[str, torch.Tensor]] = []
    callback, best, _ = callback_for(task, tmp_path, lambda: (states.append(weights(task.module)), script())[1])
    train_loop(task, Position(), callback, lambda: False)
    assert best.epoch == 2
    assert [row["best"] for row in rows_of(tmp_path)] == [True, True, True, False, False]
    assert best.state is not None
    assert all(torch.equal(best.state[name], states[2][name]) for name in best.state)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_the_metric_selects(tmp_path: Path, metric: str) -> None:
    always_first = np.tile(np.float32([0.9, 0.05, 0.05]), (10, 1))  # right on the common class alone
    labels = np.array([0] * 8 + [1, 2])
    fair = np.full((10, 3), 0.1, np.float32)
    fair[np.arange(10), [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]] = 0.8
    _, best, _ = trained(make_task(epochs=2), tmp_path, Script(fair, always_first), labels=labels, metric=metric)
    assert best.epoch == (1 if metric == "accuracy" else 0)


def test_a_row_says_what_the_epoch_was(tmp_path: Path) -> None:
    task = make_task(schedule="linear", epochs=2, scales=[1.0, 0.5])
    callback, _, heard = trained(task, tmp_path, Script(5, 8))
    first, second = rows_of(tmp_path)
    assert [first["epoch"], second["epoch"]] == [1, 2]
    assert first["lr"] == pytest.approx(0.1 * (1 - 3 / 8))
    assert (first["val_accuracy"], second["val_accuracy"]) == (0.5, 0.8)
    assert first["val_loss"] == pytest.approx(-np.mean(np.log([0.8] * 5 + [0.1] * 5)), rel=1e-6)
    assert 0 <= first["train_accuracy"] <= 1
    assert min(first["train_loss"], second["train_loss"]) > 0
    assert set(first) == {
        "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1",
        "wall_s", "images_per_s", "best",
    }  # fmt: skip
    assert callback.n_done == 48
    assert heard.news[0] == ("training", 0, 48, "")
    assert heard.news[-1][:3] == ("training", 48, 48)
    assert heard.news[-1][3].startswith("epoch 2/2  loss ")
    assert heard.news[-1][3].endswith("val 80.0%")


def test_copies_count_once(tmp_path: Path) -> None:
    copies = np.array([0, 1, 2, 3, 4, 5, 5, 5, 5, 5])  # the last five are one picture
    trained(make_task(epochs=1), tmp_path, Script(5), copies=copies)
    assert rows_of(tmp_path)[0]["val_accuracy"] == pytest.approx(5 / 6)


@pytest.mark.parametrize(("which", "loss"), [("training", float("nan")), ("training", float("inf")), ("validation", None)])
def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path, which: str, loss: float | None) -> None:
    task = make_task(epochs=1)
    script = Script(np.full((10, 3), np.nan, np.float32)) if loss is None else Script(5)
    if loss is not None:
        plain = task.loss
        task.loss = lambda logits, targets: plain(logits, targets) * 0 + loss
        task.optimizer.nonfinite = "ignore"
    with pytest.raises(TrainingError, match=rf"the {which} loss must stay finite in epoch 1.*Lower the learning rate"):
        trained(task, tmp_path, script)
    assert not (tmp_path / folder.METRICS).exists()


def test_checkpoints_come_soon_and_then_at_their_cadence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock[0])
    saved: list[float] = []
    monkeypatch.setattr(checkpoint, "save", lambda *given: saved.append(clock[0]))
    callback, _, _ = callback_for(make_task(), tmp_path, Script())
    for seconds in (1.0, 2.5, 3.0, 22.0, 32.0, 33.0, 60.0, 63.5):
        clock[0] = 100.0 + seconds
        callback.after_step(Position(step=1, n_seen=1))
    assert saved == [102.5, 133.0, 163.5]


def test_decisions_are_told_once_and_when_they_are_made(tmp_path: Path) -> None:
    task = make_task(schedule="plateau(patience=0, gamma=0.1, monitor=val_metric, threshold=0.01)", epochs=5)
    callback, _, heard = trained(task, tmp_path, Script(5, 5, 5, 5, 5))
    decided = callback.decisions()
    assert decided
    told = [line for line in heard.lines if "after epoch" in line]
    assert told == [f"  {item['what']} after epoch {item['epoch']}: {item['why']}" for item in decided]
    assert rows_of(tmp_path)[-1]["lr"] < 0.1
    assert task.history is not None
    assert task.history.val_metric == (0.5,) * 5


def test_a_schedule_that_does_not_listen_decides_nothing(tmp_path: Path) -> None:
    callback, _, _ = trained(make_task(epochs=1), tmp_path, Script(5))
    assert callback.decisions() == []


def test_a_resumed_callback_knows_the_epochs_before(tmp_path: Path) -> None:
    schedule = "plateau(patience=0, gamma=0.1, monitor=val_metric, threshold=0.01)"
    whole = make_task(schedule=schedule, epochs=4)
    told, _, _ = trained(whole, tmp_path, Script(5, 5, 5, 5))
    kept = rows_of(tmp_path)[:2]
    (tmp_path / folder.METRICS).write_text("".join(json.dumps(row) + "\n" for row in kept))
    again = make_task(schedule=schedule, epochs=4)
    callback, _, heard = callback_for(again, tmp_path, Script(5, 5), position=Position(epoch=2))
    train_loop(again, Position(epoch=2), callback, lambda: False)
    assert callback.decisions() == told.decisions()
    assert len([line for line in heard.lines if "after epoch" in line]) == len(told.decisions()) - len(
        [item for item in told.decisions() if item["epoch"] <= 2]
    )
    assert heard.news[0] == ("training", 0, 48, "")


def test_early_stopping_ends_and_keeps_the_first_of_equals(tmp_path: Path) -> None:
    task = make_task(epochs=9, regularizers=[EarlyStopping(patience=2)])
    _, best, heard = trained(task, tmp_path, Script(5, 8, answers(8, 0.9), 7, 3))
    assert len(rows_of(tmp_path)) == 4
    assert best.epoch == 1, "the first of equals, whatever the loss"
    assert "  stopped early after epoch 4: no gain on the validation split" in heard.lines


def test_early_stopping_without_restoring_keeps_the_last(tmp_path: Path) -> None:
    _, best, _ = trained(
        make_task(epochs=4, regularizers=[EarlyStopping(patience=2, restore=False)]), tmp_path, Script(8, 5, 5, 5)
    )
    assert best.epoch == 2


def test_early_stopping_watches_its_metric_and_the_run_selects_by_its_own(tmp_path: Path) -> None:
    task = make_task(epochs=5, regularizers=[EarlyStopping(patience=1, metric="loss")])
    _, best, _ = trained(task, tmp_path, Script(answers(7, 0.6), answers(9, 0.4), answers(9, 0.4)))
    rows = rows_of(tmp_path)
    assert rows[1]["val_loss"] > rows[0]["val_loss"]
    assert len(rows) == 2, "the loss rose, so training ends"
    assert best.epoch == 1, "though by --metric, the accuracy, the second epoch is the better"


def test_averaged_weights_are_validated_with_statistics_of_their_own_and_training_goes_on_with_the_old(tmp_path: Path) -> None:
    norm = nn.BatchNorm1d(N_INPUTS)
    task = make_task(seeded_module(norm, nn.Linear(N_INPUTS, N_CLASSES)), rule="ema(sgd(lr=0.5), decay=0.9)", epochs=1)
    seen: list[dict[str, torch.Tensor]] = []
    script = Script(5)
    callback, best, _ = callback_for(task, tmp_path, lambda: (seen.append(weights(task.module)), script())[1])
    train_loop(task, Position(), callback, lambda: False)
    after = weights(task.module)
    assert not torch.equal(seen[0]["1.weight"], after["1.weight"])
    assert not torch.equal(seen[0]["0.running_mean"], after["0.running_mean"])
    assert best.state is not None
    assert torch.equal(best.state["0.running_mean"], seen[0]["0.running_mean"])


def test_snapshots_are_offered_from_the_beginning_to_the_end(tmp_path: Path) -> None:
    task = make_task(epochs=9, regularizers=[EarlyStopping(patience=1)])
    trained(task, tmp_path, Script(5, 4, 4), snapshots=Snapshots(tmp_path, 3, 9))
    assert sorted(path.name for path in (tmp_path / folder.SNAPSHOTS).iterdir()) == ["0000.safetensors", "0002.safetensors"]


def test_keep_best_only_selects() -> None:
    task, best = make_task(epochs=3), Best()
    scores = [{"accuracy": accuracy, "loss": 1.0} for accuracy in (0.2, 0.6, 0.4)]
    select = KeepBest(best, lambda: scores.pop(0), task.module, "accuracy")  # pyright: ignore[reportArgumentType] (a part of a score)
    train_loop(task, Position(), select, lambda: False)
    assert (best.epoch, best.metric) == (1, 0.6)


def test_a_source_is_read_once_per_epoch(tmp_path: Path) -> None:
    source = FakeSource()
    trained(make_task(source=source, epochs=2), tmp_path, Script(5, 6))
    assert source.begun == [(0, 0), (1, 0)]

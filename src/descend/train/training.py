"""The second of three steps: train what was prepared, from the beginning or from the last checkpoint."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from descend.errors import TrainingError
from descend.train import checkpoint, evaluate, folder
from descend.train.callbacks import RunCallback
from descend.train.checkpoint import Best
from descend.train.estimate import rehearse, spoken
from descend.train.interrupt import graceful
from descend.train.loop import Position, train_loop
from descend.train.prepare import TrainingSetup
from descend.train.snapshots import Snapshots


@dataclass(frozen=True)
class TrainingResult:
    """A training that has ended, or was interrupted. best: the epoch that selection preferred. finished: not interrupted."""

    setup: TrainingSetup
    folder: Path
    best: Best
    finished: bool


def train(setup: TrainingSetup, *, restore: bool = False) -> TrainingResult:
    """Train until the last epoch, early stopping or Ctrl-C; the run folder holds a checkpoint and a line per epoch.

    restore: go on from the folder's checkpoint. Raises TrainingError where the loss is not finite.
    """
    task, log = setup.mode_task.task, setup.log
    assert log.folder is not None  # a log that writes has one since ``prepare``
    frozen = setup.mode_task.frozen() if setup.mode_task.frozen else None
    position, best = _restored(setup, log.folder) if restore else (Position(), Best())
    if (position.epoch, position.step) == (0, 0):
        train_head_first(setup)
    _estimate(setup, position)
    started = time.perf_counter()
    with log.timed("train"), graceful() as interrupt:
        callback = _callback(setup, log.folder, position, best)
        position = train_loop(task, position, callback, lambda: bool(interrupt))
    log.record.decisions = callback.decisions()
    callback.save(position)  # of a finished run too: it holds the last epoch beside the best
    _note_throughput(setup, callback.n_done, time.perf_counter() - started)
    _check_frozen(setup, frozen)
    return TrainingResult(setup, log.folder, best, position.epoch >= task.epochs)


def train_head_first(setup: TrainingSetup) -> None:
    """Do what the mode does before its first epoch, if anything."""
    if setup.mode_task.head_first is None:
        return
    setup.progress.say("training the head first, on cached features")
    with setup.log.timed("head first"):
        setup.mode_task.head_first()


def _restored(setup: TrainingSetup, run: Path) -> tuple[Position, Best]:
    """Restore the checkpoint, if there is one; metrics of epochs after it (a crash) are dropped, they come again."""
    task = setup.mode_task.task
    saved, lines = run / folder.CHECKPOINT, run / folder.METRICS
    if saved.exists():
        position, best = checkpoint.load(saved, task.module, task.optimizer)
        setup.progress.say(f"going on in epoch {position.epoch + 1}, step {position.step + 1}")
    else:
        position, best = Position(), Best()
    rows = folder.read_lines(lines)[: position.epoch]
    folder.write_text(lines, "".join(json.dumps(row) + "\n" for row in rows))
    return position, best


def _estimate(setup: TrainingSetup, position: Position) -> None:
    """Measure how long the rest will take, and say it."""
    task, log = setup.mode_task.task, setup.log
    with log.timed("estimate"):
        done = (position.epoch + position.step / task.source.n_steps) / task.epochs
        log.record.estimate_s = rehearse(task, len(setup.dataset.indices("val"))) * (1 - done)
    setup.progress.say(f"training {task.epochs} epochs: about {spoken(log.record.estimate_s)}")


def _callback(setup: TrainingSetup, run: Path, position: Position, best: Best) -> RunCallback:
    mode_task, plan, val = setup.mode_task, setup.plan, setup.dataset.indices("val")
    return RunCallback(
        run, mode_task.task, best, plan.metric, len(setup.dataset.indices("train")), setup.progress,
        lambda: evaluate.probabilities(mode_task.task.module, mode_task.inputs(val)), setup.dataset.labels[val], position,
        Snapshots(run, plan.snapshots, plan.epochs) if plan.snapshots else None, setup.dataset.copies(val),
    )  # fmt: skip


def _note_throughput(setup: TrainingSetup, n_trained: int, wall_s: float) -> None:
    """Note pictures per second: of computing features where that was the work, else of training."""
    record, extraction = setup.log.record, setup.extraction
    record.rate_of = "features" if extraction.n_computed and setup.plan.transfer == "features" else "training"
    n, wall = (extraction.n_computed, extraction.wall_s) if record.rate_of == "features" else (n_trained, wall_s)
    record.images_per_s = round(n / max(wall, 1e-9), 1)


def _check_frozen(setup: TrainingSetup, before: str | None) -> None:
    if before is None or setup.mode_task.frozen is None:
        return
    after = setup.mode_task.frozen()
    setup.log.record.frozen = {"before": before, "after": after, "norm": setup.plan.norm}
    if before != after:
        raise TrainingError("training", "must leave every frozen parameter and buffer as it was",
                            got=f"{before} -> {after}", fix="This is a fault of descend: please report it.")  # fmt: skip

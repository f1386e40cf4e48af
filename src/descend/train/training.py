"""The second of three steps: train what was prepared, from the beginning or from the last checkpoint."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from descend.durations import duration
from descend.errors import TrainingError
from descend.train import checkpoint, evaluate, folder, metrics
from descend.train.callbacks import RunCallback
from descend.train.checkpoint import Best
from descend.train.estimate import rehearse
from descend.train.interrupt import graceful
from descend.train.loop import Position, Task, train_loop
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
    if task is None:
        return _fitted(setup, log.folder)
    frozen = setup.mode_task.frozen() if setup.mode_task.frozen else None
    position, best = _restored(setup, task, log.folder) if restore else (Position(), Best())
    if (position.epoch, position.step) == (0, 0):
        train_head_first(setup)
        _offer_start(setup, best)
    _estimate(setup, task, position)
    started = time.perf_counter()
    with log.timed("train"), graceful() as interrupt:
        callback = _callback(setup, task, log.folder, position, best)
        position = train_loop(task, position, callback, lambda: bool(interrupt))
    log.record.decisions = callback.decisions()
    callback.save(position)  # of a finished run too: it holds the last epoch beside the best
    _note_throughput(setup, callback.n_done, time.perf_counter() - started)
    _check_frozen(setup, frozen)
    return TrainingResult(setup, log.folder, best, position.epoch >= task.epochs)


def _fitted(setup: TrainingSetup, run: Path) -> TrainingResult:
    """Fit the head in one go, and write down what was tried."""
    log, fit, frozen = setup.log, setup.mode_task.fit, setup.mode_task.frozen
    assert fit is not None  # a mode task without a task has one
    assert frozen is not None  # and a backbone that stands still
    before = frozen()
    setup.progress.say("fitting the head to its optimum")
    with log.timed("train"):
        head = fit()
    log.record.head_trials = head.trials
    best = next((trial for trial in head.trials if trial["chosen"]), None)
    plan = setup.plan
    if best is not None:
        told = f"{best['accuracy']:.1%} right in cross-validation, strength {best['strength']:.2g}"
        setup.progress.say(f"  features ({head.feature_stages}): {told}")
    if plan.feature_stages == "auto":
        plan = plan.decided("feature_stages", head.feature_stages, "the lower loss in cross-validation")
    if log.record.preprocessing is not None:
        log.record.preprocessing["taps"] = list(setup.classifier.backbone.taps)
    log.write_plan(plan)
    setup = replace(setup, plan=plan, mode_task=replace(setup.mode_task, module=head.module, inputs=head.inputs))
    _note_throughput(setup, len(setup.dataset.indices("train")), log.record.wall_s["train"])
    _check_frozen(setup, before)
    return TrainingResult(setup, run, Best(), finished=True)


def train_head_first(setup: TrainingSetup) -> None:
    """Do what the mode does before its first epoch, if anything."""
    if setup.mode_task.head_first is None:
        return
    setup.progress.say("training the head first, on cached features")
    with setup.log.timed("head first"):
        setup.mode_task.head_first()


def _offer_start(setup: TrainingSetup, best: Best) -> None:
    """Let the state before the first epoch be a candidate, where a head was prepared: training must not end below it."""
    if setup.mode_task.head_first is None:
        return
    val = setup.dataset.indices("val")
    probs = evaluate.probabilities(setup.mode_task.module, setup.mode_task.inputs(val))
    start = metrics.score(probs, setup.dataset.labels[val], copies=setup.dataset.copies(val))
    best.offer(-1, start[setup.plan.metric], start["loss"], setup.mode_task.module)
    setup.progress.say(f"  before the first epoch: {start['accuracy']:.1%} right on the validation split")


def _restored(setup: TrainingSetup, task: Task, run: Path) -> tuple[Position, Best]:
    """Restore the checkpoint, if there is one; metrics of epochs after it (a crash) are dropped, they come again."""
    saved, lines = run / folder.CHECKPOINT, run / folder.METRICS
    if saved.exists():
        position, best = checkpoint.load(saved, task.module, task.optimizer)
        setup.progress.say(f"going on in epoch {position.epoch + 1}, step {position.step + 1}")
    else:
        position, best = Position(), Best()
    rows = folder.read_lines(lines)[: position.epoch]
    folder.write_text(lines, "".join(json.dumps(row) + "\n" for row in rows))
    return position, best


def _estimate(setup: TrainingSetup, task: Task, position: Position) -> None:
    """Measure how long the rest will take, and say it."""
    log = setup.log
    with log.timed("estimate"):
        done = (position.epoch + position.step / task.source.n_steps) / task.epochs
        log.record.estimate_s = rehearse(task, len(setup.dataset.indices("val"))) * (1 - done)
    setup.progress.say(f"training {task.epochs} epochs: about {duration(log.record.estimate_s, estimated=True)}")


def _callback(setup: TrainingSetup, task: Task, run: Path, position: Position, best: Best) -> RunCallback:
    mode_task, plan, val = setup.mode_task, setup.plan, setup.dataset.indices("val")
    return RunCallback(
        run, task, best, plan.metric, len(setup.dataset.indices("train")), setup.progress,
        lambda: evaluate.probabilities(mode_task.module, mode_task.inputs(val)), setup.dataset.labels[val], position,
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

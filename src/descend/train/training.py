"""The second of three steps: train what was prepared, from the beginning or from the last checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from descend import rng
from descend.durations import duration
from descend.errors import TrainingError
from descend.findings import counted
from descend.train import checkpoint, evaluate, folder, initial_run, metrics
from descend.train.callbacks import RunCallback
from descend.train.checkpoint import Best
from descend.train.estimate import rehearse
from descend.train.failure import with_location
from descend.train.interrupt import Interrupt, Interrupted, graceful
from descend.train.loop import Position, Task, train_loop
from descend.train.memory_need import LARGE, in_gb, refuse_too_much, step_bytes
from descend.train.nonfinite import MOST_ROLLBACKS, Rollback, notes
from descend.train.prepare import TrainingSetup
from descend.train.recipe import FEATURE_SETS
from descend.train.run_log import RunLog
from descend.train.run_manifest import digest_of
from descend.train.snapshots import Snapshots
from descend.transfer import OutOfFold


@dataclass(frozen=True)
class TrainingResult:
    """A training that has ended, or was interrupted. best: the epoch that selection preferred. finished: not interrupted.

    folder: of the run; None in a process that does not lead. position: where it stopped. failure: the error that ended it, told
    in full, or None. held_out: the answers of folds on the training pictures, where they were asked for.
    """

    setup: TrainingSetup
    folder: Path | None
    best: Best
    finished: bool
    position: Position = field(default_factory=Position)
    failure: Exception | None = None
    held_out: OutOfFold | None = None


def train(setup: TrainingSetup, *, restore: bool = False) -> TrainingResult:
    """Train until the last epoch, early stopping, Ctrl-C or an error; the run folder holds a checkpoint and a line per epoch.

    restore: go on from the folder's checkpoint. An error in the loop is not raised but stands in the result, so that the best
    epoch so far can be saved first. Of several processes all come through here; those that do not lead have no folder.
    """
    task, log, world = setup.mode_task.task, setup.log, setup.world
    assert log.folder is not None or not world.leads  # a log that writes has one since ``prepare``
    if task is None:
        return _fitted(setup) if world.leads else TrainingResult(setup, None, Best(), finished=True)
    frozen = setup.mode_task.frozen() if setup.mode_task.frozen else None
    rollback = Rollback() if setup.plan.on_nan == "rollback" else None
    task.optimizer.nonfinite = "skip" if setup.plan.on_nan == "skip" else "error"
    with _own_generator(setup.plan.seed, world.rank):
        position, best = _restored(setup, task, log.folder, rollback) if restore and log.folder else (Position(), Best())
        position = world.told(position)
        if (position.epoch, position.step) == (0, 0):
            begun = log.record.init
            if begun is None or begun["head"] != "whole":  # else it is what the other run has made of it
                train_head_first(setup)
            if world.leads:
                _offer_start(setup, best)
        with graceful() as interrupt:  # from here on there is a state to keep: what training begins with may have been judged
            _agree(task, rollback)
            if world.leads:
                with torch.random.fork_rng(devices=checkpoint.gpus_of(task.module)):
                    _estimate(setup, task, position)
            if rollback is not None and rollback.state is None:
                rollback.keep(position, task)
            started = time.perf_counter()
            with log.timed("train"):
                callback = _callback(setup, task, log.folder, position, best, rollback, interrupt)
                failure = _looped(setup, task, callback, interrupt)
    position = callback.position
    log.record.decisions = callback.decisions()
    n_rollbacks = 0 if rollback is None else rollback.n
    log.record.notes = (
        initial_run.notes(log.record.init)
        + notes(callback.train_losses, len(setup.dataset.classes), n_dropped=position.n_dropped, n_rollbacks=n_rollbacks)
        + _kept_start(best, position.epoch)
    )
    _vouch_for_metrics(log)
    _note_throughput(setup, callback.n_done, time.perf_counter() - started)
    if failure is None:
        _check_frozen(setup, frozen)
    finished = failure is None and position.epoch >= task.epochs
    if finished and log.folder is not None:
        checkpoint.forget_previous(log.folder)
    return TrainingResult(setup, log.folder, best, finished, position, failure)


def _vouch_for_metrics(log: RunLog) -> None:
    """Note the digest of the metrics; what the record vouches for must not be lost with the power."""
    if log.folder is not None and (lines := log.folder / folder.METRICS).exists():
        folder.flush_lines(lines)
        log.record.metrics_digest = digest_of(lines)


@contextmanager
def _own_generator(seed: int, rank: int) -> Iterator[None]:
    """Let torch's CPU generator begin from ``seed``, and leave it as it was: layers of one's own may draw from it.

    rank: of this process; each has draws of its own, for it has other pictures.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.integer_seed(seed, f"training/process{rank}" if rank else "training"))
        yield


def _agree(task: Task, rollback: Rollback | None) -> None:
    """Let all processes begin from the state of the one that leads: it alone has read a checkpoint, or fitted a head."""
    world = task.world
    world.same_weights(task.module)
    if world.size == 1:
        return
    state = world.told(task.optimizer.state_dict())
    kept = world.told(None if rollback is None else vars(rollback))
    if world.leads:
        return
    task.optimizer.load_state_dict(state)
    if rollback is not None:
        vars(rollback).update(kept or {})
        rollback.apply_rate(task)


def _looped(setup: TrainingSetup, task: Task, callback: RunCallback, interrupt: Interrupt) -> Exception | None:
    """Run the loop, and save where it ends; after each error that a rollback may help, again. Returns the error that ended it."""
    position = callback.position
    while True:
        try:
            callback.position = position = train_loop(task, position, callback, lambda: bool(interrupt))
            callback.save(position)  # of a finished run too: it holds the last epoch beside the best
        except Interrupted:  # while the epoch was validated: that comes again
            callback.save(callback.position)
            return None
        except Exception as error:  # whatever it is, the best epoch so far must not be lost
            if task.world.lost(error) is not None:  # the others end now, and so does this one: the last checkpoint has it
                raise
            if error is callback.foreign:
                return error
            if not task.world.leads and not isinstance(error, TrainingError):  # its own: the others wait for it in vain, and end
                raise
            back = callback.rollback.go_back(task) if isinstance(error, TrainingError) and callback.rollback else None
            if back is None:
                return with_location(error, setup.plan, task, callback.position)
            setup.progress.say(_rolled_back(callback, error))
            callback.went_back(back)
            position = back
        else:
            return None


def _rolled_back(callback: RunCallback, error: Exception) -> str:
    """Return the line that tells a rollback."""
    assert callback.rollback is not None  # it has just been used
    at, n = callback.position, callback.rollback.n
    where = f"the end of epoch {at.epoch}" if at.epoch else "the beginning"
    what = str(error).partition(".")[0]
    return f"  epoch {at.epoch + 1}: {what}: back to {where} with half the learning rate ({n} of {MOST_ROLLBACKS})"


def _fitted(setup: TrainingSetup) -> TrainingResult:
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
        setup.progress.say(f"  features {head.feature_stages} ({FEATURE_SETS[head.feature_stages]}): {told}")
    if plan.feature_stages == "auto":
        plan = plan.decided("feature_stages", head.feature_stages, "the lower loss in cross-validation")
    if log.record.preprocessing is not None:
        log.record.preprocessing["taps"] = list(setup.classifier.backbone.taps)
    log.write_plan(plan)
    setup = replace(setup, plan=plan, mode_task=replace(setup.mode_task, module=head.module, inputs=head.inputs))
    _note_throughput(setup, len(setup.dataset.indices("train")), log.record.wall_s["train"])
    _check_frozen(setup, before)
    return TrainingResult(setup, log.folder, Best(), finished=True, held_out=head.held_out)


def train_head_first(setup: TrainingSetup) -> None:
    """Do what the mode does before its first epoch, if anything."""
    if setup.mode_task.head_first is None:
        return
    setup.progress.say("training the head first, on cached features")
    with setup.log.timed("head first"):
        setup.mode_task.head_first()


def _offer_start(setup: TrainingSetup, best: Best) -> None:
    """Let the state before the first epoch be a candidate, where a head was prepared or another run gave the weights.

    Training must not end below it.
    """
    if setup.mode_task.head_first is None and setup.log.record.init is None:
        return
    val = setup.dataset.indices("val")
    probs = evaluate.probabilities(setup.mode_task.module, setup.mode_task.inputs(val))
    start = metrics.score(probs, setup.dataset.labels[val], copies=setup.dataset.copies(val))
    best.offer(-1, start[setup.plan.metric], start["loss"], setup.mode_task.module)
    setup.progress.say(f"  before the first epoch: {start['accuracy']:.1%} right on the validation split")


def _kept_start(best: Best, n_epochs: int) -> list[str]:
    """Return the note of a training whose epochs brought nothing; else the curves would seem to contradict the score."""
    if best.state is None or best.epoch >= 0 or n_epochs == 0:
        return []
    trained = "The one epoch was not" if n_epochs == 1 else f"None of the {n_epochs} epochs was"
    return [
        f"{trained} better on validation than the state before the first, so that state was kept. "
        "A lower learning rate or more epochs may help."
    ]


def _restored(setup: TrainingSetup, task: Task, run: Path, rollback: Rollback | None) -> tuple[Position, Best]:
    """Restore the checkpoint, if there is one, and the metrics of its epochs; those after it (a crash) come again."""
    lines = run / folder.METRICS
    rows: list[Any] = folder.read_lines(lines)
    if folder.has_checkpoint(run):
        path = run / folder.CHECKPOINT
        position, best = checkpoint.load(path, task.module, task.optimizer, rollback, rows, setup.progress)
        if rollback is not None:
            rollback.apply_rate(task)
        setup.progress.say(f"going on in epoch {position.epoch + 1}, step {position.step + 1}")
    else:
        position, best = Position(), Best()
    folder.write_text(lines, "".join(json.dumps(row) + "\n" for row in rows[: position.epoch]))
    return position, best


def _estimate(setup: TrainingSetup, task: Task, position: Position) -> None:
    """Measure how long the rest will take and how much memory a step needs, and say it. Raises TrainingError for too much."""
    log, batch = setup.log, next(iter(task.source.epoch(0)))
    if batch.share is not None and len(batch.ids) < 2:  # alone, batch norms cannot learn from one picture of a batch
        setup.progress.say(f"training {counted(task.epochs, 'epoch', 'epochs')}")
        return
    with log.timed("estimate"):
        need = log.record.memory_bytes = step_bytes(task, batch)
        if need is not None:
            refuse_too_much(need, setup.plan)
        done = (position.epoch + position.step / task.source.n_steps) / task.epochs
        log.record.estimate_s = rehearse(task, len(setup.dataset.indices("val"))) * (1 - done)
    memory = f", {in_gb(need)} of memory or more" if need is not None and need >= LARGE else ""
    epochs = counted(task.epochs, "epoch", "epochs")
    setup.progress.say(f"training {epochs}: about {duration(log.record.estimate_s, estimated=True)}{memory}")


def _callback(
    setup: TrainingSetup,
    task: Task,
    run: Path | None,
    position: Position,
    best: Best,
    rollback: Rollback | None,
    interrupt: Interrupt,
) -> RunCallback:
    mode_task, plan, val = setup.mode_task, setup.plan, setup.dataset.indices("val")

    def validate() -> NDArray[np.float32]:
        return setup.world.answers(
            val, lambda rows: evaluate.probabilities(mode_task.module, interrupt.watched(mode_task.inputs(rows)))
        )

    return RunCallback(
        run, task, best, plan.metric, len(setup.dataset.indices("train")), setup.progress,
        validate, setup.dataset.labels[val], position,
        Snapshots(run, plan.snapshots, plan.epochs) if plan.snapshots and run else None, setup.dataset.copies(val), rollback,
        setup.log.each_epoch, plan.checkpoint_every,
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

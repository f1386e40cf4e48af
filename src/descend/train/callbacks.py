"""What the loop calls during a run: validation and selection, metrics, checkpoints, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from descend.errors import DivergenceError
from descend.percentages import percent
from descend.progress import Progress
from descend.regularize import EarlyStopping, batch_norms, reestimate_batch_norm, statistics_kept
from descend.schedule import History
from descend.train import checkpoint, folder, metrics
from descend.train.cadence import Cadence
from descend.train.checkpoint import Best
from descend.train.loop import Position, Task
from descend.train.nonfinite import Rollback
from descend.train.record_types import Decision, EpochRow, Metric, Score
from descend.train.snapshots import Snapshots

STATISTICS_BATCHES = 20  # that batch norms of averaged weights are measured on; more changes their third digit


OnEpoch = Callable[[dict[str, Any]], object]
"""Takes the row of an epoch, as ``metrics.jsonl`` holds it (``EpochRow``); what it returns is ignored."""


class KeepBest:
    """A callback that only selects: after each epoch ``judge`` gives the score of the module as it is."""

    def __init__(self, best: Best, judge: Callable[[], Score], module: nn.Module, metric: Metric) -> None:
        self.best, self.judge, self.module, self.metric = best, judge, module, metric

    def after_step(self, position: Position) -> None:
        """Do nothing."""

    def after_epoch(self, position: Position, lr: float) -> bool:
        """Offer the epoch."""
        del lr
        score = self.judge()
        self.best.offer(position.epoch, score[self.metric], score["loss"], self.module)
        return True


class RunCallback:
    """Validates after each epoch, keeps the best, appends to metrics.jsonl, saves checkpoints and tells the progress.

    validate: returns the validation probabilities (n, K). path: the run folder; None in a process that writes nothing, beside the
    one that leads: it decides the same from the same numbers. snapshots: None where no states are kept. copies: (n,) int64, which
    validation pictures are the same one, or None where all differ. rollback: keeps every good epoch; None where training never
    goes back to one. on_epoch: takes a copy of each epoch's row; ``foreign`` is the error that it has raised.
    every: the cadence of checkpoints, as in ``Cadence``.

    ``position`` is where training stands: after an error, the step or the end of the epoch that failed.
    """

    def __init__(
        self, path: Path | None, task: Task, best: Best, metric: Metric, n_train: int, progress: Progress,
        validate: Callable[[], NDArray[np.float32]], labels: NDArray[np.int64], position: Position,
        snapshots: Snapshots | None = None, copies: NDArray[np.int64] | None = None, rollback: Rollback | None = None,
        on_epoch: OnEpoch | None = None, every: str | None = None,
    ) -> None:  # fmt: skip
        self.path, self.task, self.best, self.metric = path, task, best, metric
        self.n_train, self.progress, self.validate, self.labels = n_train, progress, validate, labels
        self.rows: list[Any] = task.world.told(
            [] if path is None else folder.read_lines(path / folder.METRICS)
        )  # of a resumed run
        self.snapshots, self.copies, self.rollback, self.position = snapshots, copies, rollback, position
        self.on_epoch, self.foreign = on_epoch, None
        self.history = {name: [row[f"val_{name}"] for row in self.rows] for name in ("loss", *get_args(Metric))}
        self.train_losses = [row["train_loss"] for row in self.rows]
        self._update_history()
        if snapshots is not None and (position.epoch, position.step) == (0, 0):
            snapshots.offer(0, task.module)
        self.n_done = 0
        self._note = ""
        self._total = n_train * (task.epochs - position.epoch) - position.n_seen
        self._before = position.n_seen
        self._epoch_started, self._seen_before = time.perf_counter(), position.n_seen  # before a resumed epoch was stopped
        self._cadence = Cadence(every, task.module)
        progress.update("training", 0, self._total)

    def after_step(self, position: Position) -> None:
        """Tell the progress, and save a checkpoint when one is due."""
        self.position = position
        self.n_done += position.n_seen - self._before
        self._before = position.n_seen
        self.progress.update("training", self.n_done, self._total, self._note)
        if self._cadence.due():
            self.save(position)

    def after_epoch(self, position: Position, lr: float) -> bool:
        """Measure on the validation split, keep the best epoch, write a line of metrics; stop early if asked to."""
        self.position = position
        loss = _finite(_mean_loss(position), position.epoch, "training")
        with self.task.optimizer.evaluation_weights(), self._averaged_statistics(position.epoch):
            score = metrics.score(self.validate(), self.labels, copies=self.copies)
            _finite(score["loss"], position.epoch, "validation")
            better = self._select(position.epoch, score)
        self._append_metrics(position, lr, loss, score, better)
        self.progress.update("training", self.n_done, self._total, self._note)
        self.train_losses.append(loss)
        stops = any(rule.should_stop(self.history, self.metric) for rule in self.task.regularizers)
        if self.snapshots is not None:
            self.snapshots.offer(position.epoch + 1, self.task.module, last=stops)
        n_known = len(self.decisions())
        self._update_history()
        for decision in self.decisions()[n_known:]:
            self.progress.say(f"  {decision['what']} after epoch {decision['epoch']}: {decision['why']}")
        if stops and position.epoch + 1 < self.task.epochs:
            self.progress.say(f"  stopped early after epoch {position.epoch + 1}: no gain on the validation split")
        self.position = position.next_epoch()
        if self.rollback is not None:
            self.rollback.keep(self.position, self.task)
        if self.on_epoch is not None:
            self._call(self.on_epoch, replace(self.position, epoch=self.task.epochs) if stops else self.position)
        return not stops

    def went_back(self, position: Position) -> None:
        """Learn that training went back to ``position``: the pictures of the epoch that failed come again."""
        self._total += self._before
        self._before, self.position, self._epoch_started = 0, position, time.perf_counter()
        self._seen_before = position.n_seen

    def decisions(self) -> list[Decision]:
        """Return what the schedule decided from the finished epochs: epoch, what, why. Empty if it needs no history."""
        schedule, history = self.task.schedule, self.task.history
        return [] if history is None else [Decision(**asdict(decision)) for decision in schedule.decisions(history)]

    def save(self, position: Position) -> None:
        """Save a checkpoint of this position."""
        if self.path is None:
            return
        path, task = self.path / folder.CHECKPOINT, self.task
        with self._cadence.writing():
            checkpoint.save(path, task.module, task.optimizer, position, self.best, self.rollback, self.rows)

    def _call(self, on_epoch: OnEpoch, position: Position) -> None:
        """Give the epoch's row to its owner; where that fails the epoch is kept, and the error says whose it is."""
        try:
            on_epoch(dict(self.rows[-1]))
        except Exception as error:
            self.save(position)
            self.foreign = error
            error.add_note(f"  raised by on_epoch, given the row of epoch {self.rows[-1]['epoch']}")
            error.add_note(f"  nothing is lost: descend.resume({str(self.path)!r}) goes on after that epoch")
            raise
        self._epoch_started, self._seen_before = time.perf_counter(), 0

    def _append_metrics(self, position: Position, lr: float, loss: float, score: Score, better: bool) -> None:
        """Write the epoch's line, and start the clock of the next."""
        wall = time.perf_counter() - self._epoch_started
        row = EpochRow(
            epoch=position.epoch + 1, lr=lr, train_loss=loss, train_accuracy=int(position.n_right) / position.n_seen,
            val_loss=score["loss"], val_accuracy=score["accuracy"], val_balanced_accuracy=score["balanced_accuracy"],
            val_macro_f1=score["macro_f1"], wall_s=wall, images_per_s=(position.n_seen - self._seen_before) / wall,
            best=better,
        )  # fmt: skip
        if self.path is not None:
            folder.append_line(self.path / folder.METRICS, row)
        self.rows.append(row)
        self._note = (
            f"epoch {position.epoch + 1}/{self.task.epochs}  loss {loss:.3f}  val {percent(score[self.metric], score['n'])}"
        )
        self._before = 0
        self._epoch_started = time.perf_counter()

    def _update_history(self) -> None:
        """Give the schedule the history of all epochs so far, if it needs one."""
        if self.task.schedule.needs_history():
            self.task.history = History(
                n_epochs=self.task.epochs,
                train_loss=tuple(self.train_losses),
                val_loss=tuple(self.history["loss"]),
                val_metric=tuple(self.history[self.metric]),
            )

    @contextmanager
    def _averaged_statistics(self, epoch: int) -> Iterator[None]:
        """Give averaged weights batch-norm statistics of their own while the block runs: the old ones belong to other weights."""
        if not (self.task.optimizer.averages and any(batch_norms(self.task.module))):
            yield
            return
        with statistics_kept(self.task.module):
            reestimate_batch_norm(self.task.module, self._inputs_of_all(epoch))
            yield

    def _inputs_of_all(self, epoch: int) -> Iterator[Tensor]:
        """Yield the inputs of an epoch's first batches; what reads one takes its statistics from all processes' parts of it."""
        for batch in islice(self.task.source.epoch(epoch), STATISTICS_BATCHES):
            with self.task.world.synchronized(batch.share):
                yield batch.inputs

    def _select(self, epoch: int, score: Score) -> bool:
        """Keep this epoch's weights if selection prefers them; early stopping keeps the first of equals, or the last epoch."""
        for name, values in self.history.items():
            values.append(score[name])
        stopping = [rule for rule in self.task.regularizers if isinstance(rule, EarlyStopping)]
        if not stopping:
            return self.best.offer(epoch, score[self.metric], score["loss"], self.task.module)
        chosen = stopping[0].chosen_epoch(self.history, self.metric)
        if chosen is not None and self.best.epoch < 0:  # what training began with stays a candidate
            return self.best.offer(epoch, score[self.metric], score["loss"], self.task.module)
        better = chosen in (epoch, None)  # None: the last weights are the result
        if better:
            self.best.take(epoch, score[self.metric], score["loss"], self.task.module)
        return better


def _mean_loss(position: Position) -> float:
    """Return the mean training loss of an epoch, nats. Raises DivergenceError where every step of it was dropped."""
    if not position.n_seen:
        raise DivergenceError("training", f"must have a step with finite gradients in epoch {position.epoch + 1}", got=0,
                              fix="Lower the learning rate, for example --optimizer \"adamw(lr=0.0003)\".")  # fmt: skip
    return float(position.loss_sum) / position.n_seen


def _finite(loss: float, epoch: int, which: str) -> float:
    if not math.isfinite(loss):
        raise DivergenceError("training", f"the {which} loss must stay finite in epoch {epoch + 1}", got=loss,
                              fix="Lower the learning rate, for example --optimizer \"adamw(lr=0.0003)\".")  # fmt: skip
    return loss

"""What listens to the loop during a run: validation and selection, metrics, checkpoints, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import TrainingError
from descend.regularize import EarlyStopping, batch_norms, reestimate_batch_norm, statistics_kept
from descend.schedule import History
from descend.train import checkpoint, folder, metrics
from descend.train.checkpoint import Best
from descend.train.loop import Job, Position
from descend.train.progress import Progress
from descend.train.snapshots import Snapshots

CHECKPOINT_EVERY_S = 20.0  # writing costs little, repeating an hour costs an hour
FIRST_CHECKPOINT_S = 2.0
STATISTICS_BATCHES = 20  # that batch norms of averaged weights are measured on; more changes their third digit


class RunWatcher:
    """Validates after each epoch, keeps the best, appends to metrics.jsonl, saves checkpoints and tells the progress.

    validate: returns the validation probabilities (n, K). path: the run folder. snapshots: None where no states are kept.
    """

    def __init__(
        self, path: Path, job: Job, best: Best, metric: str, n_train: int, progress: Progress,
        validate: Callable[[], NDArray[np.float32]], labels: NDArray[np.int64], at: Position,
        snapshots: Snapshots | None = None,
    ) -> None:  # fmt: skip
        self.path, self.job, self.best, self.metric = path, job, best, metric
        self.n_train, self.progress, self.validate, self.labels = n_train, progress, validate, labels
        rows = folder.read_lines(path / folder.METRICS)  # of a resumed run
        self.snapshots = snapshots
        self.history = {name: [row[f"val_{name}"] for row in rows] for name in {"accuracy", "loss", metric}}
        self._train_losses = [row["train_loss"] for row in rows]
        self._hear()
        if snapshots is not None and (at.epoch, at.step) == (0, 0):
            snapshots.offer(0, job.module)
        self.n_done = 0
        self._note = ""
        self._total = n_train * (job.epochs - at.epoch) - at.n_seen
        self._before = at.n_seen
        self._epoch_started = time.perf_counter()
        self._saved = self._epoch_started - CHECKPOINT_EVERY_S + FIRST_CHECKPOINT_S
        progress.update("training", 0, self._total)

    def after_step(self, at: Position) -> None:
        """Tell the progress, and save a checkpoint when the last one is old."""
        self.n_done += at.n_seen - self._before
        self._before = at.n_seen
        self.progress.update("training", self.n_done, self._total, self._note)
        if time.perf_counter() - self._saved > CHECKPOINT_EVERY_S:
            self.save(at)

    def after_epoch(self, at: Position, rate: float) -> bool:
        """Measure on the validation split, keep the best epoch, write a line of metrics; stop early if asked to."""
        loss = _finite(float(at.loss_sum) / at.n_seen, at.epoch, "training")
        with self.job.optimizer.evaluation_weights(), self._own_statistics(at.epoch):  # some rules train here and answer there
            score = metrics.score(self.validate(), self.labels)
            _finite(score["loss"], at.epoch, "validation")
            better = self._select(at.epoch, score)
        wall = time.perf_counter() - self._epoch_started
        row: dict[str, Any] = {
            "epoch": at.epoch + 1,
            "lr": rate,
            "train_loss": loss,
            "train_accuracy": int(at.n_right) / at.n_seen,
        }
        row |= {f"val_{name}": score[name] for name in ("loss", *metrics.NAMES)}
        folder.append_line(self.path / folder.METRICS, row | {"wall_s": wall, "images_per_s": at.n_seen / wall, "best": better})
        self._note = f"epoch {at.epoch + 1}/{self.job.epochs}  loss {loss:.3f}  val {score[self.metric]:.2%}"
        self._before = 0
        self._epoch_started = time.perf_counter()
        self._train_losses.append(loss)
        stops = any(rule.should_stop(self.history) for rule in self.job.regularizers)
        if self.snapshots is not None:
            self.snapshots.offer(at.epoch + 1, self.job.module, last=stops)
        known = len(self.decisions())
        self._hear()
        for decision in self.decisions()[known:]:
            self.progress.say(f"  {decision['what']} after epoch {decision['epoch']}: {decision['why']}")
        if stops and at.epoch + 1 < self.job.epochs:
            self.progress.say(f"  stopped early after epoch {at.epoch + 1}: no gain on the validation split")
        return not stops

    def decisions(self) -> list[dict[str, Any]]:
        """Return what the schedule decided from the finished epochs: epoch, what, why. Empty if it does not listen."""
        schedule, history = self.job.schedule, self.job.history
        return [] if history is None else [asdict(decision) for decision in schedule.decisions(history)]

    def _hear(self) -> None:
        """Tell the schedule, if it listens, of all epochs so far."""
        if self.job.schedule.listens():
            self.job.history = History(
                n_epochs=self.job.epochs,
                train_loss=tuple(self._train_losses),
                val_loss=tuple(self.history["loss"]),
                val_metric=tuple(self.history[self.metric]),
            )

    @contextmanager
    def _own_statistics(self, epoch: int) -> Iterator[None]:
        """Give averaged weights batch-norm statistics of their own while the block runs: the old ones belong to other weights."""
        if not (self.job.optimizer.averages and any(batch_norms(self.job.module))):
            yield
            return
        with statistics_kept(self.job.module):
            batches = islice(self.job.feed.epoch(epoch), STATISTICS_BATCHES)
            reestimate_batch_norm(self.job.module, (fed.inputs for fed in batches))
            yield

    def _select(self, epoch: int, score: dict[str, Any]) -> bool:
        """Keep this epoch's weights if selection prefers them; early stopping brings a selection of its own."""
        for name, values in self.history.items():
            values.append(score[name])
        stopping = [rule for rule in self.job.regularizers if isinstance(rule, EarlyStopping)]
        if not stopping:
            return self.best.offer(epoch, score[self.metric], score["loss"], self.job.module)
        better = stopping[-1].chosen_epoch(self.history) in (epoch, None)  # None: the last weights are the result
        if better:
            self.best.take(epoch, score[self.metric], score["loss"], self.job.module)
        return better

    def save(self, at: Position) -> None:
        """Save a checkpoint of this position."""
        checkpoint.save(self.path / folder.CHECKPOINT, self.job.module, self.job.optimizer, at, self.best)
        self._saved = time.perf_counter()


def _finite(loss: float, epoch: int, which: str) -> float:
    if not math.isfinite(loss):
        raise TrainingError("training", f"the {which} loss must stay finite in epoch {epoch + 1}", got=loss,
                            fix="Lower the learning rate, for example --optimizer \"adamw(lr=0.0003)\".")  # fmt: skip
    return loss

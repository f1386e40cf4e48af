"""The training loop, on one screen. Techniques plug in at named moments; none rewrites another's data.

    for every epoch, for every batch:
        set the rate            schedule.factor(progress) x each group's own rate
        forward, loss           random layers learn their coordinates from rng.context
        backward, step          optimizer
        after_step              penalties that act on the weights (proximal L1, max-norm), with the rate
        watcher.after_step      progress, checkpoint
    watcher.after_epoch         validation, selection, metrics, early stopping

Order, masks and augmentation are functions of (seed, epoch, step, sample), so a loop that starts again at ``Position``
continues bit for bit where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend import rng
from descend.optim import Optimizer
from descend.regularize import Regularizer
from descend.schedule import Schedule


@dataclass(frozen=True)
class Fed:
    """One batch, ready for the module: ``targets`` are labels (B,) int64 or soft targets (B, K) float32."""

    ids: NDArray  # (B,) int64 sample ids
    inputs: Tensor  # (B, ...) whatever the module reads
    targets: Tensor
    step: int  # within the epoch


class Feed(Protocol):
    """Where batches come from: pictures through augmentation, or cached features."""

    n_steps: int  # a whole epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Fed]:
        """Yield the batches of an epoch from step ``start`` on."""
        ...


@dataclass
class Position:
    """Where the loop stands: the next step to take, and the sums of the epoch so far (they make its training metrics)."""

    epoch: int = 0
    step: int = 0
    n_seen: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    n_right: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))

    def advance(self, fed: Fed, logits: Tensor, loss: Tensor) -> None:
        """Count one step that was taken. Nothing here waits for the device."""
        labels = fed.targets if fed.targets.ndim == 1 else fed.targets.argmax(1)
        self.step, self.n_seen = fed.step + 1, self.n_seen + len(labels)
        self.loss_sum = self.loss_sum.to(loss.device) + loss.detach().double() * len(labels)
        self.n_right = self.n_right.to(loss.device) + (logits.detach().argmax(1) == labels).sum()

    def next_epoch(self) -> Position:
        """Return the start of the next epoch."""
        return Position(self.epoch + 1)


class Watcher(Protocol):
    """What listens to the loop."""

    def after_step(self, at: Position) -> None:
        """Called when a step has been taken; ``at.step`` is the next one."""
        ...

    def after_epoch(self, at: Position, rate: float) -> bool:
        """Called when an epoch is complete, with the last base learning rate; returns whether training goes on."""
        ...


@dataclass
class Job:
    """All that one training needs: what is trained, on what, by which rule."""

    module: nn.Module
    feed: Feed
    optimizer: Optimizer
    schedule: Schedule
    loss: Callable[[Tensor, Tensor], Tensor]
    epochs: int
    regularizers: Sequence[Regularizer] = ()

    def set_rate(self, epoch: int, step: int) -> float:
        """Set every group's learning rate for this step; returns the base rate (that of a group with lr_scale 1)."""
        factor = self.schedule.factor((epoch * self.feed.n_steps + step) / (self.epochs * self.feed.n_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return self.optimizer.rule.lr * factor


def train(job: Job, at: Position, watcher: Watcher, interrupted: Callable[[], bool]) -> Position:
    """Run the job from ``at`` to its end, or until ``interrupted`` is true after a step. Returns where it stopped."""
    parameters = dict(job.module.named_parameters())
    while at.epoch < job.epochs:
        job.module.train()
        rate = job.set_rate(at.epoch, max(at.step - 1, 0))  # where a resumed epoch has no step left
        for fed in job.feed.epoch(at.epoch, at.step):
            rate = job.set_rate(at.epoch, fed.step)
            with rng.context(at.epoch, fed.step, fed.ids):
                logits = job.module(fed.inputs)
            loss = job.loss(logits, fed.targets)
            job.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            job.optimizer.step()
            for technique in job.regularizers:
                technique.after_step(parameters, rate)
            at.advance(fed, logits, loss)
            watcher.after_step(at)
            if interrupted():
                return at
        at = at.next_epoch() if watcher.after_epoch(at, rate) else Position(job.epochs)
    return at

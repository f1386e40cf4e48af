"""The training loop, on one screen. Techniques plug in at named moments; none rewrites another's data.

    for every epoch, for every batch:
        set the rate            schedule.factor(progress, what was history) x each group's own rate
        forward, loss           random layers learn their coordinates from rng.context; penalties on activations join the loss
        backward, step          gradient stages, optimizer; a rule that needs a second gradient calls the closure again
        after_step              penalties that act on the weights (proximal L1, max-norm), with the rate, if the weights moved
        watcher.after_step      progress, checkpoint
    flush                       an accumulation window that the epoch's end cut short
    watcher.after_epoch         validation, selection, metrics, early stopping; schedules that listen hear of it

Order, masks and augmentation are functions of (seed, epoch, step, sample), so a loop that starts again at ``Position``
continues bit for bit where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend import rng
from descend.optim import Optimizer
from descend.regularize import Regularizer, statistics_kept
from descend.schedule import History, Schedule


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
    history: History | None = None  # the finished epochs, for schedules that listen

    def set_rate(self, epoch: int, step: int) -> float:
        """Set every group's learning rate for this step; returns the base rate (that of a group with lr_scale 1)."""
        factor = self.schedule.factor((epoch * self.feed.n_steps + step) / (self.epochs * self.feed.n_steps), self.history)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return self.optimizer.rule.lr * factor

    def step(self, epoch: int, fed: Fed) -> tuple[Tensor, Tensor]:
        """Take one step on a batch; returns the logits (B, K) and the mean loss, both of the first forward pass."""
        passes: list[tuple[Tensor, Tensor]] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            with rng.context(epoch, fed.step, fed.ids):  # a second pass sees the same masks
                logits = self.module(fed.inputs)
            passes.append((logits, self.loss(logits, fed.targets)))
            extra = [term for item in self.regularizers if (term := item.extra_loss(self.module)) is not None]
            total = sum(extra, passes[-1][1])
            total.backward()
            return total

        if self.optimizer.needs_closure:
            self.optimizer.step(_counting_once(self.module, closure))
        else:
            closure()
            self.optimizer.step()
        return passes[0]

    def settle(self, parameters: Mapping[str, Tensor], rate: float) -> None:
        """Let the techniques that act on weights have their turn, if the last step moved any."""
        if self.optimizer.moved:
            for technique in self.regularizers:
                technique.after_step(parameters, rate)


def _counting_once(module: nn.Module, closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Return ``closure`` that lets batch norms learn from its first call only: a second pass is of the same pictures."""
    calls = 0

    def counted() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:
            return closure()
        with statistics_kept(module):
            return closure()

    return counted


def train(job: Job, at: Position, watcher: Watcher, interrupted: Callable[[], bool]) -> Position:
    """Run the job from ``at`` to its end, or until ``interrupted`` is true after a step. Returns where it stopped."""
    parameters = dict(job.module.named_parameters())
    while at.epoch < job.epochs:
        job.module.train()
        rate = job.set_rate(at.epoch, max(at.step - 1, 0))  # where a resumed epoch has no step left
        for fed in job.feed.epoch(at.epoch, at.step):
            rate = job.set_rate(at.epoch, fed.step)
            logits, loss = job.step(at.epoch, fed)
            job.settle(parameters, rate)
            at.advance(fed, logits, loss)
            watcher.after_step(at)
            if interrupted():
                return at
        if job.optimizer.flush():
            job.settle(parameters, rate)
        at = at.next_epoch() if watcher.after_epoch(at, rate) else Position(job.epochs)
    return at

"""The training loop, on one screen. Techniques plug in at named moments; none rewrites another's data.

    for every epoch, for every batch:
        set the rate            schedule.factor(progress, history) x each group's own rate
        forward, loss           random layers learn their coordinates from rng.context; penalties on activations join the loss;
                                of several processes each runs its part of the batch, and all take the loss of the whole
        backward, step          gradient stages, optimizer; a rule that needs a second gradient calls the closure again
        after_step              penalties that act on the weights (proximal L1, max-norm), with the rate, if the weights moved
        callback.after_step     progress, checkpoint
    flush                       an accumulation window that the epoch's end cut short
    callback.after_epoch        validation, selection, metrics, early stopping; the history that some schedules need grows

Order, masks and augmentation are functions of (seed, epoch, step, sample), so a loop that starts again at ``Position``
continues bit for bit where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend import rng
from descend.optim import Optimizer
from descend.regularize import Regularizer, statistics_kept
from descend.schedule import History, Schedule
from descend.train.world import ALONE, Share, World
from descend.transfer import quick_gradients


@dataclass(frozen=True)
class Batch:
    """One batch, ready for the module: ``targets`` are labels (B,) int64 or soft targets (B, K) float32.

    share: which rows of the whole batch these are, where several processes have one each; None: all.
    """

    ids: NDArray  # (B,) int64 sample ids
    inputs: Tensor  # (B, ...) whatever the module reads
    targets: Tensor
    step: int  # within the epoch
    share: Share | None = None


class Taken(NamedTuple):
    """What came of a step: logits (B, K), mean loss and targets, of the whole batch, whoever computed them."""

    logits: Tensor
    loss: Tensor
    targets: Tensor


class BatchSource(Protocol):
    """Where batches come from: images through augmentation, or cached features."""

    n_steps: int  # of a whole epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
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
    n_dropped: int = 0  # steps of the whole run

    def advance(self, batch: Batch, logits: Tensor, loss: Tensor, targets: Tensor) -> None:
        """Count one step that was taken. Nothing here waits for the device."""
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        exact = torch.float32 if loss.device.type == "mps" else torch.float64  # which Apple's GPUs do not have
        self.step, self.n_seen = batch.step + 1, self.n_seen + len(labels)
        self.loss_sum = self.loss_sum.to(loss.device, exact) + loss.detach().to(exact) * len(labels)
        self.n_right = self.n_right.to(loss.device) + (logits.detach().argmax(1) == labels).sum()

    def drop(self, batch: Batch) -> None:
        """Count one step that was dropped: its pictures are not part of the epoch's training metrics."""
        self.step, self.n_dropped = batch.step + 1, self.n_dropped + 1

    def next_epoch(self) -> Position:
        """Return the start of the next epoch."""
        return Position(self.epoch + 1, n_dropped=self.n_dropped)


class Callback(Protocol):
    """What the loop calls after every step and every epoch."""

    def after_step(self, position: Position) -> None:
        """Called when a step has been taken; ``position.step`` is the next one."""
        ...

    def after_epoch(self, position: Position, lr: float) -> bool:
        """Called when an epoch is complete, with the last base learning rate; returns whether training goes on."""
        ...


@dataclass
class Task:
    """All that one training needs: what is trained, on what, by which rule, and by which processes."""

    module: nn.Module
    source: BatchSource
    optimizer: Optimizer
    schedule: Schedule
    loss: Callable[[Tensor, Tensor], Tensor]
    epochs: int
    regularizers: Sequence[Regularizer] = ()
    history: History | None = None  # the finished epochs, for schedules that need them
    rate_factor: float = 1.0  # of every learning rate, beside the schedule's: below 1 after a rollback
    world: World = ALONE
    quick: nn.Module | None = None  # computes the same as ``module`` from the same tensors in less time; not for judging

    def __post_init__(self) -> None:
        self._parallel = self.world.parallel(self.computed)
        self._gradients = quick_gradients(self.computed)

    @property
    def computed(self) -> nn.Module:
        """What a step calls."""
        return self.module if self.quick is None else self.quick

    def set_lr(self, epoch: int, step: int) -> float:
        """Set every group's learning rate for this step; returns the base rate (that of a group with lr_scale 1)."""
        progress = (epoch * self.source.n_steps + step) / (self.epochs * self.source.n_steps)
        factor = self.schedule.factor(progress, self.history) * self.rate_factor
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return self.optimizer.rule.lr * factor

    def step(self, epoch: int, batch: Batch) -> Taken:
        """Take one step on a batch; returns what came of the first forward pass."""
        passes: list[Taken] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            with (
                rng.context(epoch, batch.step, batch.ids),  # a second pass sees the same masks
                self._gradients,
                self.world.synchronized(batch.share),
            ):
                logits = self._parallel(batch.inputs)
            logits, targets = self.world.joined(logits, batch.targets, batch.share)
            passes.append(Taken(logits, self.loss(logits, targets), targets))
            extra = [term for item in self.regularizers if (term := item.extra_loss(self.module)) is not None]
            total = sum(extra, passes[-1].loss)
            total.backward()
            return total

        if self.optimizer.needs_closure:
            self.optimizer.step(_updating_statistics_once(self.module, closure))
        else:
            closure()
            self.optimizer.step()
        return passes[0]

    def step_or_drop(self, epoch: int, batch: Batch) -> Taken | None:
        """Take one step as ``step`` does; None, with nothing changed, where the optimizer skips gradients that are not finite."""
        skips, n_skipped = self.optimizer.nonfinite == "skip", self.optimizer.skipped
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()] if skips else []
        result = self.step(epoch, batch)
        if self.optimizer.skipped == n_skipped:
            return result
        for buffer, before in buffers:  # batch norms have looked at the batch
            buffer.copy_(before)
        return None

    def regularize_weights(self, parameters: Mapping[str, Tensor]) -> None:
        """Let the techniques that act on weights have their turn, if the last step moved any: each group's with its own rate."""
        acting = [item for item in self.regularizers if type(item).after_step is not Regularizer.after_step]
        if not (acting and self.optimizer.moved):
            return
        rates, by_rate = self.optimizer.learning_rates(), dict[float, dict[str, Tensor]]()
        for name, parameter in parameters.items():
            if parameter in rates:  # what the optimizer does not move is left alone
                by_rate.setdefault(rates[parameter], {})[name] = parameter
        for technique in acting:
            for lr, moved in by_rate.items():
                technique.after_step(moved, lr)


def _updating_statistics_once(module: nn.Module, closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Return ``closure`` that lets batch norms learn from its first call only: a second pass is of the same images."""
    calls = 0

    def counted() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:
            return closure()
        with statistics_kept(module):
            return closure()

    return counted


def train_loop(task: Task, position: Position, callback: Callback, interrupted: Callable[[], bool]) -> Position:
    """Run the task from ``position`` to its end, or until ``interrupted`` is true after a step. Returns where it stopped."""
    parameters = dict(task.module.named_parameters())
    while position.epoch < task.epochs:
        task.module.train()
        task.computed.train()
        lr = task.set_lr(position.epoch, max(position.step - 1, 0))  # where a resumed epoch has no step left
        for batch in task.source.epoch(position.epoch, position.step):
            lr = task.set_lr(position.epoch, batch.step)
            taken = task.step_or_drop(position.epoch, batch)
            if taken is None:
                position.drop(batch)
            else:
                task.regularize_weights(parameters)
                position.advance(batch, *taken)
            callback.after_step(position)
            if task.world.any(interrupted()):
                return position
        if task.optimizer.flush():
            task.regularize_weights(parameters)
        position = (
            position.next_epoch() if callback.after_epoch(position, lr) else replace(position.next_epoch(), epoch=task.epochs)
        )
    return position

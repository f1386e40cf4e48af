"""When losses or gradients stop being numbers: going back to the last good epoch, and what to say about it.

``--on-nan`` chooses: ``stop`` keeps the best epoch so far, ``skip`` drops the step (``Task.step_or_drop``), ``rollback`` goes
back to the last good epoch with half the learning rate, three times at most.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from descend.train.loop import Position, Task

MOST_ROLLBACKS = 3
RATE_FACTOR = 0.5  # of the learning rate, at every rollback
N_WORST = 3
FAR_ABOVE = 2.0  # times the first epoch's loss, or that of guessing


@dataclass
class Rollback:
    """The state at the end of the last good epoch, and how often training has gone back to one.

    It is part of the checkpoint, so that a resumed run goes back to the same state. state: module, optimizer, position.
    """

    n: int = 0
    state: dict[str, Any] | None = None

    def keep(self, position: Position, task: Task) -> None:
        """Remember the task's state as good; ``position`` is the beginning of the epoch that comes."""
        saved = {"module": task.module.state_dict(), "optimizer": task.optimizer.state_dict(), "position": vars(position)}
        self.state = copy.deepcopy(saved)

    def apply_rate(self, task: Task) -> None:
        """Let the task go on with the rate that is left after ``n`` rollbacks."""
        task.rate_factor = RATE_FACTOR**self.n

    def go_back(self, task: Task) -> Position | None:
        """Restore the last good state into the task, with half the rate; None where that was done often enough."""
        if self.state is None or self.n >= MOST_ROLLBACKS:
            return None
        self.n += 1
        state = copy.deepcopy(self.state)
        task.module.load_state_dict(state["module"])
        task.optimizer.load_state_dict(state["optimizer"])
        self.apply_rate(task)
        return Position(**state["position"])


def largest_gradients(module: nn.Module) -> str:
    """Return the gradient norms of the worst layers as text, those that are not finite first; empty without gradients."""
    norms = {
        name: float(torch.linalg.vector_norm(parameter.grad.double()))
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    worst = sorted(norms, key=lambda name: -norms[name] if math.isfinite(norms[name]) else -math.inf)
    return ", ".join(f"{name} {norms[name]:.3g}" for name in worst[:N_WORST])


def notes(train_losses: Sequence[float], n_classes: int, *, n_dropped: int, n_rollbacks: int) -> list[str]:
    """Return what the end of a training must tell: steps that were dropped, rollbacks, a loss that grew.

    train_losses: mean training loss per epoch, nats.
    """
    told: list[str] = []
    if n_dropped:
        told.append(f"{n_dropped:,} step{'s were' if n_dropped > 1 else ' was'} dropped: the gradients were not finite.")
    if n_rollbacks:
        times = f"{n_rollbacks} time{'s' * (n_rollbacks > 1)}"
        told.append(
            f"Training went back to the last good epoch {times} and ended with {RATE_FACTOR**n_rollbacks:g} of the learning rate."
        )
    guessing = math.log(n_classes)
    if len(train_losses) > 1 and train_losses[-1] > max(FAR_ABOVE * train_losses[0], guessing):
        told.append(
            f"Training diverged: the training loss rose from {train_losses[0]:.3g} in the first epoch to {train_losses[-1]:.3g} "
            "in the last, worse than guessing. Lower the learning rate."
        )
    elif train_losses and train_losses[-1] > FAR_ABOVE * guessing:  # it exploded in the first epoch
        told.append(
            f"Training diverged: the training loss is {train_losses[-1]:.3g} in the last epoch, "
            f"and that of guessing {guessing:.3g}. Lower the learning rate."
        )
    return told

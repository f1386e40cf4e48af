"""Stand-ins for what feeds a training and what listens to it, so that the parts of the loop can be tested one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from descend.optim import Optimizer
from descend.optim.chain import chain_of
from descend.regularize import Regularizer
from descend.schedule import Schedule
from descend.technique import build
from descend.train.loop import Batch, Position, Task

N_CLASSES, N_INPUTS = 3, 5


class FakeSource:
    """Batches made from (epoch, step) alone: ``n_steps`` of ``size`` rows."""

    def __init__(self, n_steps: int = 4, size: int = 6, *, soft: bool = False) -> None:
        self.n_steps, self.size, self.soft = n_steps, size, soft
        self.begun: list[tuple[int, int]] = []

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        self.begun.append((epoch, start))
        for step in range(start, self.n_steps):
            yield self.batch(epoch, step)

    def batch(self, epoch: int, step: int) -> Batch:
        generator = torch.Generator().manual_seed(1000 * epoch + step)
        inputs = torch.randn(self.size, N_INPUTS, generator=generator)
        labels = torch.randint(N_CLASSES, (self.size,), generator=generator)
        targets = nn.functional.one_hot(labels, N_CLASSES).float() if self.soft else labels
        return Batch(np.arange(self.size) + 100 * step, inputs, targets, step)


class Recorder:
    """A callback that only remembers; ``on`` decides whether training goes on after an epoch."""

    def __init__(self, on: Callable[[int], bool] = lambda epoch: True) -> None:
        self.on = on
        self.steps: list[tuple[int, int]] = []
        self.epochs: list[tuple[int, float]] = []

    def after_step(self, position: Position) -> None:
        self.steps.append((position.epoch, position.step))

    def after_epoch(self, position: Position, lr: float) -> bool:
        self.epochs.append((position.epoch, lr))
        return self.on(position.epoch)


class Listener:
    """A progress listener that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.news: list[tuple[str, int, int, str]] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.news.append((stage, done, total, note))


def seeded_module(*layers: nn.Module) -> nn.Module:
    """Return a linear classifier, or ``layers`` in a chain, with weights from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(*layers) if layers else nn.Linear(N_INPUTS, N_CLASSES)
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)
    return module


def make_task(
    module: nn.Module | None = None,
    *,
    rule: str = "sgd(lr=0.1)",
    schedule: str | Schedule = "constant",
    source: Any = None,
    epochs: int = 2,
    gradients: Sequence[str] = (),
    regularizers: Sequence[Regularizer] = (),
    scales: Sequence[float] = (),
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Task:
    """Return a small task. scales: lr_scale of each parameter, a group each."""
    module = module or seeded_module()
    parameters = [*module.parameters()]
    pairs = zip(parameters, scales or [1.0] * len(parameters), strict=True)
    groups = [{"params": [parameter], "lr_scale": scale} for parameter, scale in pairs]
    optimizer = Optimizer(groups, rule, gradients=gradients)
    for group in optimizer.param_groups:
        group["initial_lr"] = optimizer.rule.lr * group["lr_scale"]
    built = schedule if isinstance(schedule, Schedule) else build(schedule, Schedule)
    return Task(module, source or FakeSource(), optimizer, built, loss, epochs, regularizers)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def weights_and_slots(optimizer: Optimizer) -> list[Tensor]:
    """Return the weights of the first group, each followed by what its rule keeps of it."""
    found = []
    for parameter in optimizer.param_groups[0]["params"]:
        slots = optimizer.state[parameter]
        found += [parameter.detach(), *(slots[name] for name in chain_of(optimizer.rule).slots if name in slots)]
    return found

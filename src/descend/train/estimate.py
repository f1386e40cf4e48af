"""How long it will take, measured on this machine before it begins: a rehearsal on copies, so nothing real moves."""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn

from descend import rng
from descend.errors import KnobError
from descend.train.loop import Task
from descend.transfer import quick_gradients

REHEARSALS = 3
VALIDATION = 0.4  # of a training step's time, for each batch judged: forward without backward


def rehearse(task: Task, n_val: int) -> float:
    """Return the expected seconds of the task's epochs: a few steps on a copy of the module, and the validation after each.

    n_val: pictures in the validation split.
    """
    batch = next(iter(task.source.epoch(0)))
    started = time.perf_counter()
    next(iter(task.source.epoch(0)))
    feeding = time.perf_counter() - started
    module = copy.deepcopy(task.computed).train()
    walls: list[float] = []
    gradients = quick_gradients(module)
    for _ in range(REHEARSALS):
        started = time.perf_counter()
        with rng.context(0, 0, batch.ids), gradients:
            task.loss(tried(module, batch.inputs), batch.targets).backward()
        if batch.inputs.device.type == "cuda":
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - started)
    # the optimizer's share is estimated, a rehearsal must not take a step:
    step = task.optimizer.n_gradients * min(walls) * 1.15 + feeding
    judged = n_val / max(1, len(batch.ids)) * min(walls) * VALIDATION
    return task.epochs * (task.source.n_steps * step + judged)


def tried(module: nn.Module, inputs: Tensor) -> Tensor:
    """Call the module; a batch too small for its batch norms is a setting to be changed, not a crash."""
    try:
        return module(inputs)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise KnobError("batch_size", "must be larger: batch normalization cannot learn from one value", got=len(inputs),
                        fix="Raise --batch-size or --size.") from None  # fmt: skip

"""How long it will take, measured on this machine before it begins: a rehearsal on copies, so nothing real moves."""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn

from descend import rng
from descend.errors import KnobError
from descend.train.loop import Job

REHEARSALS = 3
VALIDATION = 0.4  # of a training step's time, for each batch judged: forward without backward


def rehearse(job: Job, n_val: int) -> float:
    """Return the expected seconds of the job's epochs: a few steps on a copy of the module, and the validation after each.

    n_val: pictures in the validation split.
    """
    fed = next(iter(job.feed.epoch(0)))
    started = time.perf_counter()
    next(iter(job.feed.epoch(0)))
    feeding = time.perf_counter() - started
    module = copy.deepcopy(job.module).train()
    walls: list[float] = []
    for _ in range(REHEARSALS):
        started = time.perf_counter()
        with rng.context(0, 0, fed.ids):
            job.loss(_tried(module, fed.inputs), fed.targets).backward()
        if fed.inputs.device.type == "cuda":
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - started)
    step = job.optimizer.n_gradients * min(walls) * 1.15 + feeding  # the optimizer's share, which a rehearsal must not take
    judged = n_val / max(1, len(fed.ids)) * min(walls) * VALIDATION
    return job.epochs * (job.feed.n_steps * step + judged)


def _tried(module: nn.Module, inputs: Tensor) -> Tensor:
    """Call the module; a batch too small for its batch norms is a setting to be changed, not a crash."""
    try:
        return module(inputs)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise KnobError("batch_size", "must be larger: batch normalisation cannot learn from one value", got=len(inputs),
                        fix="Raise --batch-size or --size.") from None  # fmt: skip


def spoken(seconds: float) -> str:
    """Return a duration as a person says it."""
    if seconds < 10:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 100:
        return f"{round(seconds, -1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

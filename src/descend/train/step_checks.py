"""What a plan must hold about its steps: batches that batch norms can learn from, and averages that begin within the run."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn

from descend.errors import KnobError
from descend.optim import SWA, Accumulate
from descend.optim.chain import chain_of
from descend.regularize import batch_norms
from descend.train.plan import Plan


def check_batch_size(plan: Plan, trained: Iterable[nn.Module]) -> None:
    """Refuse batches of one picture where batch norms train, in modules that are trained.

    By its own statistics a picture of a single color is normalized to nothing, whatever the color, and every picture loses its
    mean brightness; in evaluation it has them. A last batch of one does not come up: it joins the one before.
    """
    if plan.batch_size > 1 or plan.norm != "train" or not any(True for part in trained for _ in batch_norms(part)):
        return
    instead = ", or --norm eval" if "norm" in plan.settings else ""
    raise KnobError("batch_size", "must be 2 or more where batch norms train: one picture says nothing of the others",
                    got=plan.batch_size, fix=f"Raise --batch-size{instead}.")  # fmt: skip


def check_average(plan: Plan, n_batches: int) -> None:
    """Refuse an average of weights that would begin after the last step. n_batches: of an epoch."""
    window = math.prod(stage.n for stage in plan.gradients if isinstance(stage, Accumulate))
    n_steps = plan.epochs * math.ceil(n_batches / window)  # a window that the end of an epoch cuts short is a step too
    begin = max((item.begin for item in chain_of(plan.optimizer).wrappers if isinstance(item, SWA)), default=0)
    if begin > n_steps:
        raise KnobError("optimizer", f"must begin the average of swa within the run's {n_steps:,} steps, or it has no effect",
                        got=f"begin={begin}", fix="Lower begin, or leave swa out.")  # fmt: skip

"""The learning-rate range test of a run that is about to be made: through the loop that will train it, and without a trace.

Module, optimizer and their modes are what they were when it is over, to the bit; order and masks are functions of (seed, epoch,
step), so there is no generator to put back. The run folder that preparation wants is a temporary one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from descend.errors import DataError, KnobError
from descend.schedule import History, RangeTest, Schedule, Sweep
from descend.train.fit import Session, rehearsed, threads
from descend.train.loop import Job, Position, train
from descend.train.progress import Progress
from descend.train.recipe import Recipe


def find_rate(recipe: Recipe, sweep: Sweep, *, arrays: Any = None, progress: Progress) -> tuple[RangeTest, Session]:
    """Prepare the run of ``recipe`` as ``fit`` does, sweep its learning rate, and return the result and the untouched session.

    arrays: data that is no path, as for ``fit``. Nothing is written but what is cached on disk (decoded pictures, features), as
    for any run. The recipe's schedule, epochs and learning rate have no part in it.
    """
    source = recipe.data if arrays is None else arrays
    if source is None:
        raise DataError(
            "lr-find", "needs DATA: a folder, a table, or the name of a built-in set", fix="Try: descend lr-find digits"
        )
    with threads(recipe.threads):
        session = rehearsed(recipe, source, progress)
        if session.prepared.warm_up:
            progress.say("training the head first, on cached features")
            session.prepared.warm_up()
        return sweep_job(session.prepared.job, sweep, progress), session


def sweep_job(job: Job, sweep: Sweep, progress: Progress) -> RangeTest:
    """Train ``job`` for the steps of ``sweep``, each group at its own multiple of the swept rate, then put everything back."""
    lr = job.optimizer.rule.lr
    if lr == 0:
        raise KnobError("lr-find", "the optimizer must have a learning rate above 0 to scale", got=str(job.optimizer.rule))
    n_epochs = math.ceil(sweep.n_steps / job.feed.n_steps)
    listener = _Listener(sweep, progress)
    with untouched(job):
        swept = replace(job, schedule=_Rates(sweep, n_epochs * job.feed.n_steps, lr), epochs=n_epochs)
        train(swept, Position(), listener, lambda: listener.over)
    return sweep.result()


@contextmanager
def untouched(job: Job) -> Iterator[None]:
    """Put module, optimizer and modes back as they were, whatever the block does to them."""
    state = {name: value.clone() for name, value in job.module.state_dict().items()}
    optimizer = copy.deepcopy(job.optimizer.state_dict())
    modes = [(module, module.training) for module in job.module.modules()]
    try:
        yield
    finally:
        job.module.load_state_dict(state)
        job.optimizer.zero_grad(set_to_none=True)
        job.optimizer.load_state_dict(optimizer)
        for module, mode in modes:
            module.training = mode


class _Rates(Schedule):
    """The sweep as a schedule, so that the loop needs no second way to set a rate."""

    def __init__(self, sweep: Sweep, n_steps: int, lr: float) -> None:
        self.sweep, self.n_steps, self.lr = sweep, n_steps, lr

    def listen(self, progress: float, history: History | None) -> float:  # noqa: ARG002
        """Return the swept rate of this step, in units of the optimizer's own."""
        step = min(round(progress * self.n_steps), self.sweep.n_steps - 1)
        return float(self.sweep.rates[step]) / self.lr


class _Listener:
    """Tells the sweep the loss of every step."""

    def __init__(self, sweep: Sweep, progress: Progress) -> None:
        self.sweep, self.progress, self.over = sweep, progress, False
        self._n_seen, self._loss_sum, self._n_steps, self._n_pictures = 0, 0.0, 0, 0

    def after_step(self, at: Position) -> None:
        """Take the loss of the step's batch out of the epoch's sum."""
        total = float(at.loss_sum)
        self.over = not self.sweep.tell((total - self._loss_sum) / (at.n_seen - self._n_seen))
        self._n_steps, self._n_pictures = self._n_steps + 1, self._n_pictures + at.n_seen - self._n_seen
        self._n_seen, self._loss_sum = at.n_seen, total
        planned = self._n_pictures if self.over else round(self._n_pictures / self._n_steps * self.sweep.n_steps)
        self.progress.update("sweep", self._n_pictures, planned)

    def after_epoch(self, at: Position, rate: float) -> bool:
        """Begin the sums of the next epoch."""
        del at, rate
        self._n_seen, self._loss_sum = 0, 0.0
        return True

"""The learning-rate range test of a run that is about to be made: through the loop that will train it, and without a trace.

Module, optimizer and their modes are what they were when it is over, to the bit; order and masks are functions of (seed, epoch,
step), so there is no generator to put back. No run folder is made.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from descend.errors import DivergenceError, KnobError
from descend.progress import Progress
from descend.schedule import History, RangeTest, Schedule, Sweep
from descend.train.loop import Position, Task, train_loop
from descend.train.prepare import TrainingSetup, prepare, threads
from descend.train.recipe import Recipe
from descend.train.run_log import RunLog
from descend.train.training import train_head_first


def find_lr(recipe: Recipe, sweep: Sweep, *, arrays: Any = None, progress: Progress) -> tuple[RangeTest, TrainingSetup]:
    """Prepare the run of ``recipe`` as ``fit`` does, sweep its learning rate, and return the result and the untouched setup.

    arrays: data that is no path, as for ``fit``. Nothing is written but what is cached on disk (decoded pictures, features), as
    for any run. The recipe's schedule, epochs and learning rate have no part in it.
    """
    with threads(recipe.threads):
        head = recipe.head or "linear()"  # the default head of cached features knows no learning rate
        setup = prepare(replace(recipe, head=head), arrays=arrays, log=RunLog(writes=False), progress=progress, who="lr-find")
        train_head_first(setup)
        if setup.mode_task.task is None:
            raise KnobError("lr-find", "needs a head that is trained step by step", got=head, fix="Use --head linear.")
        return sweep_task(setup.mode_task.task, sweep, progress), setup


def sweep_task(task: Task, sweep: Sweep, progress: Progress) -> RangeTest:
    """Train ``task`` for the steps of ``sweep``, each group at its own multiple of the swept rate, then put everything back."""
    lr = task.optimizer.rule.lr
    if lr == 0:
        raise KnobError("lr-find", "the optimizer must have a learning rate above 0 to scale", got=str(task.optimizer.rule))
    n_epochs = math.ceil(sweep.n_steps / task.source.n_steps)
    callback = _TellSweep(sweep, progress)
    with untouched(task):
        swept = replace(task, schedule=_Rates(sweep, n_epochs * task.source.n_steps, lr), epochs=n_epochs)
        with suppress(DivergenceError):  # a gradient that is not finite: the rates before tell where that begins
            train_loop(swept, Position(), callback, lambda: callback.over)
    return sweep.result()


@contextmanager
def untouched(task: Task) -> Iterator[None]:
    """Put module, optimizer and modes back as they were, whatever the block does to them."""
    state = {name: value.clone() for name, value in task.module.state_dict().items()}
    optimizer = copy.deepcopy(task.optimizer.state_dict())
    modes = [(module, module.training) for module in task.module.modules()]
    try:
        yield
    finally:
        task.module.load_state_dict(state)
        task.optimizer.zero_grad(set_to_none=True)
        task.optimizer.load_state_dict(optimizer)
        for module, mode in modes:
            module.training = mode


class _Rates(Schedule):
    """The sweep as a schedule, so that the loop needs no second way to set a rate."""

    def __init__(self, sweep: Sweep, n_steps: int, lr: float) -> None:
        self.sweep, self.n_steps, self.lr = sweep, n_steps, lr

    def factor_at(self, progress: float, history: History | None) -> float:  # noqa: ARG002
        """Return the swept rate of this step, in units of the optimizer's own."""
        step = min(round(progress * self.n_steps), self.sweep.n_steps - 1)
        return float(self.sweep.rates[step]) / self.lr


class _TellSweep:
    """Tells the sweep the loss of every step."""

    def __init__(self, sweep: Sweep, progress: Progress) -> None:
        self.sweep, self.progress, self.over = sweep, progress, False
        self._n_seen, self._loss_sum, self._n_steps, self._n_pictures = 0, 0.0, 0, 0

    def after_step(self, position: Position) -> None:
        """Take the loss of the step's batch out of the epoch's sum."""
        total = float(position.loss_sum)
        self.over = not self.sweep.tell((total - self._loss_sum) / (position.n_seen - self._n_seen))
        self._n_steps, self._n_pictures = self._n_steps + 1, self._n_pictures + position.n_seen - self._n_seen
        self._n_seen, self._loss_sum = position.n_seen, total
        planned = self._n_pictures if self.over else round(self._n_pictures / self._n_steps * self.sweep.n_steps)
        self.progress.update("sweep", self._n_pictures, planned)

    def after_epoch(self, position: Position, lr: float) -> bool:
        """Begin the sums of the next epoch."""
        del position, lr
        self._n_seen, self._loss_sum = 0, 0.0
        return True

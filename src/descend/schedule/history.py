"""The history of a run, by which some schedules decide, and what they have decided.

Such a schedule holds no state. It decides anew from the whole history at every call, and a decision depends on nothing that
came after it, so a resumed run recomputes the decisions that the interrupted one made.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from descend.errors import KnobError, check_count

ROUNDING = 1e-9
"""Progress this close before a border has reached it: 0.3 / 0.1 is 2.9999999999999996."""

Monitor = Literal["val_loss", "train_loss", "val_metric"]


@dataclasses.dataclass(frozen=True)
class Decision:
    """One decision of a schedule. epoch: how many epochs had finished. what: the change. why: with its numbers."""

    epoch: int
    what: str
    why: str


@dataclasses.dataclass(frozen=True)
class History:
    """The history of a run so far: what its finished epochs measured.

    n_epochs: the epochs planned. train_loss, val_loss, val_metric: one number per finished epoch, in order; () for what is not
    measured. span: the part of the run that is scheduled, (0, 1) for all of it; schedules made of schedules narrow it, so that
    each part reads only its own epochs. Raises KnobError unless the numbers fit each other and the planned epochs.
    """

    n_epochs: int
    train_loss: tuple[float, ...] = ()
    val_loss: tuple[float, ...] = ()
    val_metric: tuple[float, ...] = ()
    span: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_count("history", self.n_epochs, knob="n_epochs")
        lengths = {len(values) for values in (self.train_loss, self.val_loss, self.val_metric) if values}
        if len(lengths) > 1 or max(lengths, default=0) > self.n_epochs:
            must = f"each history must hold one number per finished epoch, of {self.n_epochs} at most"
            raise KnobError("history", must, got=[len(self.train_loss), len(self.val_loss), len(self.val_metric)])

    def until(self, progress: float) -> History:
        """Return the history as of ``progress`` of the whole run; KnobError where an epoch finished by then is missing."""
        n = math.floor(progress * self.n_epochs + ROUNDING)
        if max(map(len, (self.train_loss, self.val_loss, self.val_metric))) < n:
            raise KnobError("history", f"must hold the {n} epochs that have finished at progress {progress:g}", got=self)
        return dataclasses.replace(
            self, train_loss=self.train_loss[:n], val_loss=self.val_loss[:n], val_metric=self.val_metric[:n]
        )

    def within(self, begin: float, end: float) -> History:
        """Return the history of the part from ``begin`` to ``end`` of this span."""
        low, high = self.span
        return dataclasses.replace(self, span=(low + begin * (high - low), low + end * (high - low)))

    @property
    def epochs(self) -> range:
        """The planned epochs, counted from 0, that lie within the span as a whole."""
        low, high = (border * self.n_epochs for border in self.span)
        return range(math.ceil(low - ROUNDING), min(math.floor(high + ROUNDING), self.n_epochs))

    def progress_after(self, n_finished: int) -> float:
        """Return the schedule's own progress when ``n_finished`` epochs of the run have finished."""
        low, high = self.span
        return (n_finished / self.n_epochs - low) / (high - low)

    def epoch_start(self, progress: float) -> float:
        """Return the schedule's own progress at the start of the epoch in which it is at ``progress``; not before its span."""
        low, high = self.span
        n_finished = math.floor((low + progress * (high - low)) * self.n_epochs + ROUNDING)
        return min(max(self.progress_after(n_finished), 0.0), 1.0)

    def monitored(self, monitor: Monitor, who: str) -> tuple[float, ...]:
        """Return the numbers of the span's finished epochs; KnobError where the run measures others but not these."""
        values: tuple[float, ...] = getattr(self, monitor)
        if not values and (self.train_loss or self.val_loss or self.val_metric):  # in the first epoch all are empty
            raise KnobError(who, "monitor must be something that the run measures", got=monitor)
        return values[self.epochs.start : self.epochs.stop]

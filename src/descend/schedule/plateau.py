"""Schedules that listen: reduce on plateau, and watch first, then decay.

Both are pure functions of progress and of the history that ``History`` carries. They change the rate at borders of epochs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt
from scipy.special import stdtr

from descend.errors import KnobError
from descend.schedule.history import ROUNDING, Decision, History, Monitor
from descend.schedule.shapes import Drop, Floor, Form, Schedule, fall
from descend.technique import Search, technique

TINY = 1e-12
"""A loss below this counts as this: its logarithm has to exist."""


@technique(
    "plateau", source="He et al. 2016, arXiv:1512.03385, section 3.4; the rule: torch.optim.lr_scheduler.ReduceLROnPlateau"
)
class Plateau(Schedule):
    """Multiply the rate by ``gamma`` whenever ``monitor`` has not improved for more than ``patience`` epochs.

    Prefer ``watch()``: this has no notion of noise, and what is dropped too early never comes back. To improve is to pass the
    best value so far by ``threshold``, relative to it. patience, cooldown: epochs; during the cooldown after a drop none is
    counted as bad. floor: the factor below which nothing falls. Starts after the first epoch; costs nothing.
    """

    monitor: Monitor = "val_loss"
    gamma: Drop = 0.1
    patience: Annotated[int, Ge(0), Search(1, 10)] = 3
    threshold: Annotated[float, Ge(0), Lt(1), Search(0.001, 0.1, log=True)] = 1e-4
    cooldown: Annotated[int, Ge(0), Search(1, 5)] = 0
    floor: Floor = 0.0

    def listens(self) -> bool:
        """Return True."""
        return True

    def listen(self, progress: float, history: History | None) -> float:  # noqa: ARG002 (only whole epochs count)
        """Return the factor after the drops so far."""
        return min((factor for *_, factor in self._drops(self.told_to(history))), default=1.0)

    def decisions(self, history: History) -> list[Decision]:
        """Return one decision a drop."""
        first, verb = history.epochs.start, "risen above" if self.monitor == "val_metric" else "fallen below"
        behind = f"by {self.threshold:.2%} in the last {self.patience + 1} epochs that count"
        return [
            Decision(
                epoch=first + number,
                what=f"rate drops to {factor:g} of where it began",
                why=f"{self.monitor} has not {verb} {best:.4g} {behind}",
            )
            for number, best, factor in self._drops(history)
        ]

    def _drops(self, history: History) -> Iterator[tuple[int, float, float]]:
        """Yield (epochs finished, best value so far, new factor) of every drop, in torch's order of events."""
        sign = -1.0 if self.monitor == "val_metric" else 1.0  # lower is better from here on
        best, factor, n_bad, n_cooling = math.inf, 1.0, 0, 0
        for number, value in enumerate(history.told(self.monitor, self.name), 1):
            if sign * value < sign * best - self.threshold * abs(best) or number == 1:
                best, n_bad = value, 0
            else:
                n_bad += 1
            if n_cooling:
                n_cooling, n_bad = n_cooling - 1, 0
            if n_bad > self.patience:
                n_bad, n_cooling = 0, self.cooldown
                if factor > self.floor:
                    factor = max(factor * self.gamma, self.floor)
                    yield number, best, factor


@dataclasses.dataclass(frozen=True)
class Look:
    """One test of the loss curve.

    slope: of log(loss) an epoch. p: how probable this slope or a flatter one would be if the loss still fell by ``worth`` an
    epoch. n: the epochs looked at.
    """

    slope: float
    p: float
    n: int


def fall_test(losses: tuple[float, ...], worth: float) -> Look:
    """Test whether ``losses``, one an epoch, still fall by the share ``worth`` an epoch or faster: Student's t on a line.

    The line is fitted to log(loss) by least squares, so ``worth`` is relative and scales cancel. Its p value is exact for
    independent normal residuals at a fall of ``worth``, and larger for a faster one. Source: any text on regression, for example
    Draper & Smith 1998, Applied Regression Analysis, section 1.4.
    """
    y = np.log(np.maximum(losses, TINY))
    x = np.arange(len(y)) - (len(y) - 1) / 2
    across = float(x @ x)
    slope = float(x @ y) / across
    rest = y - y.mean() - slope * x
    error = math.sqrt(float(rest @ rest) / (len(y) - 2) / across)
    excess = slope - math.log1p(-worth)
    if error <= TINY * abs(excess):  # a curve without noise says it all
        return Look(slope, 0.0 if excess > 0 else 1.0, len(y))
    return Look(slope, float(stdtr(len(y) - 2, -excess / error)), len(y))


@technique(
    "watch", source="descend; the fall at the end: Haegele et al. 2024, arXiv:2405.18392; the test: Student's t of a slope"
)
class Watch(Schedule):
    """Watch first, then decay: hold the rate until the loss has stopped to fall, then decay to the end of the run.

    Prefer it where nobody knows how long a constant rate pays: a long run is not annealed too early, a short one not too late.

    The rule. After every epoch, from the first ``window`` on, a line is fitted to log(``monitor``) over the last half of the
    epochs, ``window`` at least. The hypothesis "it still falls by the share ``worth`` an epoch or faster" is rejected when
    Student's t of the slope has a p value of ``level / looks`` or less, where ``looks`` is how often a run of this length can
    look. So with independent normal noise a run that does improve by ``worth`` an epoch is stopped by mistake with a probability
    of ``level`` at most, over all its epochs together; one that improves faster, more rarely. A noisy curve is watched longer:
    the decay then begins at ``latest``, at the last border of an epoch up to there, so that it always fits the run.

    worth: the relative gain an epoch worth waiting for. window: epochs. latest: a part of the run. floor, form: of the decay;
    ``sqrt`` is 1 - sqrt.
    Raises KnobError for a run too short to look even once.
    """

    monitor: Literal["val_loss", "train_loss"] = "val_loss"
    worth: Annotated[float, Gt(0), Lt(1), Search(0.003, 0.1, log=True)] = 0.02
    window: Annotated[int, Ge(3), Search(4, 12)] = 6
    level: Annotated[float, Gt(0), Lt(1), Search(0.01, 0.5, log=True)] = 0.1
    latest: Annotated[float, Gt(0), Lt(1), Search(0.5, 0.9)] = 0.8
    floor: Floor = 0.0
    form: Form = "linear"

    def listens(self) -> bool:
        """Return True."""
        return True

    def listen(self, progress: float, history: History | None) -> float:
        """Return 1 while watching, then the height of the fall."""
        history = self.told_to(history)
        begin = history.progress_after(history.epochs.start + _stop(self, history)[0])
        return fall(self.form, self.floor, (progress - begin) / (1 - begin)) if progress > begin else 1.0

    def decisions(self, history: History) -> list[Decision]:
        """Return the one decision, once it has been made: when the decay began, and why."""
        n, found = _stop(self, history)
        told = history.told(self.monitor, self.name)
        if len(told) < n:
            return []
        share = 1 - history.progress_after(history.epochs.start + n)
        what = (
            f"decay begins ({self.form}, over the last {share:.0%} of {'the run' if history.span == (0, 1) else 'its stretch'})"
        )
        last = found or self.look(told[:n])
        seen = f"over {last.n} epochs {self.monitor} changed by {math.expm1(last.slope):+.2%} an epoch"
        test = f"a fall of {self.worth:.2%} or more: p = {last.p:.2g}"
        bar = f"{self.level / self.n_looks(history):.2g} (level {self.level:g} over {self.n_looks(history)} looks)"
        if found:
            why = f"progress has stopped: {seen}; {test}, at most {bar}"
        else:
            why = f"the latest point, {self.latest:g} of the run: {seen}; {test}, never at most {bar}"
        return [Decision(history.epochs.start + n, what, why)]

    def look(self, told: tuple[float, ...]) -> Look:
        """Look at the last half of what was told, ``window`` epochs at least."""
        return fall_test(told[-max(self.window, len(told) // 2) :], self.worth)

    def n_looks(self, history: History) -> int:
        """Return how often it can look: after the epochs from the first ``window`` to ``latest``."""
        epochs = history.epochs
        final = sum(history.progress_after(epoch + 1) <= self.latest + ROUNDING for epoch in epochs)
        if final < self.window:
            raise KnobError(
                self.name, f"window must be at most the {final} epochs up to latest={self.latest:g}", got=self.window,
                fix=f"Train {math.ceil(self.window / self.latest)} epochs or more, or use a fixed decay such as cosine().",
            )  # fmt: skip
        return final - self.window + 1


@lru_cache(maxsize=64)  # asked at every step, answered anew once an epoch
def _stop(watch: Watch, history: History) -> tuple[int, Look | None]:
    """Return after how many of its epochs the decay begins, as far as can be said now, and the look that decided."""
    n_looks, told = watch.n_looks(history), history.told(watch.monitor, watch.name)
    final = watch.window + n_looks - 1
    for n in range(watch.window, min(len(told), final) + 1):
        found = watch.look(told[:n])
        if found.p <= watch.level / n_looks:
            return n, found
    return final, None

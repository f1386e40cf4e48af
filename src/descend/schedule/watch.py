"""Watch first, then decay: a schedule that waits for progress to stop, says why it thinks so, and may still change its mind.

A pure function of progress and of the history that ``History`` carries; the rate changes at borders of epochs until it decays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from descend.errors import KnobError
from descend.schedule.history import ROUNDING, Decision, History
from descend.schedule.shapes import Floor, Form, Schedule, fall
from descend.schedule.trend import Look, fall_test
from descend.technique import Search, technique

Event = tuple[int, Literal["seems to have stopped", "goes on", "has stopped", "latest"], Look]
"""What a look changed: after how many of the watch's own epochs, what about progress, the look."""


@technique(
    "watch",
    source="descend; the fall at the end: Haegele et al. 2024, arXiv:2405.18392; the test: Zellner & Tiao 1964, "
    "Journal of the American Statistical Association 59, 763-778",
)
class Watch(Schedule):
    """Watch first, then decay: hold the rate until the loss has stopped falling, then decay to the end of the run.

        factor = 1,  from begin on 1 - (1 - floor) u        u = (progress - begin) / (1 - begin),  by form as in wsd
        begin: the end of the first epoch at which confirm looks in a row have p <= level / (n_looks // confirm), else latest
        p: the probability of a slope of log(monitor) <= log(1 - worth)

    Prefer it where nobody knows how long a constant rate pays: a long run is not annealed too early, a short one not too late.

    The rule. After every epoch from ``earliest`` on, a line is fitted to log(``monitor``) over the last half of the epochs,
    ``window`` at least. The hypothesis "it still falls by the share ``worth`` per epoch or faster" is rejected by a test that
    allows for noise that is alike in neighboring epochs (``schedule/trend.py``). The first rejection changes nothing yet: the
    rate stays until ``confirm`` looks in a row agree, and if one of them does not, watching goes on. So it changes its mind as
    long as the rate has not fallen; afterwards nobody could tell progress from the effect of the decay.

    How often it errs. Every ``confirm`` looks in a row hold one whose number is a multiple of ``confirm``; ``level``, divided by
    how many of these a run of this length can have, is the p value that rejects. So a run that does improve by ``worth`` per
    epoch is stopped by mistake with a probability of about ``level`` at most, over all its epochs together, and one that improves
    faster more rarely: measured for normal noise whose neighbors correlate by anything up to 0.95 (``docs/schedules``). A noisy
    curve is watched longer: the decay then begins at ``latest``, at the last border of an epoch up to there, so that it always
    fits the run. A loss that is not finite says nothing.

    worth: the relative gain per epoch worth waiting for. window: epochs. earliest, latest: parts of the run. confirm: looks.
    floor, form: of the decay; ``sqrt`` is 1 - sqrt.
    Raises KnobError for a run with fewer than ``confirm`` looks, and unless earliest < latest.
    """

    monitor: Literal["val_loss", "train_loss"] = "val_loss"
    worth: Annotated[float, Gt(0), Lt(1), Search(0.003, 0.1, log=True)] = 0.02
    window: Annotated[int, Ge(3), Search(4, 12)] = 6
    level: Annotated[float, Gt(0), Lt(1), Search(0.01, 0.5, log=True)] = 0.1
    confirm: Annotated[int, Ge(1), Search(1, 5)] = 3
    earliest: Annotated[float, Ge(0), Lt(1), Search(0.1, 0.5)] = 0.4
    latest: Annotated[float, Gt(0), Lt(1), Search(0.5, 0.9)] = 0.8
    floor: Floor = 0.0
    form: Form = "linear"

    def __post_init__(self) -> None:
        if self.earliest >= self.latest:
            raise KnobError("watch", f"earliest must be smaller than latest={self.latest:g}", got=self.earliest)

    def needs_history(self) -> bool:
        """Return True."""
        return True

    def factor_at(self, progress: float, history: History | None) -> float:
        """Return 1 while watching, then the height of the fall."""
        history = self.required(history)
        events = _events(self, history)
        decided = events and events[-1][1] in ("has stopped", "latest")
        begin = history.progress_after(history.epochs.start + (events[-1][0] if decided else self.looks(history)[-1]))
        return fall(self.form, self.floor, (progress - begin) / (1 - begin)) if progress > begin else 1.0

    def decisions(self, history: History) -> list[Decision]:
        """Return what it thought of progress, when, and why: that it seems to have stopped, goes on, has stopped."""
        return [self._decision(history, *event) for event in _events(self, history)]

    def _decision(self, history: History, n: int, what: str, look: Look) -> Decision:
        epoch, n_looks = history.epochs.start + n, len(self.looks(history))
        share, whole = 1 - history.progress_after(epoch), "the run" if history.span == (0, 1) else "its stretch"
        bar = f"{self.bar(n_looks):.2g} (level {self.level:g}, {n_looks} looks, {self.confirm} in a row)"
        seen = f"over {look.n} epochs {self.monitor} changed by {math.expm1(look.slope):+.2%} per epoch"
        test = f"a fall of {self.worth:.2%} or more: p = {look.p:.2g}, noise correlated by {look.correlation:.2g}"
        if not math.isfinite(look.slope):
            seen, test = f"over {look.n} epochs {self.monitor} was not always finite", "no test"
        begins = f"decay begins ({self.form}, over the last {share:.0%} of {whole})"
        match what:
            case "seems to have stopped":
                return Decision(epoch, f"progress {what}, the rate is held", f"{seen}; {test}, at most {bar}")
            case "goes on":
                return Decision(epoch, "watching goes on", f"{seen}; {test}, not at most {bar}")
            case "has stopped":
                return Decision(epoch, begins, f"progress {what}: {seen}; {test}, at most {bar}")
            case _:
                why = f"the latest point, {self.latest:g} of the run: {seen}; {test}, never at most {bar}"
                return Decision(epoch, begins, why)

    def look(self, losses: tuple[float, ...]) -> Look:
        """Test the last half of ``losses``, one per epoch, ``window`` at least."""
        return fall_test(losses[-max(self.window, len(losses) // 2) :], self.worth)

    def bar(self, n_looks: int) -> float:
        """Return the p value at which a look rejects, in a run of so many looks."""
        return self.level / (n_looks // self.confirm)

    def looks(self, history: History) -> range:
        """Return after how many of its own epochs it looks; KnobError where fewer looks than ``confirm`` fit in."""
        epochs = history.epochs
        looks = self._looks(len(epochs), lambda n: history.progress_after(epochs.start + n))
        if len(looks) < self.confirm:
            enough = next(n for n in itertools.count(1) if len(self._looks(n, lambda k, n=n: k / n)) >= self.confirm)
            where = f"between {self.earliest:g} and {self.latest:g}, after window={self.window} epochs or more"
            raise KnobError(self.name, f"must have {self.confirm} looks {where}", got=f"{len(epochs)} epochs",
                            fix=f"Train {enough} epochs or more, or use a fixed decay such as cosine().")  # fmt: skip
        return looks

    def _looks(self, n_epochs: int, share: Callable[[int], float]) -> range:
        """Return the looks at ``n_epochs`` epochs, of which ``share`` says what part of the run has passed after n of them."""
        numbers = range(1, n_epochs + 1)
        first = 1 + sum(share(n) < self.earliest - ROUNDING for n in numbers)
        return range(max(self.window, first), 1 + sum(share(n) <= self.latest + ROUNDING for n in numbers))


@lru_cache(maxsize=64)  # asked at every step, answered anew once per epoch
def _events(watch: Watch, history: History) -> tuple[Event, ...]:
    """Return what the looks so far have changed, in order."""
    return tuple(_changes(watch, history))


def _changes(watch: Watch, history: History) -> Iterator[Event]:
    looks, losses = watch.looks(history), history.monitored(watch.monitor, watch.name)
    bar, last, n_agreeing, announced = watch.bar(len(looks)), looks[-1], 0, False
    for n in range(looks[0], min(len(losses), last) + 1):
        look = watch.look(losses[:n])
        n_agreeing = n_agreeing + 1 if look.p <= bar else 0
        if n_agreeing == watch.confirm or n == last:
            yield n, "has stopped" if n_agreeing == watch.confirm else "latest", look
            return
        if n_agreeing == 1 and n + watch.confirm - 1 <= last:  # else no time is left to confirm it
            yield n, "seems to have stopped", look
            announced = True
        elif n_agreeing == 0 and announced:
            yield n, "goes on", look
            announced = False

"""The budget's clock: how much is left of the time that the whole command may take."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from descend.progress import Progress

CLOSING_S = 3.5, 20.0  # the model, the report, the process's end: on a quiet machine, where they take 2.5, and at most
CLOSING_PER_START = 0.7
"""Of the seconds from the command to its first measurement, but for those of looking at the pictures: 3 on a quiet machine, as
many as the end takes."""


class OutOfTime(Exception):
    """The time set aside for a piece of work is spent; caught within the search."""


class Clock:
    """Counts the seconds since the command began.

    budget_s: of all sessions together; infinity where steps are replayed. used_s: by sessions before this one. started: reading
    of ``time.perf_counter`` at the command's beginning. closing_s: seconds that closing the run is expected to take.
    """

    def __init__(self, budget_s: float, *, started: float, used_s: float = 0.0) -> None:
        self.budget_s, self._started = budget_s, started - used_s
        self._used_before, self.closing_s = used_s, CLOSING_S[0]

    def note_start(self, scan_s: float) -> None:
        """Note that the first measurement begins: how long it took to come so far tells how long closing the run will take.

        scan_s: seconds of it that looking at the pictures took. They tell of the pictures, not of the machine.
        """
        took = self.used() - self._used_before - scan_s
        self.closing_s = min(max(CLOSING_S[0], CLOSING_PER_START * took), CLOSING_S[1])

    def used(self) -> float:
        """Return the seconds used so far."""
        return time.perf_counter() - self._started

    def left(self) -> float:
        """Return the seconds left; negative when the budget is overdrawn."""
        return self.budget_s - self.used()

    @property
    def limited(self) -> bool:
        """Whether there is a budget at all."""
        return math.isfinite(self.budget_s)


class Watch:
    """A progress listener that hands everything on, and raises OutOfTime at news that arrives too late."""

    def __init__(self, progress: Progress, clock: Clock) -> None:
        self._progress, self._clock = progress, clock
        self._reserve = -math.inf

    def say(self, text: str) -> None:
        """Hand a line on."""
        self._progress.say(text)

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Hand news on. Raises OutOfTime while ``holding`` where less than the reserve is left."""
        self._progress.update(stage, done, total, note)
        if done < total:
            self.check()

    def check(self) -> None:
        """Raise OutOfTime while ``holding`` where less than the reserve is left."""
        if self._clock.left() < self._reserve:
            raise OutOfTime

    def spare(self) -> float:
        """Return the seconds that are left above the reserve; infinity where nothing is held."""
        return self._clock.left() - self._reserve

    @contextmanager
    def holding(self, reserve: float) -> Iterator[None]:
        """Let work within the block go on only while more than ``reserve`` seconds are left."""
        before, self._reserve = self._reserve, reserve
        try:
            yield
        finally:
            self._reserve = before

    @contextmanager
    def keeping(self, more: float) -> Iterator[None]:
        """Within ``holding``, let work go on only while ``more`` seconds than its reserve are left: for what comes after it."""
        with self.holding(self._reserve + more):
            yield

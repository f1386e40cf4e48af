"""The budget's clock: how much is left of the time that the whole command may take, and how busy the machine is."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from descend.progress import Progress

CLOSING_S = 3.5, 20.0  # the model, the report, the process's end: on a quiet machine, where they take 2.5, and at most
CLOSING_PER_START = 0.7
"""Of the seconds from the command to its first measurement, but for those of looking at the pictures: 3 on a quiet machine, as
many as the end takes."""
LATELY_S = 3.0  # of work, that tell how busy the machine is
SLOW = 2.0  # times longer than expected, from which the machine is called busy: estimates are no better than that


class OutOfTime(Exception):
    """The time set aside for a piece of work is spent; caught within the search."""


class Clock:
    """Counts the seconds since the command began.

    budget_s: of all sessions together; infinity where steps are replayed. used_s: by sessions before this one. started: reading
    of ``time.perf_counter`` at the command's beginning. slowdown: how many times longer work takes lately than it was measured
    to, 1 or more: something else has begun to compute beside it.
    """

    def __init__(self, budget_s: float, *, started: float, used_s: float = 0.0) -> None:
        self.budget_s, self._started = budget_s, started - used_s
        self._used_before, self._closing_s, self.slowdown = used_s, CLOSING_S[0], 1.0

    def note_start(self, scan_s: float) -> None:
        """Note that the first measurement begins: how long it took to come so far tells how long closing the run will take.

        scan_s: seconds of it that looking at the pictures took. They tell of the pictures, not of the machine.
        """
        took = self.used() - self._used_before - scan_s
        self._closing_s = max(CLOSING_S[0], CLOSING_PER_START * took)

    @property
    def closing_s(self) -> float:
        """The seconds that closing the run is expected to take."""
        return min(self._closing_s * self.slowdown, CLOSING_S[1])

    def used(self) -> float:
        """Return the seconds used so far."""
        return time.perf_counter() - self._started

    def left(self) -> float:
        """Return the seconds left; negative when the budget is overdrawn."""
        return self.budget_s - self.used()

    def needing(self, needed_s: float) -> Callable[[], float]:
        """Return what tells the seconds that work will take which takes ``needed_s`` as it is now: more when it gets slower."""
        before = self.slowdown
        return lambda: needed_s * max(1.0, self.slowdown / before)

    @property
    def limited(self) -> bool:
        """Whether there is a budget at all."""
        return math.isfinite(self.budget_s)


class WorkRate:
    """How many times longer than expected work takes lately, by the news of what is done. expected: units per second.

    Where nobody knows what to expect, the first seconds tell.
    """

    def __init__(self, expected: float | None) -> None:
        self.expected = expected
        self._news: deque[tuple[float, int]] = deque()

    def slowdown(self, done: int) -> float | None:
        """Return it after ``done`` units, 1 where that is within what estimates may be wrong by; None while it is too early."""
        now = time.perf_counter()
        self._news.append((now, done))
        while len(self._news) > 2 and now - self._news[1][0] >= LATELY_S:
            self._news.popleft()
        began, before = self._news[0]
        if now - began < LATELY_S or done <= before:
            return None
        rate = (done - before) / (now - began)
        self.expected = self.expected or rate
        return self.expected / rate if self.expected / rate >= SLOW else 1.0


class Watch:
    """A progress listener that hands everything on, and raises OutOfTime at news that arrives too late."""

    def __init__(self, progress: Progress, clock: Clock) -> None:
        self._progress, self._clock = progress, clock
        self._reserve: Callable[[], float] = lambda: -math.inf
        self._pace: WorkRate | None = None

    def say(self, text: str) -> None:
        """Hand a line on."""
        self._progress.say(text)

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Hand news on. Raises OutOfTime while ``holding`` where less than the reserve is left."""
        self._progress.update(stage, done, total, note)
        if self._pace is not None:
            self._clock.slowdown = self._pace.slowdown(done) or self._clock.slowdown
        if done < total:
            self.check()

    def check(self) -> None:
        """Raise OutOfTime while ``holding`` where less than the reserve is left."""
        if self.spare() < 0:
            raise OutOfTime

    def spare(self) -> float:
        """Return the seconds that are left above the reserve; infinity where nothing is held."""
        return self._clock.left() - self._reserve()

    @contextmanager
    def pacing(self, expected: float | None) -> Iterator[None]:
        """Let the news within the block tell the clock how busy the machine is. expected: units of them per second, if known."""
        self._pace = WorkRate(expected)
        try:
            yield
        finally:
            self._pace = None

    @contextmanager
    def holding(self, reserve: float) -> Iterator[None]:
        """Let work within the block go on only while more than ``reserve`` seconds are left: more of them as it gets slower."""
        before, self._reserve = self._reserve, self._clock.needing(reserve)
        try:
            yield
        finally:
            self._reserve = before

    @contextmanager
    def keeping(self, more: float) -> Iterator[None]:
        """Within ``holding``, let work go on only while ``more`` seconds than its reserve are left: for what comes after it."""
        held, also = self._reserve, self._clock.needing(more)
        self._reserve = lambda: held() + also()
        try:
            yield
        finally:
            self._reserve = held

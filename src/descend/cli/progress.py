"""The terminal, drawn with rich on standard error: lines, and one bar at a time with rate and time left."""

from __future__ import annotations

import atexit
import time
from typing import TYPE_CHECKING

from descend.cli.output import DRAWN, QUIET
from descend.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress

REDRAW_S = 0.1
LEAST_TIMED_S = 0.05  # a stage that took less was read from the cache or is too short for a rate


class Terminal:
    """A listener that prints lines and bars on standard error; where that is no terminal, one line per stage and per epoch."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, emoji=False)
        self._bar: Progress | None = None
        self._stage = self._ended = self._note = ""
        self._started = self._drawn = 0.0
        self._before = self._done = self._total = 0

    def say(self, text: str) -> None:
        """Print one line; nothing in it is markup (a class may be called ``[red]``) or a control character."""
        self._finish()
        if not QUIET.get():
            self._print(text)

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Draw the stage's bar, ten times a second at most."""
        if QUIET.get():
            return
        if note and stage == self._ended and done >= total:  # what came of the last epoch, after its last picture
            self._log(note)
            return
        if stage != self._stage:
            self._finish()
            self._start(stage, done, total)
        self._done, self._total = done, total
        self._log(note)
        now = time.perf_counter()
        if now - self._drawn < REDRAW_S and done < total:
            return
        self._drawn = now
        if self._bar is not None:
            rate = (done - self._before) / max(now - self._started, 1e-9)
            self._bar.update(
                self._bar.task_ids[0], completed=done, total=total, rate=f"{rate:,.0f} pictures/s", note=printable(note)
            )
        if done >= total:
            self._finish()

    def _log(self, note: str) -> None:
        """Print a note that is new, where no bar shows it."""
        if note != self._note and not self.console.is_terminal:
            self._note = note
            self._print(f"  {note}")

    def _start(self, stage: str, done: int, total: int) -> None:
        self._stage, self._done, self._ended, self._note = stage, done, "", ""
        self._before = done if done > 1 else 0  # the first news of a stage may be of its first picture
        self._started, self._drawn = time.perf_counter(), 0.0
        if not self.console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("  {task.description}"), BarColumn(30), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True), TextColumn("{task.fields[note]}", markup=False),
            console=self.console, transient=True, refresh_per_second=4,
        )  # fmt: skip
        self._bar.add_task(stage, total=total, completed=done, rate="", note="")
        self._bar.start()
        DRAWN.append(self._clear)
        atexit.register(self._clear)  # where no verb of ours ends it: the bar has hidden the cursor

    def _clear(self) -> None:
        """Take the bar away, which brings the cursor back."""
        atexit.unregister(self._clear)
        if self._clear in DRAWN:
            DRAWN.remove(self._clear)
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _finish(self) -> None:
        if not self._stage:
            return
        self._clear()
        wall, n = time.perf_counter() - self._started, self._done - self._before
        if n:
            count = f"{n:,}" if n >= self._total else f"{n:,} of {self._total:,}"  # the others were known, or it was stopped
            time_taken = f" in {wall:.1f} s ({n / max(wall, 1e-9):,.0f} pictures/s)" if wall >= LEAST_TIMED_S else ""
            self._print(f"  {self._stage}: {count} picture{'s' * (n != 1)}{time_taken}")
        self._ended = self._stage if self._done >= self._total else ""
        self._stage = ""

    def _print(self, text: str) -> None:
        self.console.print(printable(text), markup=False, soft_wrap=True)

"""Ctrl-C: the first one asks the loop to stop after the step in hand; a second one stops at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SAME_BREATH_S = 1.0  # a key pressed twice, or a signal that the shell and a wrapper both deliver


class Interrupt:
    """A flag that the loop reads between steps. It is false until the user asks to stop."""

    def __init__(self) -> None:
        self.requested = False
        self._first = 0.0

    def __bool__(self) -> bool:
        return self.requested

    def request(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Ask the loop to stop; a second time, not in the same breath, raise KeyboardInterrupt here and now."""
        now = time.monotonic()
        if not self.requested:
            self.requested, self._first = True, now
        elif now - self._first > SAME_BREATH_S:
            raise KeyboardInterrupt


@contextmanager
def graceful() -> Iterator[Interrupt]:
    """Turn Ctrl-C into a flag while the block runs. Outside the main thread Python allows no handler: the flag stays false."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt.request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)

"""Ctrl-C and SIGTERM: the first one asks the loop to stop after the step in hand; a second one stops at once."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

SAME_BREATH_S = 1.0  # a key pressed twice, or a signal that the shell and a wrapper both deliver
AGAIN_S = 0.05  # until an interrupt that was swallowed comes again
EXIT_TERMINATED = 128 + signal.SIGTERM
"""What a process that SIGTERM has ended returns to the shell."""


class Interrupted(Exception):
    """The user has asked to stop in the middle of a longer piece of work; caught where training is led."""


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

    def watched(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield ``batches`` while nobody asks to stop. Raises Interrupted at the first one after that."""
        for batch in batches:
            if self.requested:
                raise Interrupted
            yield batch


class Termination:
    """What SIGTERM does while a run is made. requested: whether it came. interrupt: that of the loop, while a loop runs."""

    def __init__(self) -> None:
        self.requested = False
        self.interrupt: Interrupt | None = None

    def request(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Ask the loop to stop; where none runs, raise KeyboardInterrupt, as Ctrl-C does there."""
        self.requested = True
        if self.interrupt is None:
            raise KeyboardInterrupt
        self.interrupt.request()


@contextmanager
def terminable() -> Iterator[Termination]:
    """Let SIGTERM end a run in the block as Ctrl-C does; the signal is remembered.

    A handler that somebody else has installed stays, and within another such block this one does nothing: the outer one learns
    of the signal. Outside the main thread Python allows no handler.
    """
    termination = Termination()
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield termination
        return
    signal.signal(signal.SIGTERM, termination.request)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def unswallowed() -> Iterator[None]:
    """Let an interrupt come again that Python could not raise, while the block runs.

    In a finalizer, in the callback of a weak reference and in one of C code (compilers have them) an exception is printed and
    forgotten: a run would go on although it was told to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, timers = sys.unraisablehook, list[threading.Timer]()

    def hook(unraisable: sys.UnraisableHookArgs, /) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        timers.append(threading.Timer(AGAIN_S, interrupt_main))
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def interrupt_main() -> None:
    """Do what Ctrl-C does, from another thread; a real signal also ends a call that waits."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@contextmanager
def ending_with_sigterm() -> Iterator[None]:
    """Let SIGTERM end a run in the block as Ctrl-C does, and then the process, as it would have without; neither is lost."""
    with terminable() as termination:
        try:
            with unswallowed():
                yield
        finally:
            if termination.requested:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.raise_signal(signal.SIGTERM)


@contextmanager
def graceful() -> Iterator[Interrupt]:
    """Turn Ctrl-C, and SIGTERM within ``terminable``, into a flag while the block runs.

    Outside the main thread Python allows no handler: the flag stays false.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt.request)
    termination = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(termination, Termination):
        termination.interrupt = interrupt
    try:
        yield interrupt
    finally:
        if before is not None:  # else it was no handler of Python's
            signal.signal(signal.SIGINT, before)
        if isinstance(termination, Termination):
            termination.interrupt = None

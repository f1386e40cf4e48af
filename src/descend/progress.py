"""What long work tells while it goes on. The command line draws it with rich; Python code may pass its own listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Update = Callable[[str, int, int], None]
"""Takes the news of one kind of work: (stage, done, total)."""


class Progress(Protocol):
    """A listener for lines of text and for stages with a known amount of work."""

    def say(self, text: str) -> None:
        """Take one line."""
        ...

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Take the news that ``done`` of ``total`` pictures of a stage are done; ``note`` is short."""
        ...


class Silent:
    """A listener that shows nothing: the default in Python code."""

    def say(self, text: str) -> None:
        """Drop the line."""

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Drop the news."""

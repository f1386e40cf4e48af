"""What a run tells while it works. The command line draws it with rich; Python code may pass its own listener."""

from __future__ import annotations

from typing import Protocol


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

"""The way of every line to the terminal: one line stays one line, and nothing in it is obeyed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NoReturn, TextIO

from descend.printable import printable, shortened

QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether progress is not to be shown: ``-q``. Results, errors and what was skipped are told all the same."""


DRAWN: list[Callable[[], None]] = []
"""What takes away each of the bars that stand on the terminal."""


def take_away() -> None:
    """Take away every bar that is still drawn: an error stands on a line of its own, not below half a bar."""
    for clear in [*DRAWN]:
        clear()


def tell(*lines: str, file: TextIO | None = None) -> None:
    """Print lines. Line breaks and control characters inside one are escaped: they come from the names of files and classes.

    file: default standard output.
    """
    for line in lines:
        print(printable(line), file=file or sys.stdout)


class _Quiet(argparse.Action):
    """``-q``: it is about the terminal, so it is no setting that a verb reads."""

    def __call__(self, *_: object) -> None:
        QUIET.set(True)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line too: they repeat words of the command line, which may be names of files."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        what = "no progress: results and errors only"
        self.add_argument("-q", "--quiet", action=_Quiet, nargs=0, dest=argparse.SUPPRESS, help=what)

    def error(self, message: str) -> NoReturn:
        """Print usage and the error, and exit with status 2."""
        super().error(printable(shortened(message)))

"""The way of every line to the terminal: one line stays one line, and nothing in it is obeyed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any, NoReturn, TextIO

from descend.cli import elsewhere
from descend.errors import did_you_mean
from descend.outputs import taken_by
from descend.printable import printable, shortened

STANDARD_OUTPUT = "standard output"
MOST_SAID = 1_000  # characters of a sentence on wrong usage: it may list many choices
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

    file: default standard output. Raises OutputError where standard output does not take them, such as on a full disk.
    """
    with nullcontext() if file is sys.stderr else taken_by(STANDARD_OUTPUT):
        for line in lines:
            print(printable(line), file=file or sys.stdout)


def is_closed(stream: TextIO) -> bool:
    """Return whether the caller has closed a stream (``>&-``): the null device stands for it, under its own name."""
    return getattr(stream, "name", None) == os.devnull


class _Quiet(argparse.Action):
    """``-q``: it is about the terminal, so it is no setting that a verb reads."""

    def __call__(self, *_: object) -> None:
        QUIET.set(True)


def number(kind: type[int] | type[float], must: str) -> Callable[[str], float]:
    """Return what reads a flag's number, and says of any other text what it must be."""

    def read(text: str) -> float:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {must}, got {text!r}") from None

    return read


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: they name the nearest flag or choice, and where all of them stand."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.register("type", int, number(int, "a whole number"))
        self.register("type", float, number(float, "a number"))
        what = "no progress: results and errors only"
        self.add_argument("-q", "--quiet", action=_Quiet, nargs=0, dest=argparse.SUPPRESS, help=what)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] (typeshed has overloads)
        """Return the parsed words; exits where some are none of the verb's."""
        parsed, left = self.parse_known_args(args, namespace)
        if left:
            flag = next((word for word in left if word.startswith("-")), None)
            shown = [name for action in self._actions if action.help != argparse.SUPPRESS for name in action.option_strings]
            if flag is None:
                told = elsewhere.assignment(left[0], shown)
                self.error(f"{self.prog} takes no further word, got {shortened(repr(left[0]))}.{told}")
            known = [name.removeprefix("--") for name in shown if name.startswith("--")]
            near = _near(flag.partition("=")[0].removeprefix("--"), known).replace("'", "'--", 1)
            self.error(f"{self.prog} has no flag {shortened(flag)}.{elsewhere.flag(flag, shown) or near}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the error, which may repeat names of files, and exit with status 2."""
        take_away()
        sentence = shortened(message.removeprefix("argument "), MOST_SAID).rstrip(".?")
        end = "?" if message.endswith("?") else "."
        tell(f"error: {sentence}{end} All that it takes: {self.prog} --help", file=sys.stderr)
        self.exit(2)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write the help; argparse passes over what a full disk says."""
        with nullcontext() if file is sys.stderr else taken_by(STANDARD_OUTPUT):
            (file or sys.stdout).write(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            must = f"must be one of {', '.join(known)}, got {shortened(repr(value))}.{_near(str(value), known)}"
            raise argparse.ArgumentError(action, must)


def _near(word: str, known: Sequence[str]) -> str:
    """Return what might have been meant, as a further sentence; "" where nothing is near."""
    told = did_you_mean(word, known)
    return f" {told}" if told else ""

"""The way of every line to the terminal: one line stays one line, and nothing in it is obeyed."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn, TextIO

from descend.printable import printable, shortened


def tell(*lines: str, file: TextIO | None = None) -> None:
    """Print lines. Line breaks and control characters inside one are escaped: they come from the names of files and classes.

    file: default standard output.
    """
    for line in lines:
        print(printable(line), file=file or sys.stdout)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line too: they repeat words of the command line, which may be names of files."""

    def error(self, message: str) -> NoReturn:
        """Print usage and the error, and exit with status 2."""
        super().error(printable(shortened(message)))

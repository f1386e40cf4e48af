r"""Text for people: names from anywhere, on one line, without what a terminal obeys.

A file may be called ``\x1b[2J``, a class ``cat\nerror: ...``; printed raw, the first clears the screen and the second forges a
line. Control characters, line breaks, marks that turn the direction of writing, invisible ones, and bytes that are no Unicode
are shown escaped, as Python writes them. Accents, other scripts and emoji stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST = 200  # characters of bad input that a message repeats
_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)  # C0 and C1 controls, bidirectional and invisible marks (U+200C and U+200D join letters and emoji), tags, lone surrogates


def printable(text: str) -> str:
    r"""Return text as one line that a terminal shows and does not obey.

    >>> from descend.printable import printable
    >>> print(printable("café\x1b[2J\n.png"))
    café\x1b[2J\n.png
    """
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines in which columns stand below each other.

    >>> from descend.printable import columns
    >>> columns([("rule", "lr"), ("momentum", "0.1")])
    ['rule      lr', 'momentum  0.1']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def shortened(text: str, most: int = MOST) -> str:
    """Return text, cut after ``most`` characters with a note of its length."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"

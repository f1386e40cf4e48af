"""Progress in a notebook: the last lines that were said and one bar, drawn in place; no widgets are needed."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

from descend.printable import printable

REDRAW_S = 0.25
SHOWN = 6  # lines; those before them scroll away


def is_notebook() -> bool:
    """Return whether this code runs in the kernel of a notebook. IPython is not imported for that."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)  # that of Colab is made from it


class NotebookBar:
    """A listener that shows what is said and done in the output of a cell, four times a second at most."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._handle: Any = None
        self._bar, self._stage, self._drawn = "", "", 0.0

    def say(self, text: str) -> None:
        """Show one line."""
        self._lines = [*self._lines, printable(text)][-SHOWN:]
        self._draw()

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show how much of a stage is done."""
        now = time.perf_counter()
        if stage == self._stage and done < total and now - self._drawn < REDRAW_S:
            return
        self._stage, self._drawn = stage, now
        told = f"{printable(stage)} {done:,} of {total:,}  {printable(note)}"
        self._bar = f'<progress value="{done}" max="{max(total, 1)}" style="width:18em"></progress> {escape(told)}'
        self._draw()

    def _draw(self) -> None:
        html = _Html("<pre>" + "\n".join(map(escape, self._lines)) + f"</pre>{self._bar}", "\n".join(self._lines))
        if self._handle is not None:
            self._handle.update(html)
            return
        from IPython.display import display  # pyright: ignore[reportMissingImports] (there, where a notebook runs)

        self._handle = display(html, display_id=True)


class _Html:
    """Text in two forms, of which the notebook shows the one that it can."""

    def __init__(self, html: str, plain: str) -> None:
        self._html, self._plain = html, plain

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._plain

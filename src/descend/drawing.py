"""Figures on disk: SVG that is the same for the same numbers, PNG, and GIF of whatever moves.

matplotlib through its objects alone: no pyplot, so nothing global is opened, chosen or left behind.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from descend.errors import KnobError, nearest
from descend.outputs import check_output, writing

SVG_SETTINGS: dict[Any, Any] = {"svg.hashsalt": "descend", "svg.fonttype": "none", "font.family": "DejaVu Sans"}
"""What makes an SVG the same for the same numbers, with its text as text: every figure is drawn with it."""

NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""What is left out of an SVG file, so that it does not tell when and by what it was written."""

STYLE: dict[Any, Any] = SVG_SETTINGS | {
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.grid": False,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
}

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's palette, told apart by every kind of color vision; the eighth line begins again with other dashes."""

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))

DPI, N_FRAMES, FRAME_MS, LAST_MS = 120, 60, 60, 2000


@dataclasses.dataclass(frozen=True)
class Moving:
    """A line that grows, one point per step. x, y: (T + 1,) float64. marks: the steps that carry a dot."""

    line: Line2D
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    marks: tuple[int, ...] = ()

    def show(self, step: int) -> None:
        """Let the line end at ``step``."""
        self.line.set_data(self.x[: step + 1], self.y[: step + 1])
        self.line.set_markevery([mark for mark in self.marks if mark <= min(step, len(self.x) - 1)])


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A finished figure, and the lines in it that a GIF lets grow."""

    figure: Figure
    moving: tuple[Moving, ...] = ()

    def bytes(self, suffix: str) -> bytes:
        """Return the drawing as ``.svg``, ``.png`` or ``.gif``."""
        with matplotlib.rc_context(STYLE):
            return {".svg": self._svg, ".png": self._png, ".gif": self._gif}[suffix]()

    def _svg(self) -> bytes:
        buffer = io.BytesIO()
        FigureCanvasSVG(self.figure).print_svg(buffer, metadata=NO_METADATA)
        return buffer.getvalue()

    def _png(self) -> bytes:
        self.figure.set_dpi(DPI)
        buffer = io.BytesIO()
        FigureCanvasAgg(self.figure).print_png(buffer, metadata={"Software": None})
        return buffer.getvalue()

    def _gif(self) -> bytes:
        self.figure.set_dpi(DPI * 0.75)
        canvas = FigureCanvasAgg(self.figure)
        for moving in self.moving:
            moving.line.set_animated(True)  # left out of the background
        canvas.draw()
        background = canvas.copy_from_bbox(self.figure.bbox)
        n_steps = max((len(moving.x) for moving in self.moving), default=1) - 1
        frames: list[Image.Image] = []
        for step in np.unique(np.linspace(0, n_steps, N_FRAMES).round().astype(int)):
            canvas.restore_region(background)
            for moving in self.moving:
                moving.show(int(step))
                self.figure.draw_artist(moving.line)
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()).quantize(64))
        for moving in self.moving:
            moving.line.set_animated(False)
        waits = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
        buffer = io.BytesIO()
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=waits, loop=0)
        return buffer.getvalue()


SUFFIXES = (".svg", ".png", ".gif")


def check_path(path: Path, suffixes: tuple[str, ...] = SUFFIXES, *, who: str = "picture") -> str:
    """Return the suffix of ``path`` in lower case.

    who: what names the file, such as ``--out``. Raises KnobError where the suffix is none of ``suffixes``, and what
    ``outputs.check_output`` raises.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise KnobError(who, f"the file must end in {', '.join(suffixes)}", got=path.name, fix=nearest(suffix, suffixes))
    check_output(who, path)
    return suffix


def save(drawing: Drawing, path: Path | str) -> None:
    """Write ``drawing`` as SVG, PNG or animated GIF, by the ending of ``path``; a file there is replaced whole or not at all.

    Raises KnobError for another ending or a folder that does not exist, OutputError where the file cannot be written.
    """
    path = Path(path)
    write(drawing.bytes(check_path(path)), path)


def write(content: bytes, path: Path) -> None:
    """Write ``content`` to ``path``, whole or not at all; OutputError where that is not possible."""
    with writing(path) as unfinished:
        unfinished.write_bytes(content)

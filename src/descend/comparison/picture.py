"""A comparison as a picture: the differences with their intervals, and beside them what every run scored.

The same drawing stands on the page of a comparison, in colors of the page, and in a notebook. Figures are shares in [0, 1]; axes
are in points and in percent.
"""

from __future__ import annotations

import html
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from descend.drawing import SVG_SETTINGS
from descend.percentages import tick
from descend.stats import Interval

SETTINGS: dict[Any, Any] = SVG_SETTINGS | {"font.size": 11.0}
ROW, MARGIN = 0.52, 0.95  # inches: of one candidate, and of axis and title together
NAME_LENGTH, MOST_LINES = 34, 3  # of a name: characters of a line, and lines
OFFSET = 0.26  # of a row: runs lie on both sides of its middle


@dataclass(frozen=True)
class Drawn:
    """What a picture shows of a comparison; all figures are shares in [0, 1].

    names: the rows. opposite: what they are measured against, in words. split: that every run was judged on. differences: name ->
    the interval that decides, and whether it is told apart. scores: name -> seed -> accuracy, empty where no run has finished.
    """

    names: tuple[str, ...]
    opposite: str
    split: str
    differences: dict[str, tuple[Interval, bool]]
    scores: dict[str, dict[int, float]]


@dataclass(frozen=True)
class Palette:
    """Colors. known: of what is told apart. open: of what is not, and of single runs."""

    ink: str = "#1d2126"
    muted: str = "#62686f"
    grid: str = "#e2e2dc"
    known: str = "#0072b2"
    open: str = "#7a8088"


def figure(drawn: Drawn, palette: Palette | None = None) -> Figure:
    """Return both drawings side by side, the first candidate at the top."""
    colours, names = palette or Palette(), drawn.names
    with matplotlib.rc_context(SETTINGS):
        drawing = Figure(figsize=(11.0, MARGIN + ROW * len(names)), layout="constrained")
        FigureCanvasSVG(drawing)
        left, right = drawing.subplots(1, 2, sharey=True)
        draw_differences(left, drawn, colours)
        draw_scores(right, drawn, colours)
        name_rows(left, names, colours)
        right.tick_params(labelleft=False)
    return drawing


def one(drawn: Drawn, draw: Callable[[Axes, Drawn, Palette], None], palette: Palette) -> Figure:
    """Return one of the drawings as a figure of its own."""
    with matplotlib.rc_context(SETTINGS):
        drawing = Figure(figsize=(7.6, MARGIN + ROW * len(drawn.names)), layout="constrained")
        FigureCanvasSVG(drawing)
        axes = drawing.subplots()
        draw(axes, drawn, palette)
        name_rows(axes, drawn.names, palette)
    return drawing


def draw_differences(axes: Axes, drawn: Drawn, palette: Palette) -> None:
    """Draw how far each candidate lies above what it is measured against, with the interval that decides."""
    _dress(axes, palette, f"points above {_short(drawn.opposite)}")
    axes.axvline(0, color=palette.ink, linewidth=1.0, zorder=1)
    shown = [0.0]
    for name, (interval, told_apart) in drawn.differences.items():
        row, shade = drawn.names.index(name), palette.known if told_apart else palette.open
        axes.plot([interval.mean], [row], "o", color=shade, markersize=7, zorder=3)
        shown.append(interval.mean)
        if math.isfinite(interval.low):
            axes.plot([interval.low, interval.high], [row, row], color=shade, linewidth=2.4, solid_capstyle="butt", zorder=2)
            shown += [interval.low, interval.high]
        else:
            axes.annotate("interval open", (interval.mean, row), textcoords="offset points", xytext=(9, -4), color=palette.muted)
    axes.set_xlim(*_limits(shown))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:+.3g}" if x else "0"))


def draw_scores(axes: Axes, drawn: Drawn, palette: Palette) -> None:
    """Draw the accuracy of every run, one seed above the other in the same order in every row, and the mean with its interval."""
    _dress(axes, palette, f"accuracy on {'test' if drawn.split == 'test' else 'validation'}, one point per seed")
    shown: list[float] = []
    seeds = sorted({seed for known in drawn.scores.values() for seed in known})
    for row, name in enumerate(drawn.names):
        known = drawn.scores[name]
        for seed, accuracy in known.items():
            at = row + OFFSET * (2 * (seeds.index(seed) + 1) / (len(seeds) + 1) - 1)
            axes.plot([accuracy], [at], "o", color=palette.open, markersize=4, alpha=0.75, zorder=2)
        if known:
            mean = math.fsum(known.values()) / len(known)
            axes.plot([mean] * 2, [row - OFFSET, row + OFFSET], color=palette.known, linewidth=2.4, zorder=3)
        else:
            axes.annotate("no finished run", (0.02, row), xycoords=("axes fraction", "data"), va="center", color=palette.muted)
        shown += known.values()
    axes.set_xlim(*_limits(shown or [0.0, 1.0], most=1.0))
    axes.xaxis.set_major_formatter(FuncFormatter(tick))


def name_rows(axes: Axes, names: Sequence[str], palette: Palette) -> None:
    """Write the names of candidates beside their rows, the first at the top."""
    labels = [textwrap.fill(name, NAME_LENGTH, max_lines=MOST_LINES, placeholder=" ...") for name in names]
    axes.set_yticks(range(len(names)), labels, color=palette.ink, parse_math=False, fontsize=9.5)
    axes.set_ylim(len(names) - 0.5, -0.5)


def as_html(lines: str, drawn: Drawn) -> str:
    """Return lines, and the picture where there is something to draw, for a notebook."""
    text = f"<pre>{html.escape(lines)}</pre>"
    if not any(drawn.scores.values()):
        return text
    buffer = io.StringIO()
    figure(drawn).savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    return f"{text}\n{drawing[drawing.index('<svg') :]}"


def _dress(axes: Axes, palette: Palette, across: str) -> None:
    axes.patch.set_visible(False)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(palette.grid)
    axes.tick_params(length=0, labelcolor=palette.muted, pad=5)
    axes.grid(axis="x", color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel(across, color=palette.muted, parse_math=False)


def _limits(values: Sequence[float], most: float = math.inf) -> tuple[float, float]:
    low, high = min(values), max(values)
    spare = 0.06 * (high - low) or 0.01
    return low - spare, min(high + spare, max(most, high) + 0.004)


def _short(name: str) -> str:
    return textwrap.shorten(name, NAME_LENGTH, placeholder=" ...")

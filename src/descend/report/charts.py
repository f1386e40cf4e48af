"""Curves as inline SVG: drawn by matplotlib, colored by the page.

A chart is drawn in stand-in colors that become CSS variables afterwards, so one drawing serves light, dark and print. Text
stays text (small, selectable, in the page's own typeface). Two calls with the same numbers give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from descend.train.record_types import EpochRow

INK, MUTED, GRID, TRAIN, VAL, PAPER = "#000001", "#000002", "#000003", "#000004", "#000005", "#000006"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--rule", TRAIN: "--train", VAL: "--val", PAPER: "--paper"}
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "descend",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11.0,
    "path.snap": False,
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_FEW = 20  # up to this many epochs, each one is a point on the line


@dataclass(frozen=True)
class Line:
    """One line of a chart: the column of metrics.jsonl, what the reader calls it, and how it is drawn."""

    column: str
    name: str
    color: str
    dashes: str
    width: float


@dataclass(frozen=True)
class Chart:
    """A drawing with its title, and the lines a legend has to tell apart."""

    title: str
    svg: Markup
    lines: tuple[Line, ...]


_CHARTS = (
    ("Loss", (Line("train_loss", "training", TRAIN, "--", 1.4), Line("val_loss", "validation", VAL, "-", 1.9))),
    ("Accuracy", (Line("train_accuracy", "training", TRAIN, "--", 1.4), Line("val_accuracy", "validation", VAL, "-", 1.9))),
    ("Learning rate", (Line("lr", "learning rate", MUTED, "-", 1.6),)),
)


def curves(rows: Sequence[EpochRow], chosen: int | None) -> list[Chart]:
    """Draw loss, accuracy and learning rate over the epochs; a chart without a single number is left out.

    rows: the lines of metrics.jsonl in order of ``epoch``; what is missing or not finite leaves a gap. chosen: the epoch whose
    weights were kept, marked in every chart.
    """
    charts = [_chart(title, lines, rows, chosen) for title, lines in _CHARTS]
    return [chart for chart in charts if chart is not None]


def _chart(title: str, lines: Sequence[Line], rows: Sequence[EpochRow], chosen: int | None) -> Chart | None:
    epochs = [int(row["epoch"]) for row in rows]
    columns = {line: [_number(row.get(line.column)) for row in rows] for line in lines}
    columns = {line: values for line, values in columns.items() if any(map(math.isfinite, values))}
    if not columns:
        return None
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(4.6, 3.0))
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.135, 0.155, 0.845, 0.765))
        for line, values in columns.items():
            _draw(axes, line, epochs, values, chosen)
        _dress(axes, title, epochs, [v for values in columns.values() for v in values if math.isfinite(v)])
        if chosen in epochs:
            _mark(axes, chosen)
        drawing = render(figure)
    return Chart(title, inline(drawing, title.lower().replace(" ", "-"), _alt(title, columns, epochs, chosen)), tuple(columns))


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _draw(axes: Axes, line: Line, epochs: list[int], values: list[float], chosen: int | None) -> None:
    known = [math.isfinite(value) for value in values]
    alone = [at for at, here in enumerate(known) if here and not any(known[max(0, at - 1) : at] + known[at + 1 : at + 2])]
    points = list(range(len(values))) if len(values) <= _FEW else alone
    axes.plot(
        epochs, values, line.dashes, color=line.color, linewidth=line.width, marker="o", markevery=points,
        markersize=3.2 if len(values) > 3 else 5.5, solid_capstyle="round", clip_on=False,
    )  # fmt: skip
    if line.color == VAL and chosen in epochs and known[epochs.index(chosen)]:
        at = values[epochs.index(chosen)]
        axes.plot(
            [chosen], [at], "o", markersize=7, color=VAL, markerfacecolor=PAPER, markeredgewidth=1.9, clip_on=False, zorder=5
        )


def dress(axes: Axes, across: str) -> None:
    """Give axes the look of the page: no box, pale lines across. across: what the horizontal axis counts."""
    axes.patch.set_visible(False)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(length=0, labelcolor=MUTED, pad=5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(across, color=MUTED, labelpad=2)


def _dress(axes: Axes, title: str, epochs: list[int], values: list[float]) -> None:
    dress(axes, "epoch")
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    percent = title == "Accuracy"
    if title == "Loss" and min(values) > 0 and max(values) > 100 * min(values):  # a linear axis would show one flat line
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(*limits(values, ceiling=1.0 if percent else math.inf))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.3g} %" if percent else f"{y:.4g}"))


def limits(values: Sequence[float], ceiling: float) -> tuple[float, float]:
    """Return the ends of a vertical axis: a little more than the values span, not below 0 for shares and losses."""
    low, high = min(values), max(values)
    spare = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return max(0.0, low - spare) if low >= 0 else low - spare, max(high, min(ceiling, high + spare))


def _mark(axes: Axes, chosen: int) -> None:
    axes.axvline(chosen, color=MUTED, linewidth=0.9, linestyle=":", zorder=1)
    low, high = axes.get_xlim()
    place = (chosen - low) / (high - low)
    side = "left" if place < 0.15 else "right" if place > 0.85 else "center"
    axes.text(chosen, 1.02, f"epoch {chosen}", transform=axes.get_xaxis_transform(), color=INK, ha=side, va="bottom")


def render(figure: Figure) -> str:
    """Return a figure as the text of an SVG file, the same for the same figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    return buffer.getvalue()


def inline(drawing: str, name: str, alt: str) -> Markup:
    """Turn matplotlib's SVG file into an element for the page: no prolog or global style, ids of its own, colors by variable."""
    body = drawing[drawing.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*</defs>|<g[^>]*/>", "", body)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    for color, variable in _VARIABLES.items():
        body = body.replace(color, f"var({variable})")
    box = re.search(r'viewBox="[^"]+"', body)
    opening = f'<svg class="chart" role="img" aria-label="{escape(alt)}" {box[0] if box else ""}>'
    return Markup(re.sub(r"\s*\n\s*", "\n", opening + body[body.index(">") + 1 :]).replace("xlink:href", "href"))


def _alt(title: str, columns: Mapping[Line, list[float]], epochs: list[int], chosen: int | None) -> str:
    parts: list[str] = []
    for line, values in columns.items():
        known = [value for value in values if math.isfinite(value)]
        shown = [f"{100 * v:.1f} %" if title == "Accuracy" else f"{v:.4g}" for v in (known[0], known[-1])]
        parts.append(f"{line.name} {shown[0]}" + (f" to {shown[1]}" if len(known) > 1 else ""))
    span = f"epoch {epochs[0]}" if len(epochs) == 1 else f"epochs {epochs[0]} to {epochs[-1]}"
    mark = f"; epoch {chosen} was chosen" if chosen in epochs else ""
    return f"{title} over {span}: {', '.join(parts)}{mark}."

"""Curves as inline SVG: drawn by matplotlib, colored by the page.

A chart is drawn in stand-in colors that become CSS variables afterwards, so one drawing serves light, dark, print, and the files
beside the page. Text stays text (small, selectable, in the page's own typeface). Two calls with the same numbers give the same
bytes.
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

from descend.drawing import NO_METADATA, SVG_SETTINGS
from descend.percentages import percent, tick
from descend.train.record_types import EpochRow

INK, MUTED, GRID, TRAIN, VAL, PAPER = "#000001", "#000002", "#000003", "#000004", "#000005", "#000006"
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--rule", TRAIN: "--train", VAL: "--val", PAPER: "--paper"}
SETTINGS: dict[Any, Any] = SVG_SETTINGS | {"font.size": 11.0, "path.snap": False}
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
    """A drawing with its title, and the lines a legend has to tell apart.

    name: of its files. figure: what it was drawn from, in stand-in colors. box: left, right, top and
    bottom of what a vertical line over all axes crosses, in the SVG's own units; span: the numbers at its left and right.
    """

    title: str
    svg: Markup
    lines: tuple[Line, ...]
    name: str
    figure: Figure
    box: tuple[float, float, float, float]
    span: tuple[float, float]


_CHARTS = (
    ("Loss", (Line("train_loss", "training", TRAIN, "--", 1.4), Line("val_loss", "validation", VAL, "-", 1.9))),
    ("Accuracy", (Line("train_accuracy", "training", TRAIN, "--", 1.4), Line("val_accuracy", "validation", VAL, "-", 1.9))),
)
_TICKS = 6  # of a vertical axis, at most
_MOST_RATES = 500  # points of the strip
_WIDE, _HIGH, _RATE_HIGH = 4.6, 3.0, 0.8  # inches: a chart, and what the learning rate under it adds
_LEFT, _ACROSS = 0.135, 0.845  # of the width: where the axes begin, and their own


def curves(rows: Sequence[EpochRow], chosen: int | None) -> list[Chart]:
    """Draw loss and accuracy over the epochs, the learning rate under each; a chart without a single number is left out.

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
    rates = [_number(row.get("lr")) for row in rows]
    with_rates = len(rates) > 1 and any(map(math.isfinite, rates))
    high = _HIGH + _RATE_HIGH * with_rates
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(_WIDE, high))
        FigureCanvasSVG(figure)
        below = 0.465 + (_RATE_HIGH - 0.02) * with_rates
        axes = figure.add_axes((_LEFT, below / high, _ACROSS, (high - below - 0.24) / high))
        for line, values in columns.items():
            _draw(axes, line, epochs, values, chosen)
        _dress(axes, title, epochs, [v for values in columns.values() for v in values if math.isfinite(v)])
        if chosen in epochs:
            _mark(axes, chosen)
        if with_rates:
            axes.tick_params(labelbottom=False)
            axes.set_xlabel("")
            _draw_rates(figure.add_axes((_LEFT, 0.465 / high, _ACROSS, 0.5 / high)), epochs, rates, axes.get_xlim())
        name = title.lower().replace(" ", "-")
        return finished(figure, title, name, _alt(title, columns, epochs, chosen, rates if with_rates else []), tuple(columns))


def _draw_rates(axes: Axes, epochs: list[int], rates: list[float], span: tuple[float, float]) -> None:
    """Draw the learning rate as a strip whose axis ends at its peak; of very many epochs, every k-th."""
    every = -(-len(epochs) // _MOST_RATES)
    at = [*range(0, len(epochs) - 1, every), len(epochs) - 1]
    axes.plot([epochs[k] for k in at], [rates[k] for k in at], "-", color=MUTED, linewidth=1.2, clip_on=False)
    dress(axes, "epoch")
    axes.set_xlim(*span)
    axes.xaxis.set_major_locator(_whole_epochs())
    peak = max(filter(math.isfinite, rates))
    axes.set_ylim(0, (peak or 1.0) * 1.08)
    axes.set_yticks([0, peak] if peak else [0], ["0", f"{peak:.2g}"] if peak else ["0"])
    axes.text(1, 1.0, "learning rate", transform=axes.transAxes, color=MUTED, ha="right", va="bottom", fontsize=9)


def _whole_epochs() -> MaxNLocator:
    return MaxNLocator(nbins=6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])


def finished(figure: Figure, title: str, name: str, alt: str, lines: tuple[Line, ...] = (), *, on_page: bool = True) -> Chart:
    """Return a figure as a chart; all its axes share their horizontal one. name: of its files, and of the SVG's ids.

    on_page: whether the page shows it; else it is a file only, and its ``svg`` is empty.
    """
    wide, high = (72 * inches for inches in figure.get_size_inches())
    places = [axes.get_position() for axes in figure.axes]
    top, bottom = (1 - max(place.y1 for place in places)) * high, (1 - min(place.y0 for place in places)) * high
    box = (places[0].x0 * wide, places[0].x1 * wide, top, bottom)
    low, high_ = figure.axes[0].get_xlim()
    svg = inline(render(figure), name, alt) if on_page else Markup("")
    return Chart(title, svg, lines, name, figure, box, (float(low), float(high_)))


MOST_EPOCHS = 400  # rows of the table of epochs


def epoch_table(rows: Sequence[EpochRow], chosen: int | None) -> dict[str, Any]:
    """Return the figures of the curves for a table: columns, rows with epoch and cells, and that every k-th epoch is shown.

    The first, the last and the chosen epoch are always there.
    """
    every = -(-len(rows) // MOST_EPOCHS)
    shown = [row for at, row in enumerate(rows) if at % every == 0 or at == len(rows) - 1 or row["epoch"] == chosen]
    known = [(line.column, f"{title} in {line.name}" if line.name == "training" else f"{title} on {line.name}", title)
             for title, lines in _CHARTS for line in lines]  # fmt: skip
    known.append(("lr", "Learning rate", ""))
    columns = [item for item in known if any(math.isfinite(_number(row.get(item[0]))) for row in rows)]
    return {
        "columns": ["Epoch", *(name for _, name, _ in columns)],
        "rows": [
            {"epoch": row["epoch"], "chosen": row["epoch"] == chosen,
             "cells": [_figure(_number(row.get(column)), title) for column, _, title in columns]}
            for row in shown
        ],
        "every": every,
    }  # fmt: skip


def _figure(value: float, title: str) -> str:
    if not math.isfinite(value):
        return "\N{EN DASH}"
    return percent(value) if title == "Accuracy" else f"{value:.4g}"


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
    axes.xaxis.set_major_locator(_whole_epochs())
    shares, digits = title == "Accuracy", 4
    if title == "Loss" and min(values) > 0 and max(values) > 100 * min(values):  # a linear axis would show one flat line
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        low, high = limits(values, ceiling=1.0 if shares else math.inf)
        axes.set_ylim(low, high)
        # two digits more than tell one tick from the next: a step of 2.5 has two of its own
        digits = max(digits, math.ceil(math.log10(_TICKS * max(abs(low), abs(high)) / (high - low))) + 2)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=_TICKS, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y) if shares else f"{y:.{digits}g}"))


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


def render(figure: Figure, *, transparent: bool = True) -> str:
    """Return a figure as the text of an SVG file, the same for the same figure. transparent: without its paper."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=transparent, metadata=NO_METADATA)
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
    for color, variable in VARIABLES.items():
        body = body.replace(color, f"var({variable})")
    box = re.search(r'viewBox="[^"]+"', body)
    opening = f'<svg class="chart" role="img" aria-label="{escape(alt)}" {box[0] if box else ""}>'
    return Markup(re.sub(r"\s*\n\s*", "\n", opening + body[body.index(">") + 1 :]).replace("xlink:href", "href"))


def _alt(title: str, columns: Mapping[Line, list[float]], epochs: list[int], chosen: int | None, rates: Sequence[float]) -> str:
    parts: list[str] = []
    for line, values in columns.items():
        known = [value for value in values if math.isfinite(value)]
        shown = [_figure(value, title) for value in (known[0], known[-1])]
        parts.append(f"{line.name} {shown[0]}" + (f" to {shown[1]}" if len(known) > 1 else ""))
    span = f"epoch {epochs[0]}" if len(epochs) == 1 else f"epochs {epochs[0]} to {epochs[-1]}"
    mark = f"; epoch {chosen} was chosen" if chosen in epochs else ""
    known = [rate for rate in rates if math.isfinite(rate)]
    rate = (
        f"; the learning rate under it goes from {known[0]:.2g} over at most {max(known):.2g} to {known[-1]:.2g}" if known else ""
    )
    return f"{title} over {span}: {', '.join(parts)}{mark}{rate}."

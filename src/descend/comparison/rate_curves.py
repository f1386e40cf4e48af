"""The picture of a sensitivity: a curve for every rule, diverged runs below them, and the widths as bars under all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from descend.comparison.width import Curve, in_points
from descend.drawing import COLORS, DASHES, STYLE, Drawing
from descend.percentages import tick

STRIP = 0.045  # of the height, for each rule's diverged runs


def draw_curves(curves: Sequence[Curve], *, title: str) -> Drawing:
    """Draw the mean accuracy of every rule over the rates, with the span of its seeds, its diverged runs, and its width.

    A cross in a rule's own row says that runs diverged at this rate, and how many of how many.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 5.0 + 0.24 * len(curves)), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4.2, 0.5 + 0.26 * len(curves)))
        handles = [_curve(above, curve, number) for number, curve in enumerate(curves)]
        _dress(above, curves)
        for number, curve in enumerate(curves):
            _diverged(above, curve, number, len(curves))
            _width(below, curve, number)
        _dress_widths(below, curves)
        above.legend(handles=handles, loc="best", fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        return Drawing(figure)


def _style(number: int) -> tuple[str, Any]:
    return COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]


def _known(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the rates, the accuracy, and at which rates all seeds came through."""
    accuracy = curve.accuracy.reshape(-1, len(curve.rates))
    known = np.isfinite(accuracy).sum(0) == max(len(accuracy), 1)
    return np.array(curve.rates), accuracy, known


def _curve(axes: Axes, curve: Curve, number: int) -> Line2D:
    rates, accuracy, known = _known(curve)
    color, dashes = _style(number)
    low, mean, high = np.full((3, len(rates)), np.nan)
    if known.any():
        for limit, of in ((low, np.min), (mean, np.mean), (high, np.max)):
            limit[known] = of(accuracy[:, known], axis=0)
    axes.fill_between(rates, low, high, color=color, alpha=0.13, linewidth=0)
    (line,) = axes.plot(
        rates, mean, "o", linestyle=dashes, color=color, linewidth=1.7, markersize=4, label=curve.optimizer, zorder=3
    )
    if curve.width is not None:
        axes.plot([curve.width.best], [curve.width.accuracy.mean], "o", color=color, markersize=9, markerfacecolor="white",
                  markeredgewidth=1.8, zorder=4)  # fmt: skip
    return line


def _diverged(axes: Axes, curve: Curve, number: int, n_rules: int) -> None:
    """Mark the rates at which runs diverged, in a row of the rule's own at the bottom."""
    rates, accuracy, _ = _known(curve)
    lost = np.isnan(accuracy).sum(0)
    y = STRIP * (n_rules - number - 0.5)
    for rate, count in zip(rates, lost, strict=True):
        if count:
            axes.plot([rate], [y], "x", color=_style(number)[0], markersize=6, markeredgewidth=1.6,
                      transform=axes.get_xaxis_transform(), zorder=4)  # fmt: skip
            if count < len(accuracy):
                axes.annotate(f"{count} of {len(accuracy)}", (rate, y), xycoords=axes.get_xaxis_transform(), fontsize=7,
                              textcoords="offset points", xytext=(6, -2), color=_style(number)[0])  # fmt: skip


def _dress(axes: Axes, curves: Sequence[Curve]) -> None:
    axes.set_xscale("log")
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    axes.set_ylabel("accuracy on validation, mean and span of seeds")
    low, high = axes.get_ylim()
    lost = any(np.isnan(curve.accuracy).any() for curve in curves)
    rows = STRIP * (len(curves) + 1) if lost else 0.0  # room for the crosses
    axes.set_ylim(low - (high - low) * rows / (1 - rows), min(high, 1.02))
    if lost:
        axes.axhline(low, color="#999999", linewidth=0.7)
        axes.text(0.003, rows, "× diverged", transform=axes.transAxes, fontsize=8, color="#555555", va="bottom")


def _width(axes: Axes, curve: Curve, number: int) -> None:
    color, width = _style(number)[0], curve.width
    if width is None:
        return
    axes.plot([width.low, width.high], [-number, -number], color=color, linewidth=6, alpha=0.45, solid_capstyle="butt")
    for is_open, end, sign in ((width.open_low, width.low, "<"), (width.open_high, width.high, ">")):
        if is_open:
            axes.plot([end], [-number], sign, color=color, markersize=8)
    axes.plot([width.best], [-number], "o", color=color, markersize=5)
    axes.annotate(f"{width.text} decades", (width.high, -number), textcoords="offset points", xytext=(9, -3), fontsize=8.5)


def _dress_widths(axes: Axes, curves: Sequence[Curve]) -> None:
    axes.set_yticks([-number for number in range(len(curves))], [curve.optimizer for curve in curves])
    axes.set_ylim(-len(curves) + 0.4, 0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"learning rate; bars: within {in_points(curves[0].within)} of the best")
    rates = [rate for curve in curves for rate in curve.rates]
    axes.set_xlim(min(rates) / 1.4, max(rates) * 1.4)

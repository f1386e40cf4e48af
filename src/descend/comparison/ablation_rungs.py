"""The rungs of an ablation, and their picture: where each stands, what it is measured against, and what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from descend.comparison.costs import Costs
from descend.comparison.verdict import Verdict
from descend.drawing import COLORS, STYLE, Drawing
from descend.durations import duration
from descend.percentages import tick

BETTER, WORSE, UNKNOWN = COLORS[0], COLORS[1], "#8a8a8a"
COLUMNS = (("points, interval", 0.02), ("time", 0.62), ("memory", 0.83))
"""What stands beside the rungs, and where, as parts of its width."""


@dataclass(frozen=True, eq=False)
class Rung:
    """One recipe of an ablation. against: what it is measured against. verdict: None without seeds that both have finished."""

    name: str
    against: str | None
    costs: Costs
    verdict: Verdict | None

    @property
    def points(self) -> str:
        """The difference in percentage points with its interval; empty without one."""
        if self.verdict is None:
            return ""
        known = self.verdict.known.interval
        return f"{100 * known.mean:+.1f} [{100 * known.low:+.1f}, {100 * known.high:+.1f}]"

    def facts(self) -> dict[str, Any]:
        """Return the rung as plain data."""
        costs = dataclasses.asdict(self.costs)
        verdict = None if self.verdict is None else self.verdict.facts()
        return {"name": self.name, "against": self.against, **costs, "verdict": verdict}


def draw_ladder(rungs: Sequence[Rung], *, title: str, where: str) -> Drawing:
    """Draw every rung's accuracy with the interval of its difference, beside what it is measured against; time and memory too.

    where: the split that was judged. An interval that misses the line it begins at is a difference; those are colored.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.2, 1.5 + 0.34 * len(rungs)), layout="constrained")
        axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=(1.7, 1.25))
        heights = {rung.name: -place for place, rung in enumerate(rungs)}
        _lines(axes, rungs, heights)
        for rung in rungs:
            _rung(axes, rung, heights, rungs)
        _dress(axes, rungs, heights, where)
        _beside(beside, rungs, heights)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        return Drawing(figure)


def _mean(rung: Rung) -> float | None:
    return None if rung.costs.accuracy is None else rung.costs.accuracy.mean


def _lines(axes: Axes, rungs: Sequence[Rung], heights: dict[str, int]) -> None:
    """Draw the accuracy that rungs are measured against as a line from its rung to the last of those."""
    for opposite in rungs:
        below = [heights[rung.name] for rung in rungs if rung.against == opposite.name]
        at = _mean(opposite)
        if below and at is not None:
            begin = heights[opposite.name]
            axes.plot([at, at], [begin, min(below) - 0.4], color="#999999", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)


def _rung(axes: Axes, rung: Rung, heights: dict[str, int], rungs: Sequence[Rung]) -> None:
    y, mean = heights[rung.name], _mean(rung)
    if mean is None:
        axes.text(0.01, y, "failed", transform=axes.get_yaxis_transform(), color=WORSE, va="center", fontsize=9)
        return
    opposite = next((_mean(other) for other in rungs if other.name == rung.against), None)
    if rung.verdict is None or opposite is None:
        axes.plot([mean], [y], "o", color="#000000", markersize=6, zorder=3)
        return
    known = rung.verdict.known.interval
    color = UNKNOWN if not rung.verdict.different else BETTER if known.mean > 0 else WORSE
    axes.plot([opposite, mean], [y, y], color=color, linewidth=5, alpha=0.3, solid_capstyle="butt", zorder=2)
    shift = mean - known.mean  # so that the interval lies about the dot, also where seeds are missing
    axes.plot([shift + known.low, shift + known.high], [y, y], color=color, linewidth=1.4, zorder=3)
    axes.plot([mean], [y], "o", color=color, markersize=6, zorder=4)


def _dress(axes: Axes, rungs: Sequence[Rung], heights: dict[str, int], where: str) -> None:
    axes.set_yticks([heights[rung.name] for rung in rungs], [rung.name for rung in rungs])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylim(-len(rungs) + 0.4, 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -0.02), min(high, 1.02))
    axes.set_xlabel(f"accuracy on {where}; bars begin at what the rung is measured against")


def _beside(axes: Axes, rungs: Sequence[Rung], heights: dict[str, int]) -> None:
    axes.axis("off")
    for title, x in COLUMNS:
        axes.text(x, 1.0, title, transform=axes.transAxes, color="#555555", fontsize=9, va="bottom")
    for rung in rungs:
        seconds = "-" if rung.costs.wall_s is None else duration(rung.costs.wall_s)
        for (_, x), text in zip(COLUMNS, (rung.points or "-", seconds, rung.costs.memory), strict=True):
            axes.text(x, heights[rung.name], text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)

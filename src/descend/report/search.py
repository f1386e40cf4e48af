"""How a search went: accuracy against time as a drawing, and what each step was, cost and brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from descend.percentages import tick
from descend.report import words
from descend.report.charts import MUTED, SETTINGS, TRAIN, VAL, Chart, dress, finished, limits
from descend.stats import Interval, proportion
from descend.train.record import RunRecord
from descend.train.record_types import SearchStep

CROSS_VALIDATION = "cross-validation"


def search(record: RunRecord) -> dict[str, Any] | None:
    """Return what the page shows of a search: its drawing, its steps and its end; None for a run without one."""
    if not record.search:
        return None
    best = [step for step in record.search if step["best_accuracy"] is not None]
    return {
        "drawing": _drawing(record.search) if len(record.search) > 1 else None,  # one step is a point
        "steps": [step | {"interval": own_interval(step)} for step in record.search],
        "has_best": bool(best),
        "used_s": record.budget_used_s,
        "budget": None if record.search_replayed else record.plan.get("budget"),
        "end": record.reasons.get("search"),
        "choices": record.choices_by_val,
        "has_cross_validated": any(step.get("measured") == CROSS_VALIDATION for step in record.search),
        "refit": record.reasons.get("refit"),
    }


def own_interval(step: SearchStep) -> Interval | None:
    """Return the accuracy of a step's own answers with its 95% interval; None where the step was lost."""
    if step["accuracy"] is None or not step["n"]:
        return None
    n = step.get("n_independent", step["n"])
    return proportion(round(step["accuracy"] * n), n)


def _drawing(steps: Sequence[SearchStep]) -> Chart:
    """Draw the best answer's accuracy on validation over the seconds of the command, and each step's own where it ended."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(7.2, 3.2))
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.1, 0.15, 0.88, 0.8))
        shown = [*_draw_best(axes, steps), *_draw_own(axes, steps)]
        dress(axes, "seconds since the command began")
        axes.set_xlim(0, 1.02 * max(step["ended_s"] for step in steps))
        axes.set_ylim(*limits(shown or [0.0, 1.0], ceiling=1.0))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
        return finished(figure, "The search", "search", _alt(steps))


def _draw_best(axes: Axes, steps: Sequence[SearchStep]) -> list[float]:
    known = [step for step in steps if step["best_accuracy"] is not None]
    if not known:
        return []
    ends = [step["ended_s"] for step in known] + [1.02 * max(step["ended_s"] for step in steps)]
    values = [float(step["best_accuracy"] or 0.0) for step in known]
    lows, highs = zip(*(step["best_interval"] or (value, value) for step, value in zip(known, values, strict=True)), strict=True)
    axes.step(ends, [*values, values[-1]], where="post", color=VAL, linewidth=1.9)
    for bounds in (lows, highs):
        axes.step(ends, [*bounds, bounds[-1]], where="post", color=VAL, linewidth=0.8, linestyle=":")
    return [*values, *lows, *highs]


def _draw_own(axes: Axes, steps: Sequence[SearchStep]) -> list[float]:
    shown: list[float] = []
    for number, step in enumerate(steps, 1):
        interval = own_interval(step)
        if interval is None or step["accuracy"] is None:
            continue
        own = step["accuracy"]  # weighted: not always a whole number of pictures, as the interval rests on
        color, shape = (TRAIN, "o") if step["measured"] == CROSS_VALIDATION else (VAL, "s")
        at = step["ended_s"]
        axes.plot([at, at], [interval.low, interval.high], color=color, linewidth=1.1)
        axes.plot([at], [own], shape, color=color, markersize=5)
        ink = MUTED if color == TRAIN else color  # a number is text, which must stand out more than a mark
        axes.annotate(str(number), (at, own), textcoords="offset points", xytext=(6, -13), color=ink)
        shown += [interval.low, interval.high]
    return shown


def _alt(steps: Sequence[SearchStep]) -> str:
    parts = [
        f"{step['best_accuracy']:.1%} after {words.duration(step['ended_s'])}"
        for step in steps
        if step["best_accuracy"] is not None
    ]
    return f"Accuracy of the best answer on validation against time: {', '.join(parts) or 'not measured'}."

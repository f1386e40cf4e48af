"""Pictures of learning rates: a range test, and schedules over a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from descend.drawing import COLORS, DASHES, STYLE, Drawing, Moving
from descend.schedule import Decision, History, RangeTest, Schedule

N_POINTS = 601


def draw_range_test(result: RangeTest, *, title: str = "") -> Drawing:
    """Draw the losses of a sweep over the rates: every step as a dot, the smooth curve, what counts of it, the suggestion."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(result.rates, result.losses, ".", color="#9a9a9a", markersize=3.5, label="loss of the step's batch")
        (line,) = axes.plot(result.rates, result.smooth, color=COLORS[0], linewidth=2, label="smoothed")
        if result.suggestion is not None:
            at = int(np.argmin(np.abs(result.rates - result.suggestion)))
            label = f"suggestion {result.suggestion:.2g}: steepest fall"
            axes.plot(result.suggestion, result.smooth[at], "o", color=COLORS[1], markersize=8, label=label)
        end = result.n_before_rise
        least = int(result.smooth[:end].argmin())
        axes.plot(result.lowest, result.smooth[least], "v", color=COLORS[2], markersize=7, label=f"lowest {result.lowest:.2g}")
        if result.rise is not None:
            axes.axvspan(result.rise, result.high, color="#eeeeee", zorder=0, label=f"rises clearly from {result.rise:.2g}")
        axes.set_xscale("log")
        axes.set_xlim(result.low, result.high)
        low, high = float(result.smooth[:end].min()), float(result.smooth[: least + 1].max())
        reach = max(high - low, 0.05 * abs(high), 1e-6)
        axes.set_ylim(low - 0.25 * reach, high + 0.6 * reach)  # what diverged may leave by the top
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss")
        axes.set_title(title or "learning-rate range test")
        axes.legend(loc="lower left")
        return Drawing(figure, (Moving(line, result.rates, result.smooth),))


def draw_schedules(schedules: Mapping[str, Schedule], *, history: History | None = None, title: str = "") -> Drawing:
    """Draw the factor of each schedule over a run; those that need one are given ``history``, and their decisions are marked.

    schedules: label -> schedule.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        progress = np.linspace(0, 1, N_POINTS)
        for number, (label, schedule) in enumerate(schedules.items()):
            color, dashes = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
            factors = [schedule.factor(float(p), history) for p in progress]
            axes.plot(progress, factors, linestyle=dashes, color=color, linewidth=1.8, label=label)
            decisions: Sequence[Decision] = () if history is None else schedule.decisions(history)
            for decision in decisions:
                at = decision.epoch / (history.n_epochs if history else 1)
                axes.plot(at, schedule.factor(at, history), "D", color=color, markersize=5, zorder=4)
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.03, 1.06)
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel("progress of the run")
        axes.set_ylabel("factor on the learning rate")
        axes.set_title(title)
        figure.legend(loc="outside right upper")
        return Drawing(figure)

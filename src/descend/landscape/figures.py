"""Pictures of races and slices: paths over contours, and the losses beside them."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from scipy.interpolate import RegularGridInterpolator

from descend.drawing import COLORS, DASHES, STYLE, Drawing, Moving
from descend.landscape.course import Course
from descend.landscape.racing import Outcome
from descend.landscape.slice import Slice
from descend.landscape.surface import Floats, Surface

GRID, N_BANDS = 401, 14
LONGEST = 62  # characters of a title that stand above the paths without running into the next one
FLOOR = 1e-12
"""The least loss drawn: below, a logarithmic axis would show nothing but rounding."""
FAR = 1e9
"""The distance and the loss from which a walk that diverges is no longer drawn; axes overflow long before floats do."""
_PATCH = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0}  # path effects would turn text into outlines


def draw_race(course: Course, outcomes: Sequence[Outcome], *, title: str = "") -> Drawing:
    """Draw the path of seed 0 of every rule, one of the walks counted, over the contours of the surface, and beside it its loss.

    In more than two dimensions the contours are those of the plane of the first and last coordinate through the minimum.
    Lines are told apart by color (safe for color-blind eyes), dashes and the legend, which holds each rule's spec text.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.12, 1))
        start = outcomes[0].picture.points[0, 0]  # the same for every rule
        window = _window(course, start)
        _contours(left, course.surface, window)
        moving: list[Moving] = []
        for number, outcome in enumerate(outcomes):
            moving += _draw(left, right, outcome, number)
        _dress_paths(left, course, start, window, title or _title(course, outcomes[0].n))
        _dress_losses(right, course, outcomes)
        figure.legend(handles=right.get_lines()[: len(outcomes)], loc="outside lower center", ncols=min(3, len(outcomes)))
        return Drawing(figure, tuple(moving))


def _window(course: Course, start: Floats) -> tuple[float, float, float, float]:
    left, right, bottom, top = course.surface.window()
    if course.start is None and not course.spread:
        return left, right, bottom, top
    x, y, spare = float(start[0]), float(start[-1]), 0.08
    wide, high = spare * (right - left), spare * (top - bottom)
    return min(left, x - wide), max(right, x + wide), min(bottom, y - high), max(top, y + high)


def _contours(axes: Axes, surface: Surface, window: tuple[float, float, float, float]) -> None:
    a, b = np.linspace(*window[:2], GRID), np.linspace(*window[2:], GRID)
    row = np.tile(np.array(surface.minimum()), (GRID, 1))
    row[:, 0] = a
    losses = np.empty((GRID, GRID))
    for at, y in enumerate(b):  # row by row, because a row of a surface of many dimensions is large
        row[:, -1] = y
        losses[at] = surface.loss(row)
    _bands(axes, a, b, losses)


def _bands(axes: Axes, a: Floats, b: Floats, losses: Floats) -> Floats:
    """Shade between quantiles of the losses (B, A), every band as large as every other, whatever the scale; return the borders.

    An image of few shades is a tenth of what contours cost as vectors.
    """
    levels = np.unique(np.quantile(losses[np.isfinite(losses)], np.linspace(0, 1, N_BANDS + 1)))
    shades = ListedColormap(matplotlib.colormaps["Greys"](np.linspace(0.02, 0.42, N_BANDS)))
    half = (a[1] - a[0]) / 2, (b[1] - b[0]) / 2
    extent = (a[0] - half[0], a[-1] + half[0], b[0] - half[1], b[-1] + half[1])
    bands = np.searchsorted(levels[1:-1], losses, side="right") * (N_BANDS - 1) / max(len(levels) - 2, 1)
    axes.imshow(
        bands,
        cmap=shades,
        vmin=-0.5,
        vmax=N_BANDS - 0.5,
        extent=extent,
        origin="lower",
        aspect="auto",
        interpolation="none",
        zorder=0,
    )
    return levels


def _draw(left: Axes, right: Axes, outcome: Outcome, number: int) -> list[Moving]:
    trace = outcome.picture
    color, dashes = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
    x, y = trace.points[:, 0, 0], trace.points[:, 0, -1]
    known = (np.abs(x) < FAR) & (np.abs(y) < FAR)
    x, y = x[known], y[known]
    marks = _marks(x, y)
    (path,) = left.plot(x, y, "o", linestyle=dashes, color=color, linewidth=1.5, markersize=2.2, markevery=marks, zorder=3)
    left.plot(x[-1:], y[-1:], "o", color=color, markersize=6, markeredgecolor="white", zorder=4)
    losses = np.where(np.abs(trace.losses[:, 0]) < FAR, np.maximum(trace.losses[:, 0], FLOOR), np.nan)
    steps = np.arange(len(losses), dtype=np.float64)
    (curve,) = right.plot(steps, losses, linestyle=dashes, color=color, linewidth=1.6, label=outcome.label)
    return [Moving(path, x, y, tuple(marks)), Moving(curve, steps, losses)]


def _marks(x: Floats, y: Floats) -> list[int]:
    """Return the steps worth a dot: those that begin visibly far from the last dot. A thousand dots on one spot say nothing."""
    least, marks = 0.015 * max(np.ptp(x), np.ptp(y), 1e-9), [0]
    for step in range(1, min(len(x), 2000)):
        if np.hypot(x[step] - x[marks[-1]], y[step] - y[marks[-1]]) > least:
            marks.append(step)
    return marks[:150]


def _dress_paths(axes: Axes, course: Course, begin: Floats, window: tuple[float, float, float, float], title: str) -> None:
    minimum = course.surface.minimum()
    axes.plot(minimum[0], minimum[-1], "*", color="#000000", markersize=11, markeredgecolor="white", zorder=5)
    axes.plot(begin[0], begin[-1], "o", color="white", markeredgecolor="#000000", markeredgewidth=1.4, markersize=7, zorder=5)
    axes.annotate("start", (begin[0], begin[-1]), (7, 7), textcoords="offset points", bbox=_PATCH, zorder=6)
    axes.set_xlim(*window[:2])
    axes.set_ylim(*window[2:])
    n_dims = len(minimum)
    axes.set_xlabel("parameter 1")
    axes.set_ylabel(f"parameter {n_dims}")
    whole = f"{title}   (★ minimum)"
    axes.set_title(whole if len(whole) <= LONGEST else "\n".join([*wrap(title, LONGEST), "(★ minimum)"]))


def _title(course: Course, n: int) -> str:
    noise, which = f", gradient noise {course.noise:g}" if course.noise else "", f", seed 0 of {n}" if n > 1 else ""
    return f"{course.surface}{noise}{which}"


def _dress_losses(axes: Axes, course: Course, outcomes: Sequence[Outcome]) -> None:
    axes.set_yscale("log")
    shown = np.concatenate([outcome.picture.losses[:, 0] for outcome in outcomes])
    shown = shown[np.abs(shown) < FAR] if (np.abs(shown) < FAR).any() else np.array([FAR])  # all of them are far beyond
    begin = max(float(outcomes[0].picture.losses[0, 0]), FLOOR)
    goal = max(course.goal, FLOOR)
    axes.set_ylim(
        max(FLOOR / 2, min(goal, max(float(shown.min()), goal * 1e-4)) / 2), max(min(float(shown.max()), begin * 30), goal) * 2
    )
    axes.axhline(goal, color="#777777", linewidth=0.9, linestyle=":", zorder=1)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}  # at the left, where losses are still high
    axes.annotate(f"target {course.goal:g}", (0, goal), (5, 3), **place, color="#555555", fontsize=9, zorder=1.5)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlim(0, course.n_steps)
    axes.set_xlabel("step")
    axes.set_title("loss, without noise" if course.noise else "loss")


def _shade(axes: Axes, sliced: Slice) -> Floats:
    """Shade the slice, its coarse grid made smooth in between; losses that were not finite take the darkest shade."""
    highest = sliced.losses[np.isfinite(sliced.losses)].max(initial=FLOOR)
    logs = np.log(np.maximum(np.where(np.isfinite(sliced.losses), sliced.losses, highest), FLOOR))
    smooth = RegularGridInterpolator((sliced.a, sliced.b), logs)
    a, b = np.linspace(sliced.a[0], sliced.a[-1], GRID), np.linspace(sliced.b[0], sliced.b[-1], GRID)
    return _bands(axes, a, b, np.exp(smooth(tuple(np.meshgrid(a, b)))))


def draw_slice(sliced: Slice, *, title: str = "") -> Drawing:
    """Draw the loss on a plane through a network's weights, and the training path where the plane holds one."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.6), layout="constrained")
        axes = figure.subplots()
        levels = _shade(axes, sliced)
        bar = figure.colorbar(axes.images[0], ax=axes, ticks=np.linspace(-0.5, N_BANDS - 0.5, len(levels)), label="loss")
        bar.ax.set_yticklabels([f"{level:.3g}" for level in levels])
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        moving: list[Moving] = []
        path = sliced.plane.path
        if len(path):
            (line,) = axes.plot(path[:, 0], path[:, 1], "o-", color=COLORS[0], linewidth=1.6, markersize=3.5, zorder=3)
            moving.append(Moving(line, path[:, 0], path[:, 1], tuple(range(len(path)))))
            axes.annotate("first", (path[0, 0], path[0, 1]), (6, 6), textcoords="offset points", bbox=_PATCH, zorder=6)
        axes.plot(0, 0, "*", color="#000000", markersize=12, markeredgecolor="white", zorder=5)
        names = ["direction 1, in filter norms", "direction 2, in filter norms"]
        if sliced.plane.explained:
            names = [f"principal direction {k + 1} ({share:.0%} of the path)" for k, share in enumerate(sliced.plane.explained)]
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        axes.set_title(title or "loss around the trained weights (★)")
        return Drawing(figure, tuple(moving))

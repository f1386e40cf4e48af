"""The figures of a report as files beside it, for slides and papers: ``figures/NAME.svg`` and ``figures/NAME.png``.

They are drawn in the page's light colors on its paper. What stood there before under the same name is replaced.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from descend.report.charts import INK, MUTED, PAPER, SETTINGS, VARIABLES, Chart, finished, render
from descend.report.confusion import RIGHT, TABLE_UP_TO, WRONG
from descend.report.words import SPLITS, printable
from descend.train import folder

DPI = 160
HEADLINE = 0.32  # inches that the title takes above a figure
UPRIGHT_UP_TO = 4  # classes whose names stand above its columns as they are read
NAMED_UP_TO = 40  # classes whose names stand beside a confusion matrix


def write(run: Path, charts: Sequence[Chart]) -> list[Path]:
    """Write every chart into ``figures/`` of a run folder, each file atomically. Raises RunError where it cannot be written."""
    place = run / folder.FIGURES
    written: list[Path] = []
    if charts:
        folder.make_inner(place)
    with matplotlib.rc_context(SETTINGS), _any_script():
        for chart in charts:
            _complete(chart)
            for ending, content in (("svg", render(chart.figure, transparent=False).encode()), ("png", _png(chart.figure))):
                path = place / f"{chart.name}.{ending}"
                with folder.replacing(path) as unfinished:
                    unfinished.write_bytes(content)
                written.append(path)
    return written


def confusion(split: str, counts: Sequence[Sequence[int]] | NDArray[np.int64], classes: Sequence[str]) -> Chart:
    """Draw a confusion matrix: counts[true][answered], (K, K); shades are shares of the true class. The page has its own."""
    table = np.asarray(counts, np.int64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    n = len(table)
    with matplotlib.rc_context(SETTINGS), _any_script():
        turned = n > UPRIGHT_UP_TO
        height = 6.0 if turned else 5.2  # inches: names that stand upright need no room above
        figure = Figure(figsize=(6.0, height))
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.26, 0.3 / height, 0.7, 4.2 / height))
        axes.imshow(_shades(shares), interpolation="nearest", aspect="equal")
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        names = [_short(name) for name in classes] if n <= NAMED_UP_TO else []
        size = min(11.0, 240 / n)
        at = range(len(names))
        axes.set_xticks(at, names, rotation=90 if turned else 0, fontsize=size, color=INK)
        axes.set_yticks(at, names, fontsize=size, color=INK)
        axes.tick_params(length=0)
        axes.set_xlabel("answered", color=MUTED)
        axes.set_ylabel("true", color=MUTED)
        for spine in axes.spines.values():
            spine.set_visible(False)
        for row, column in np.argwhere(table) if n <= TABLE_UP_TO else ():
            axes.text(column, row, f"{table[row, column]:,}", ha="center", va="center", color=INK, fontsize=size)
        return finished(figure, f"Confusions on {SPLITS[split]}", f"confusion-{split}", "", on_page=False)


@contextmanager
def _any_script() -> Iterator[None]:
    """Let names of classes have letters that matplotlib's font lacks: an SVG's reader has them, a PNG gets boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")  # scripts that are shaped
        yield


def _shades(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    pixels = np.zeros((*shares.shape, 4), np.uint8)
    pixels[..., :3] = WRONG
    pixels[np.arange(len(shares)), np.arange(len(shares)), :3] = RIGHT
    pixels[..., 3] = np.where(shares > 0, 30 + 118 * shares, 0).astype(np.uint8)  # numbers stay legible on the darkest
    return pixels


def _short(name: str) -> str:
    name = " ".join(printable(name).split()).replace("$", r"\$")  # matplotlib reads formulas between dollars
    return name if len(name) <= 20 else f"{name[:19]}\N{HORIZONTAL ELLIPSIS}"


@cache
def palette() -> Mapping[str, str]:
    """Return the page's light colors: the stand-in that charts are drawn in -> the color of the style sheet."""
    style = files("descend.report").joinpath("templates", "style.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", style[: style.index("}")]))
    return {stand_in: light[variable] for stand_in, variable in VARIABLES.items()}


def _complete(chart: Chart) -> None:
    """Give a chart's figure its title, its legend and real colors: on a page they come from around it. The figure keeps them."""
    figure = chart.figure
    wide, high = map(float, figure.get_size_inches())
    higher = high + HEADLINE
    for axes in figure.axes:
        place = axes.get_position()
        axes.set_position((place.x0, place.y0 * high / higher, place.width, place.height * high / higher))
    figure.set_size_inches(wide, higher)
    level = 1 - 0.45 * HEADLINE / higher
    figure.text(0.02, level, chart.title, color=INK, weight="bold", va="center")
    if len(chart.lines) > 1:
        shown = [
            Line2D([], [], color=line.color, linestyle=line.dashes, linewidth=line.width)  # pyright: ignore[reportArgumentType] (one of matplotlib's)
            for line in chart.lines
        ]
        figure.legend(
            shown, [line.name for line in chart.lines], loc="center right", bbox_to_anchor=(1.0, level), ncols=len(shown),
            frameon=False, fontsize=9, labelcolor=MUTED, borderaxespad=0,
        )  # fmt: skip
    figure.set_facecolor(PAPER)
    for artist in figure.findobj():
        _recolor(artist)


def _png(figure: Figure) -> bytes:
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(buffer, "PNG", dpi=(DPI, DPI))
    return buffer.getvalue()


def _recolor(artist: Artist) -> None:
    """Give an artist real colors in place of stand-ins."""
    for quality in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
        get, set_ = getattr(artist, f"get_{quality}", None), getattr(artist, f"set_{quality}", None)
        if get is None or set_ is None:
            continue
        held = get()
        if isinstance(held, np.ndarray) and held.ndim == 2:  # of a collection: a color per part
            set_([_real(color) for color in held])
        elif held is not None:
            set_(_real(held))


def _real(color: object) -> object:
    if isinstance(color, str) and color in ("none", "auto"):
        return color
    rgba = to_rgba(color)  # pyright: ignore[reportArgumentType] (a color of matplotlib's own)
    known = palette().get(to_hex(rgba))
    return color if known is None else (*to_rgba(known)[:3], rgba[3])

"""Draw the pictures of docs/augmentation and fill the tables of its page from benchmarks/results/augment_study.json.

    python docs/augmentation/build.py

Tables are filled by docs/tables.py. Same results, same bytes.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from descend.drawing import COLORS, STYLE, Drawing, save

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results" / "augment_study.json"
fill = runpy.run_path(str(HERE.parent / "tables.py"))["fill"]

Rows = dict[str, dict[str, float]]  # what -> mean, low, high


def dots(axes: Axes, rows: Rows, color: str, title: str, unit: str) -> None:
    """Draw differences in points with their intervals, one line each; filled where the interval excludes zero."""
    for at, interval in enumerate(reversed(rows.values())):
        middle, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
        inside = color if low > 0 or high < 0 else "white"
        axes.plot([low, high], [at, at], "-", color=color, linewidth=1.8)
        axes.plot([middle], [at], "o", color=color, markersize=6.5, markerfacecolor=inside, markeredgewidth=1.6)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(rows)), list(reversed(rows)))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(unit)
    axes.set_title(title)


def panels(*parts: tuple[Rows, str, str]) -> Drawing:
    """Draw panels side by side: (rows, title, unit) each."""
    with matplotlib.rc_context(STYLE):
        n = max(len(rows) for rows, _, _ in parts)
        figure = Figure(figsize=(4.1 * len(parts), 1.1 + 0.32 * n), layout="constrained")
        row = figure.subplots(1, len(parts), squeeze=False)[0]
        for axes, color, (rows, title, unit) in zip(row, COLORS, parts, strict=False):
            dots(axes, rows, color, title, unit)
        return Drawing(figure)


def points(interval: dict[str, float], *, signed: bool = False) -> str:
    """Return a share as percent, a difference as points, with its interval."""
    middle, low, high = (f"{100 * interval[key]:{'+' if signed else ''}.1f}" for key in ("mean", "low", "high"))
    return f"{middle} ({low} to {high})".replace("-", "−")


def arms(study: dict[str, Any]) -> str:
    """Return the table of one study: every arm's accuracies, and how it differs from the first."""
    first = next(iter(study["arms"]))
    lines = [
        f"| augmentation | test, % | training, % | gap, points | test against {first} | gap against {first} |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in study["arms"].items():
        specs = ", ".join(f"`{text}`" for text in study["setting"]["arms"][name]) or "none"
        against = [points(row[f"{what} over {first}"], signed=True) if name != first else "" for what in ("test", "gap")]
        cells = [f"**{name}**: {specs}" if specs != name else name, *(points(row[what]) for what in ("test", "train", "gap"))]
        lines.append("| " + " | ".join([*cells, *against]) + " |")
    return "\n".join(lines)


def classes(pair: dict[str, Any]) -> str:
    """Return the table of one pair of arms, class by class."""
    lines = ["| class | recall without, % | with, % | difference, points |", "|---|---|---|---|"]
    for label, row in pair.items():
        means = [f"{100 * row[arm]['mean']:.1f}" for arm in ("without", "with")]  # an interval of so few would pass 100%
        cells = [*means, points(row["difference"], signed=True)]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines)


def setting(study: dict[str, Any]) -> str:
    """Return how a study was run, and how long its runs took here."""
    how, walls = study["setting"], sorted(run["wall_s"] for run in study["runs"].values())
    return (
        f"`{how['backbone']}` at {how['size']} px, {how['epochs']} epochs, batch {how['batch']}, {study['seeds']} paired seeds; "
        f"a run took {walls[len(walls) // 2]:.0f} s (median) on one thread of a busy machine."
    )


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Return name -> Markdown of everything measured that the page shows."""
    texts = {f"{name}_setting": setting(study) for name, study in result.items()}
    texts |= {name: arms(study) for name, study in result.items()}
    return texts | ({"classes": classes(result["signs"]["by class"]["flip over none"])} if "signs" in result else {})


def main() -> None:
    """Draw and fill."""
    result = json.loads(RESULTS.read_text(encoding="utf-8"))["result"]
    (HERE / "figures").mkdir(exist_ok=True)
    others = {name: row for name, row in result["families"]["arms"].items() if name != "none"}
    drawing = panels(
        ({name: row["test over none"] for name, row in others.items()}, "test accuracy against none", "points"),
        ({name: row["gap over none"] for name, row in others.items()}, "train-validation gap against none", "points"),
    )
    save(drawing, HERE / "figures" / "families.svg")
    if "signs" in result:
        pairs = result["signs"]["by class"]
        rows = [{label: row["difference"] for label, row in pair.items()} for pair in pairs.values()]
        titles = [name.replace(" over ", " against ") for name in pairs]
        drawing = panels(*((row, title, "points of recall") for row, title in zip(rows, titles, strict=True)))
        save(drawing, HERE / "figures" / "signs.svg")
    page = HERE / "README.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), tables(result).__getitem__), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

"""Draw the pictures of docs/regularization and fill the tables of its pages from benchmarks/results/regularization.json.

    python docs/regularization/build.py

Tables PAGE.NAME are filled by docs/tables.py. Same results, same bytes.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from descend.drawing import COLORS, STYLE, Drawing, save

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results" / "regularization.json"
fill = runpy.run_path(str(HERE.parent / "tables.py"))["fill_rows"]

Row = dict[str, Any]


def bars(axes: Axes, x: Sequence[float], found: Sequence[Row], label: str, color: str, marker: str = "o") -> None:
    """Draw means with their intervals."""
    means = [value["mean"] for value in found]
    reach = [[value["mean"] - value["low"] for value in found], [value["high"] - value["mean"] for value in found]]
    axes.errorbar(x, means, reach, fmt=f"-{marker}", color=color, capsize=3, linewidth=1.6, markersize=5, label=label)


def ensemble(axes: Axes, result: Row) -> None:
    """Accuracy against the number of averaged masks, beside the one scaled pass."""
    rows = {row[""]: row["accuracy, %"] for row in result["ensemble"]["mnist"]}
    averages = [(int(name.split()[2]), value) for name, value in rows.items() if name.startswith("average of")]
    counts, values = [1, *(n for n, _ in averages)], [rows["one mask"], *(value for _, value in averages)]
    bars(axes, counts, values, "average of n masks", COLORS[0])
    scaled = rows["weight scaling, one pass"]
    axes.axhline(scaled["mean"], color=COLORS[1], linewidth=1.6, label="weight scaling, one pass")
    axes.axhspan(scaled["low"], scaled["high"], color=COLORS[1], alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.minorticks_off()
    axes.set_xlabel("masks averaged")
    axes.set_ylabel("accuracy, %")
    axes.set_title("MNIST-5k, 784-256-10, dropout 0.5")


def randomness(axes: Axes, result: Row) -> None:
    """Share of changed answers against p."""
    rows = result["randomness"]["changes"]
    rates = [row["p"] for row in rows]
    for name, color, marker in (("left on", COLORS[1], "o"), ("evaluation (default)", COLORS[0], "s")):
        bars(axes, rates, [row[f"answers that change, {name}, %"] for row in rows], name, color, marker)
    axes.set_xticks(rates)
    axes.set_xlabel("drop probability p")
    axes.set_ylabel("answers that change, %")
    axes.set_title("two passes over the same 1,000 pictures")


def coadaptation(axes: Axes, result: Row) -> None:
    """Accuracy against the number of removed features."""
    rows = [row for row in result["coadaptation"]["removal"] if row["features removed, of 256"].endswith("at random")]
    counts = [int(row["features removed, of 256"].split()[0]) for row in rows]
    bars(axes, counts, [row["with dropout 0.5, %"] for row in rows], "with dropout 0.5", COLORS[0])
    bars(axes, counts, [row["without dropout, %"] for row in rows], "without dropout", COLORS[1], "s")
    axes.set_xticks([0, 64, 128, 192, 256])
    axes.set_xlabel("hidden features removed at random, of 256")
    axes.set_ylabel("accuracy, %")
    axes.set_title("MNIST-5k, 784-256-10")


PICTURES = {"ensemble": ensemble, "randomness": randomness, "coadaptation": coadaptation}


def main() -> None:
    """Draw and fill."""
    result = json.loads(RESULTS.read_text(encoding="utf-8"))["result"]
    (HERE / "figures").mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(6.2, 3.4), layout="constrained")
            axes = figure.subplots()
            axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
            draw(axes, result)
            axes.legend()
            save(Drawing(figure), HERE / "figures" / f"{name}.svg")
    for page in sorted(HERE.glob("*.md")):
        page.write_text(fill(page.read_text(encoding="utf-8"), result), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

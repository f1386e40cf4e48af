"""Draw the pictures of docs/surfaces and fill the tables of its pages from benchmarks/results/surfaces.json.

    python docs/surfaces/build.py

Tables PAGE.NAME are filled by docs/tables.py. Same results, same bytes.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from descend.drawing import COLORS, STYLE, Drawing, save
from descend.landscape import (
    Bowl,
    Course,
    LocalMinimum,
    Plateau,
    Ravine,
    Rosenbrock,
    Saddle,
    draw_race,
    race,
)  # fmt: skip
from descend.schedule import Cosine

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results" / "surfaces.json"
fill = runpy.run_path(str(HERE.parent / "tables.py"))["fill_rows"]

PICTURES: dict[str, tuple[Course, list[str], str]] = {
    "zigzag": (Course(surface=Ravine(), n_steps=120), ["sgd(lr=0.19)", "momentum(lr=0.02)"], "condition number 100"),
    "turned": (
        Course(surface=Ravine(angle=30.0), n_steps=200),
        ["momentum(lr=0.068)", "adagrad(lr=1.5)", "rmsprop(lr=0.1)", "adam(lr=1.0)"],
        "the same ravine, turned by 30°",
    ),
    "saddle": (
        Course(surface=Saddle(sharpness=0.5), n_steps=400),
        ["sgd(lr=0.1)", "momentum(lr=0.1)", "adam(lr=0.01)", "rmsprop(lr=0.01)"],
        "from the ridge of a saddle, a millionth beside the line",
    ),
    **{
        f"noise{'-cosine' if schedule else ''}{suffix}": (
            Course(surface=Ravine(condition=condition), n_steps=300, noise=0.3, schedule=schedule),
            ["sgd(lr=0.1)", "momentum(lr=0.01)", "adam(lr=0.1)"],
            f"condition number {condition:g}, noise 0.3, {'cosine()' if schedule else 'constant rates'}",
        )
        for condition, suffix in ((4.0, ""), (100.0, "-100"))
        for schedule in (None, Cosine())
    },
    "local-minimum": (
        Course(surface=LocalMinimum(), n_steps=150),
        ["sgd(lr=0.01)", "momentum(lr=0.01, momentum=0.5)", "momentum(lr=0.01)"],
        "a local minimum on the way",
    ),
    "plateau": (
        Course(surface=Plateau(), n_steps=300),
        ["sgd(lr=0.05)", "momentum(lr=0.05, momentum=0.8)", "momentum(lr=0.05)"],
        "a slope, a plateau, a well",
    ),
    "nesterov": (
        Course(surface=Ravine(), n_steps=200),
        ["momentum(lr=0.02, momentum=0.95)", "nesterov(lr=0.02, momentum=0.95)"],
        "same rate, same momentum",
    ),
    "adagrad-bowl": (Course(surface=Bowl(), n_steps=40), ["adagrad(lr=1.5)", "rmsprop(lr=0.1)"], "a convex bowl"),
    "adagrad-plateau": (
        Course(surface=Plateau(), n_steps=1000), ["adagrad(lr=0.1)", "rmsprop(lr=0.1)"], "a slope, a plateau, a well",
    ),
    "rmsprop": (
        Course(surface=Rosenbrock(), n_steps=600),
        ["momentum(lr=0.0015)", "rmsprop(lr=0.0046)", "adam(lr=0.15)"],
        "a curved ravine",
    ),
    "adam": (
        Course(surface=Bowl(), n_steps=60), ["adam(lr=0.1)", "adam(lr=0.1, debias=False)"], "with and without bias correction",
    ),
}  # fmt: skip


def saddle_share(rows: list[dict[str, Any]]) -> Drawing:
    """Draw how critical points divide, by dimension."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 3.6), layout="constrained")
        axes = figure.subplots()
        n_dims = [row["dimensions"] for row in rows]
        for name, label, color, marker in (
            ("saddles among critical points", "saddles", COLORS[0], "o"),
            ("minima among critical points", "minima (maxima alike)", COLORS[1], "s"),
        ):
            shares = [row[name]["mean"] for row in rows]
            below, above = ([abs(row[name][end] - row[name]["mean"]) for row in rows] for end in ("low", "high"))
            axes.errorbar(n_dims, shares, [below, above], fmt=f"-{marker}", color=color, capsize=3, linewidth=1.6, label=label)
        coins = [row["saddles if signs were coins"] for row in rows]
        axes.plot(n_dims, coins, "x", color="#000000", markersize=6, label="saddles if signs were coins")
        axes.set_xlabel("dimensions")
        axes.set_ylabel("share of critical points")
        axes.set_ylim(-0.03, 1.05)
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
        axes.set_title("critical points of an isotropic Gaussian random field")
        axes.legend(loc="center right")
        return Drawing(figure)


def main() -> None:
    """Draw and fill."""
    result = json.loads(RESULTS.read_text(encoding="utf-8"))["result"]
    (HERE / "figures").mkdir(exist_ok=True)
    for name, (course, rules, title) in PICTURES.items():
        save(draw_race(course, race(course, rules, n_seeds=1), title=title), HERE / "figures" / f"{name}.svg")
    save(saddle_share(result["saddles"]["dimensions"]), HERE / "figures" / "saddle-share.svg")
    for page in sorted(HERE.glob("*.md")):
        page.write_text(fill(page.read_text(encoding="utf-8"), result), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

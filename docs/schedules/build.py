"""Draw the pictures of docs/schedules and fill its tables from benchmarks/results/schedules.json and watch_level.json.

    python docs/schedules/build.py

Tables PAGE.NAME are filled by docs/tables.py. Same results, same bytes.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from descend.drawing import COLORS, STYLE, Drawing, save
from descend.landscape import draw_schedules
from descend.schedule import History, Schedule
from descend.technique import build

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
fill = runpy.run_path(str(HERE.parent / "tables.py"))["fill_rows"]

PICTURES: dict[str, tuple[str, list[str]]] = {
    "steps": ("constant and in steps", ["constant()", "step()", "multi_step()", "per_epoch(exponential())"]),
    "slow": ("slow decays", ["exponential()", "inverse_time()", "inverse_sqrt()"]),
    "to-zero": ("to zero at the end", ["linear()", "polynomial()", "cosine()", "then(warmup(), cosine())"]),
    "shaped": ("cycles and plains", ["cosine_restarts()", "one_cycle()", "wsd()", "repeat(linear(), n_cycles=3)"]),
}
N_EPOCHS = 24


def run_picture(curves: dict[str, Any], text: str) -> Drawing:
    """Draw one run: its losses above, its rate below, its decisions as lines."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        found, fixed = curves[text], curves["constant()"]
        epochs = np.arange(1, len(found["val_loss"]) + 1)
        above.plot(epochs, fixed["val_loss"], color="#9a9a9a", linewidth=1.2, label="validation, constant()")
        above.plot(epochs, found["train_loss"], color=COLORS[1], linewidth=1.4, linestyle="--", label="training")
        above.plot(epochs, found["val_loss"], color=COLORS[0], linewidth=1.8, label="validation")
        above.set_yscale("log")
        above.set_ylabel("loss")
        above.set_title(f"{text}, seed 0")
        below.step(epochs, found["rates"], where="mid", color="#333333", linewidth=1.6)
        below.set_ylim(0, 1.1 * max(found["rates"]))
        below.set_ylabel("rate at its end")
        below.set_xlabel("epoch")
        for epoch, what, _ in found["decisions"]:
            for axes in (above, below):
                axes.axvline(epoch + 0.5, color=COLORS[2], linewidth=1.1, linestyle=":")
            if what.startswith("decay"):
                above.annotate("decay begins", (epoch + 0.5, 0.93), (4, 0), xycoords=("data", "axes fraction"),
                               textcoords="offset points", color=COLORS[2])  # fmt: skip
        above.legend(loc="lower left")
        return Drawing(figure)


def decisions(curves: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what ``watch()`` decided for every seed."""
    return [
        {"seed": seed, "after epoch": epoch, "decision": f"{what}: {why}"}
        for seed, told in enumerate(curves["watch() everywhere"])
        for epoch, what, why in told
    ]


def result(name: str) -> dict[str, Any]:
    """Return what a benchmark measured."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["result"]


def measured() -> dict[str, Any]:
    """Return the tables of the page, by page and name."""
    found = result("schedules")
    runs = [{name: "–" if value is None else value for name, value in row.items()} for row in found["schedules"]["runs"]]
    return {"schedules": {"runs": runs, "decisions": decisions(found["curves"])}, "watch": result("watch_level")["watch"]}


def main() -> None:
    """Draw and fill."""
    curves = result("schedules")["curves"]
    (HERE / "figures").mkdir(exist_ok=True)
    history = History(N_EPOCHS, val_loss=(1.0,) * N_EPOCHS)  # for the number of epochs alone
    for name, (title, texts) in PICTURES.items():
        drawn = draw_schedules({text: build(text, Schedule) for text in texts}, history=history, title=title)
        save(drawn, HERE / "figures" / f"{name}.svg")
    for text in ("watch()", "plateau()"):
        save(run_picture(curves, text), HERE / "figures" / f"{text.removesuffix('()')}.svg")
    page = HERE / "README.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), measured()), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

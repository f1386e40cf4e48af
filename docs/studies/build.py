"""Draw the pictures of docs/studies and fill its tables from benchmarks/results/study_*.json.

    python docs/studies/build.py

Tables PLACE.NAME are filled by docs/tables.py. Same results, same bytes.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from descend.comparison import Curve
from descend.comparison.rate_curves import draw_curves
from descend.landscape import Drawing, save
from descend.landscape.drawing import COLORS, STYLE

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
fill = runpy.run_path(str(HERE.parent / "tables.py"))["fill_rows"]
STUDIES = ("optimizers", "watch", "norm_dropout", "drop_layers", "augment")
NAMES = {"digits": "digits", "cifar": "CIFAR-10", "signs": "hands", "mnist": "MNIST"}
SHOWN = ("optimizer", "drop", "dropconnect", "regularizers")
"""What an arm chose of its ways."""


def result(study: str) -> dict[str, Any]:
    """Return what a study measured, by part."""
    return json.loads((RESULTS / f"study_{study}.json").read_text(encoding="utf-8"))["result"]


def points(interval: dict[str, float]) -> dict[str, float]:
    """Return an interval of shares in percent, or of differences in points, to a tenth."""
    return {end: round(100 * interval[end], 1) + 0.0 for end in ("mean", "low", "high")}


def named(part: str) -> str:
    """Return the name of a part as the page has it."""
    first, _, rest = part.partition(", ")
    return f"{NAMES.get(first, first)}{', ' + rest if rest else ''}"


def chosen(row: dict[str, Any]) -> str:
    """Return what an arm chose by validation: rate and strength."""
    texts = []
    for knob in SHOWN:
        value = row["setting"][knob]
        if value:
            text = " ".join(value) if isinstance(value, list) else str(value)
            texts.append(f"{knob} {text}" if isinstance(value, float) else text)
    return "`" + "`, `".join(texts) + "`"


def arms(study: dict[str, Any], **more: str) -> list[dict[str, Any]]:
    """Return a row per part and arm. more: column -> key of a further interval."""
    return [
        {"pictures": named(part), "": arm, "chosen on validation": chosen(row), "test, %": points(row["test"]),
         "training, %": points(row["train"])}
        | {column: row[key] or "–" for column, key in more.items()}
        for part, found in study.items() for arm, row in found["arms"].items()
    ]  # fmt: skip


def differences(study: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per part and comparison."""
    return [
        {"pictures": named(part), "comparison": name.replace(" - ", " against "), "verdict on accuracy (points)": one["verdict"],
         "test loss, nats": one["test_loss"] or "–", "level": f"{one['level']:.1%}"}
        for part, found in study.items() for name, one in found["differences"].items()
    ]  # fmt: skip


def curves(found: dict[str, Any]) -> list[Curve]:
    """Return the sensitivity curves of one data set."""
    return [
        Curve(name, tuple(one["rates"]), np.array(one["accuracy"], np.float64), 0, None) for name, one in found["curves"].items()
    ]


def widths(study: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per rule: within which rates it stays within a point of its best, on each data set."""
    by_rule: dict[str, dict[str, Any]] = {}
    for part, found in study.items():
        for curve in curves(found):
            row = by_rule.setdefault(curve.optimizer, {"rule": curve.optimizer})
            row[f"{named(part)}: rates"] = curve.width.range_text if curve.width else "–"
            row["decades" + " " * len(row)] = curve.width.text if curve.width else "–"
    return list(by_rule.values())


def watched(study: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per run of ``watch()``: when its decay began, and why."""
    rows = []
    for part, found in study.items():
        for seed, told in enumerate(found["decisions"]):
            epoch, what, why = told[-1]
            rows.append({"pictures, rule": named(part), "seed": seed, "after epoch": epoch, "decision": f"{what}: {why}"})
    return rows


def budgets(study: dict[str, Any]) -> Drawing:
    """Draw what each family of augmentation brings over the epochs, with intervals; filled where they leave out zero."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 4.0), layout="constrained")
        axes = figure.subplots()
        epochs = [int(part.split()[0]) for part in study]
        names = list(next(iter(study.values()))["differences"])
        for number, name in enumerate(names):
            found = [points(part["differences"][name]["test"]) for part in study.values()]
            clear = [part["differences"][name]["distinguishable"] for part in study.values()]
            x, y = [at * 1.07 ** (number - 1.5) for at in epochs], [one["mean"] for one in found]
            axes.plot(x, y, color=COLORS[number], linewidth=1.4, label=name.removesuffix(" - none"))
            for at, one, is_clear in zip(x, found, clear, strict=True):
                axes.plot([at, at], [one["low"], one["high"]], color=COLORS[number], linewidth=1.4)
                axes.plot([at], [one["mean"]], "o", color=COLORS[number], markerfacecolor=COLORS[number] if is_clear else "white")
        axes.axhline(0, color="#888888", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(epochs, [str(at) for at in epochs])
        axes.minorticks_off()
        axes.set_xlabel("epochs")
        axes.set_ylabel("test accuracy against none, points")
        axes.legend(loc="best", fontsize=9)
        return Drawing(figure)


def measured() -> dict[str, Any]:
    """Return the tables of the page, by study and name."""
    found = {study: result(study) for study in STUDIES}
    tables = {study: {"arms": arms(parts), "differences": differences(parts)} for study, parts in found.items()}
    tables["optimizers"]["widths"] = widths(found["optimizers"])
    tables["watch"] |= {"arms": arms(found["watch"], **{"test loss": "test_loss"}), "decisions": watched(found["watch"])}
    tables["drop_layers"]["arms"] = arms(found["drop_layers"], **{"time over none": "time over none"})
    return tables


def main() -> None:
    """Draw and fill."""
    (HERE / "figures").mkdir(exist_ok=True)
    for part, found in result("optimizers").items():
        save(draw_curves(curves(found), title=f"{named(part)}: accuracy against learning rate"),
             HERE / "figures" / f"sensitivity-{part}.svg")  # fmt: skip
    save(budgets(result("augment")), HERE / "figures" / "budgets.svg")
    page = HERE / "README.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), measured()), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

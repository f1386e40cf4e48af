"""Draw the pictures of docs/studies and fill its tables from benchmarks/results.

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
from descend.drawing import COLORS, STYLE, Drawing, save

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
fill = runpy.run_path(str(HERE.parent / "tables.py"))["fill_rows"]
STUDIES = ("optimizers", "watch", "norm_dropout", "drop_layers", "augment")
NAMES = {"digits": "digits", "cifar": "CIFAR-10", "signs": "hands", "mnist": "MNIST"}
SETS = {"hymenoptera": "ants and bees", "flowers5": "blurred flowers", "sign-digits": "hands", "digits": "enlarged digits"}
"""Of the studies with a pretrained network, the nearest to ImageNet first."""
WAYS = ("features", "head", "finetune", "auto", "scratch")
SHOWN = ("optimizer", "drop", "dropconnect", "regularizers")
"""What an arm chose of its ways."""


def result(name: str) -> dict[str, Any]:
    """Return what a benchmark measured, by part."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["result"]


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


def sizes_of(found: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the study of data size as set -> pictures per class -> way -> what was measured."""
    nested: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in SETS}
    for key, row in found.items():
        name, size, way, _ = key.split()
        nested[name].setdefault(size, {})[way] = row
    return {
        name: dict(sorted(sizes.items(), key=lambda item: (item[0] == "all", len(item[0]), item[0])))
        for name, sizes in nested.items()
    }


def by_size(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per set and number of pictures: each way's accuracy with its interval, and processor seconds."""
    return [
        {"pictures": SETS[name], "per class": size} | {way: _answered(ways[way]) if way in ways else "–" for way in WAYS}
        for name, sizes in sizes_of(found).items() for size, ways in sizes.items()
    ]  # fmt: skip


def _answered(row: dict[str, Any]) -> str:
    if "accuracy" not in row:
        return "no answer"
    told = points(row["interval"])
    return f"{told['mean']} ({told['low']} to {told['high']}); {row['processor_s']:.0f} s"


def data_size(found: dict[str, Any]) -> Drawing:
    """Draw accuracy, with intervals, and processor seconds against the pictures per class: a column for each set."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.2, 5.2), layout="constrained")
        axes = figure.subplots(2, len(SETS), sharey="row", height_ratios=(1.6, 1))
        for column, (name, sizes) in enumerate(sizes_of(found).items()):
            for number, way in enumerate(WAYS):
                answered = [(at, ways[way]) for at, ways in enumerate(sizes.values()) if "accuracy" in ways.get(way, {})]
                place = [at + 0.07 * (number - 2) for at, _ in answered]
                told = [points(row["interval"]) for _, row in answered]
                look: dict[str, Any] = {"color": COLORS[number], "linewidth": 1.4}
                axes[0, column].plot(place, [one["mean"] for one in told], "o-", markersize=4, label=way, **look)
                axes[0, column].vlines(place, [one["low"] for one in told], [one["high"] for one in told], **look)
                axes[1, column].plot(place, [row["processor_s"] for _, row in answered], "o-", markersize=4, **look)
            axes[0, column].set_title(SETS[name], fontsize=10)
            axes[1, column].set_xticks(range(len(sizes)), [*sizes])
            axes[0, column].set_xticks(range(len(sizes)), [""] * len(sizes))
            axes[1, column].set_xlabel("pictures per class")
        axes[1, 0].set_yscale("log")
        axes[1, 0].set_yticks([30, 100, 300], ["30", "100", "300"])
        axes[1, 0].minorticks_off()
        axes[0, 0].set_ylabel("test accuracy, %")
        axes[1, 0].set_ylabel("processor seconds")
        axes[0, -1].legend(loc="lower right", fontsize=8)
        return Drawing(figure)


def told(verdict: dict[str, Any] | None) -> str:
    """Return a verdict without the names that stand beside it."""
    return "–" if verdict is None else verdict["text"].partition(": ")[2] + f" (against {verdict['base']})"


def steps(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per set and rung of the ladder over the steps of a search."""
    return [
        {"pictures": SETS[name], "rung": rung["name"], "right, %": points(rung["accuracy"]), "runs": rung["n_runs"],
         "seconds of a run": f"{rung['wall_s']:.0f}", "verdict (points)": told(rung["verdict"])}
        for name, part in found.items() for rung in part["rungs"]
    ]  # fmt: skip


def measured() -> dict[str, Any]:
    """Return the tables of the page, by study and name."""
    found = {study: result(f"study_{study}") for study in STUDIES}
    tables = {study: {"arms": arms(parts), "differences": differences(parts)} for study, parts in found.items()}
    tables["optimizers"]["widths"] = widths(found["optimizers"])
    tables["watch"] |= {"arms": arms(found["watch"], **{"test loss": "test_loss"}), "decisions": watched(found["watch"])}
    tables["drop_layers"]["arms"] = arms(found["drop_layers"], **{"time over none": "time over none"})
    tables["data_size"] = {"ways": by_size(result("data_size"))}
    tables["auto_steps"] = {"ladder": steps(result("auto_steps"))}
    return tables


def main() -> None:
    """Draw and fill."""
    (HERE / "figures").mkdir(exist_ok=True)
    for part, found in result("study_optimizers").items():
        save(draw_curves(curves(found), title=f"{named(part)}: accuracy against learning rate"),
             HERE / "figures" / f"sensitivity-{part}.svg")  # fmt: skip
    save(budgets(result("study_augment")), HERE / "figures" / "budgets.svg")
    save(data_size(result("data_size")), HERE / "figures" / "data-size.svg")
    page = HERE / "README.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), measured()), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

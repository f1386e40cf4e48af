"""Fill the tables of docs/replicas/README.md from benchmarks/results/replica_*.json.

    python docs/replicas/build.py

Tables REPLICA.NAME are filled by docs/tables.py. Same results, same bytes.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
PAGE = HERE / "README.md"
shared = runpy.run_path(str(HERE.parent / "tables.py"))

Row = dict[str, str]
METRICS = {  # name in the results -> heading, decimals
    "error": ("test errors, %", 2),
    "error_best_epoch": ("errors of the best epoch, %", 2),
    "nll": ("log loss, nats", 3),
    "ece": ("calibration error", 4),
    "over_confidence": ("confidence - accuracy", 4),
}


def shown(found: Mapping[str, float], decimals: int, *, sign: bool = False) -> str:
    """Return an interval as ``mean (low to high)``."""
    middle, low, high = (f"{found[key]:{'+' if sign else ''}.{decimals}f}" for key in ("mean", "low", "high"))
    return f"{middle} ({low} to {high})"


def arms(record: dict[str, Any], result: dict[str, Any]) -> list[Row]:
    """One row an arm: published error, ours by every metric, the tuned setting."""
    published = record["published"].get("error", {})
    rows = []
    for name, found in result["arms"].items():
        row = {"": name} | ({"published errors, %": f"{published[name]:.2f}"} if published else {})
        row |= {title: shown(found[metric], digits) for metric, (title, digits) in METRICS.items() if metric in found}
        rows.append(row | {"chosen setting": f"`{found['setting']}`", "s a run": f"{found['wall_s']['mean']:.0f}"})
    return rows


def differences(record: dict[str, Any], result: dict[str, Any]) -> list[Row]:
    """One row a pair: the published difference, ours within a seed by every metric, and whether it can be told from zero."""
    published = record["published"].get("error", {})
    rows = []
    for pair, found in result["differences"].items():
        a, b = pair.split(" - ")
        row = {"": pair} | ({"published": f"{published[a] - published[b]:+.2f}"} if published else {})
        row |= {title: shown(found[m], digits, sign=True) for m, (title, digits) in METRICS.items() if m in found}
        rows.append(row | {"verdict on errors": result["verdicts"][pair]["error"].split(": ", 1)[1].split(" (95%")[0]})
    return rows


def inference(record: dict[str, Any], result: dict[str, Any]) -> list[Row]:
    """DropConnect's three ways to answer, from the same trainings."""
    del record
    found = result["arms"]["DropConnect"]
    against = result["DropConnect - dropout, by inference"]
    gain = result["DropConnect, gaussian - mean weights"]
    ways = {"mean weights": "", "Gaussian moment matching": "_gaussian", "50 drawn masks": "_monte_carlo"}
    return [
        {"DropConnect answers by": way, "test errors, %": shown(found[f"error{end}"], 2),
         "log loss, nats": shown(found[f"nll{end}"], 4), "errors minus dropout's": shown(against[f"error{end}"], 2, sign=True),
         "errors minus mean weights'": shown(gain["error"], 2, sign=True) if end == "_gaussian" else "",
         "log loss minus mean weights'": shown(gain["nll"], 4, sign=True) if end == "_gaussian" else ""}
        for way, end in ways.items()
    ]  # fmt: skip


def ranks(record: dict[str, Any], result: dict[str, Any]) -> list[Row]:
    """Spearman's rank correlation with the published errors."""
    del record
    names = {"error": "last epoch", "error_best_epoch": "best epoch on validation"}
    return [
        {"errors of the": names[metric], "rank correlation of the means": f"{found['of_means']:.2f}",
         "exact p (one-sided)": f"{found['p_value_one_sided']:.4f}", "of single seeds": shown(found["each_seed"], 2),
         "our order, best first": ", ".join(found["order"])}
        for metric, found in result["rank_correlation"].items()
    ]  # fmt: skip


def depth(record: dict[str, Any], result: dict[str, Any]) -> list[Row]:
    """Expected number of blocks: formula, library, count."""
    del record
    return [
        {"blocks L": str(row["blocks"]), "(3L - 1) / 4": f"{row['(3L - 1) / 4']:g}", "`expected_depth`": f"{row['exact']:.4g}",
         f"counted over {row['counted']['n']} steps": shown(row["counted"], 2)}
        for row in result["depth"]["rows"]
    ]  # fmt: skip


def saving(record: dict[str, Any], result: dict[str, Any]) -> list[Row]:
    """Time saved by skipping, by both clocks."""
    found = result["time"]
    clocks = {"wall": "wall time", "cpu": "processor time"}
    return [
        {"clock": title, "published": f"about {record['published']['time_saved']:.0%}",
         "blocks skipped": f"{found['blocks_skipped_expected']:.1%}",
         "time saved": " to ".join(f"{100 * found[clock]['time_saved'][end]:.1f}" for end in ("low", "high")) + " %",
         "median of rounds": f"{found[clock]['time_saved_spread']['median']:.1%}",
         "ms a step, without": f"{found[clock]['without_ms']['median']:.0f}",
         "with": f"{found[clock]['skipping_ms']['median']:.0f}"}
        for clock, title in clocks.items()
    ]  # fmt: skip


def _of(part: str, make: Callable[[dict[str, Any], dict[str, Any]], list[Row]]) -> Callable[..., list[Row]]:
    return lambda record, result: make(record, result[part])


TABLES: dict[str, Callable[[dict[str, Any], dict[str, Any]], list[Row]]] = {
    f"{replica}.{make.__name__}": make
    for replica in ("dropout", "dropconnect", "regularizers", "smoothing")
    for make in (arms, differences)
} | {
    "dropconnect.inference": inference,
    "regularizers.ranks": ranks,
    "depth.depth": depth,
    "depth.saving": saving,
    "depth.arms": _of("error", arms),
    "depth.differences": _of("error", differences),
}


def table(name: str) -> str:
    """Return the Markdown table of a name."""
    record = json.loads((RESULTS / f"replica_{name.split('.')[0]}.json").read_text(encoding="utf-8"))
    return shared["table"](TABLES[name](record, record["result"]))


def fill(page: str) -> str:
    """Return the Markdown ``page`` with every table drawn anew."""
    return shared["fill"](page, table)


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")

"""From a run folder to ``report.html``: gathers what the record says and hands it to the templates."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import jinja2
from markupsafe import Markup

from descend.percentages import percent
from descend.report import figures, words
from descend.report.charts import curves, epoch_table
from descend.report.confidence import confidence
from descend.report.confusion import matrix
from descend.report.next_steps import advice
from descend.report.pictures import arranged
from descend.report.search import search
from descend.report.techniques import bibtex, used
from descend.train import folder, metrics
from descend.train.recipe import FEATURE_SETS, Recipe
from descend.train.record import RunRecord, load
from descend.train.record_types import ClassScore, EpochRow, ParameterGroup

JUDGED = ("val", "test")
MANY = 40  # classes: beyond, the page shows the weakest and folds the whole table away
SHOWN = 15  # of the weakest classes
_FIRST = ("transfer", "backbone", "head", "size", "fit", "crop_pct", "engine", "freeze_to", "norm", "augment", "views",
          "regularize", "optimizer", "gradients", "layer_decay", "schedule", "epochs", "batch_size", "metric")  # fmt: skip
_DEFAULTS = {setting.name: setting.default for setting in dataclasses.fields(Recipe) if setting.default is not None}
_TOLD_ELSEWHERE = frozenset({"data", "seed", "device", "threads", "epoch"})


def write(run: Path) -> Path:
    """Write ``report.html`` into a run folder, atomically, its figures into ``figures/``, and return the page's path.

    The page needs no network and no other file, and can be read without its script; a policy within it forbids all others and
    every request. An interrupted run gets a page too. run: a folder that ``fit`` made.
    Raises RunError if it holds no readable record, or cannot be written to.
    """
    run = Path(run)
    context = _context(run)
    path = run / folder.REPORT
    folder.write_text(path, environment().get_template("page.html").render(context))
    figures.write(run, context["drawn"])
    return path


@cache
def _script() -> tuple[Markup, str]:
    """Return the page's script, and the policy that allows it alone."""
    text = files("descend.report").joinpath("templates", "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return Markup(text), f"{policy}; script-src 'sha256-{digest}'"


@cache
def environment() -> jinja2.Environment:
    """Names of classes and files come from strangers: everything is escaped, and what HTML cannot hold is replaced."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("descend.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: words.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "duration": words.duration, "plain": words.plain, "times": words.times}
    environment.filters["sentence"] = words.sentence
    return environment


def _context(run: Path) -> dict[str, Any]:
    record = load(run)
    rows = cast("list[EpochRow]", folder.by_epoch(record.epoch_rows(run)))
    recipe = run / folder.RECIPE
    if recipe.exists():
        folder.verify_recipe(run)
    counts = {split: found for split in JUDGED if (found := record.counts(split)) is not None}
    matrices = [table for split in counts if (table := matrix(split, counts[split], record.classes)) is not None]
    chosen, searched, trusted, techniques = words.chosen_epoch(record, rows), search(record), confidence(record), used(record)
    charts = curves(rows, chosen) if rows else []
    script, policy = _script()
    return {
        "run": str(run),
        "is_trained": folder.is_trained(run),
        "record": record,
        "name": str(record.data.get("name") or run.name),
        "verdict": words.verdict(record, rows),
        "scores": _scores(record),
        "plan": _plan(record),
        "data": _data(record),
        "search": searched,
        "charts": charts,
        "epochs": epoch_table(rows, chosen) if rows else {},
        "tables": [_class_table(split, record.per_class[split]) for split in JUDGED if record.per_class.get(split)],
        "matrices": matrices,
        "pictures": arranged(record, matrices),
        "advice": advice(run, record, rows),
        "techniques": techniques,
        "bibtex": bibtex(record, techniques),
        "time": _time(record, rows),
        "groups": _groups(record.parameter_groups),
        "confidence": trusted,
        "frozen": record.frozen,
        "commands": _commands(run, record),
        "recipe": recipe.read_text(encoding="utf-8") if recipe.exists() else "",
        "words": words,
        "feature_sets": FEATURE_SETS,
        "script": script,
        "policy": policy,
        "drawn": [
            *([] if searched else charts),
            *([searched["drawing"]] if searched and searched["drawing"] else []),
            *(trusted.charts if trusted else ()),
            *(figures.confusion(table.split, counts[table.split], table.classes) for table in matrices),
        ],
    }


def _scores(record: RunRecord) -> dict[str, Any]:
    """Return each judged split's scores, with what always answering the commonest class would reach, and a scale to draw on."""
    scores = {split: score for split in JUDGED if (score := getattr(record, split))}
    bare = _commonest(record)
    ends = [value for score in scores.values() for value in (score.get("accuracy_interval") or (score.get("accuracy", 0.0),))]
    start = math.floor(10 * min(ends, default=0.0) - 0.2) / 10
    return {"rows": scores, "commonest": bare, "start": max(0.0, min(0.9, start))}


def _commonest(record: RunRecord) -> dict[str, Any] | None:
    """Return the class with most training pictures and its share of what each split was judged on: a stopped clock's score.

    As the accuracy beside it counts: the rows that were judged, copies once. Records of before know of the first alone.
    """
    counts: Mapping[str, Mapping[str, int]] = record.data.get("counts") or {}
    if not counts or not all(isinstance(row, Mapping) for row in counts.values()):
        return None
    name = max(counts, key=lambda known: counts[known].get("train", 0))
    judged = {split: record.per_class.get(split, []) for split in JUDGED}
    n = {split: sum(row.get("n", 0) for row in rows) for split, rows in judged.items()}
    shares = {
        split: row.get("share", row.get("n", 0) / n[split])
        for split, rows in judged.items()
        for row in rows
        if n[split] and row["class"] == name
    }
    return {"name": name, "shares": shares} if shares else None


def _plan(record: RunRecord) -> list[tuple[str, str, str]]:
    """Return (setting, value, why) in the order a reader asks."""
    result: Mapping[str, Any] = record.chosen or {}
    decided = {**result, **record.plan}
    decided |= {name: value for name, value in result.items() if decided[name] == "auto"}
    names = [name for name in _FIRST if name in decided] + sorted(set(decided) - set(_FIRST))
    return [
        (name, words.plain(decided[name]), record.reasons.get(name) or _unexplained(name, decided[name]))
        for name in names
        if name not in _TOLD_ELSEWHERE and decided[name] is not None and (name, decided[name]) != ("engine", "none")
    ]


def _unexplained(name: str, value: Any) -> str:
    """Say why a setting without a recorded reason is what it is: most were asked for, a few are simply the default."""
    if name == "metric":
        return "selects the epoch"
    if name == "steps":
        return "what the search did; given again, they end in the same model"
    if value == _DEFAULTS.get(name):
        return "the default"
    return "" if name == "norm" or not value else "asked for"


def _data(record: RunRecord) -> dict[str, Any]:
    """Return the data summary with the counts as rows, and what is missing from older records as empty."""
    counts = record.data.get("counts") or {}
    totals = {name: sum(row.values()) for name, row in counts.items() if isinstance(row, Mapping)}
    return {
        "counts": [(name, counts[name], total) for name, total in totals.items()],
        "splits": record.data.get("splits") or {},
        "n": record.data.get("n"),
        "smallest": min(totals.values(), default=0),
        "largest": max(totals.values(), default=0),
        "given_split": record.data.get("given_split"),
        "side": record.data.get("shorter_side") or {},
        "gray": record.data.get("gray"),
        "unseen": record.data.get("unseen_by_crop") or 0.0,
        "problems": record.data.get("problems") or [],
        "fingerprint": record.data_fingerprint or record.data.get("fingerprint") or "",
        "folded": len(totals) > MANY,
    }


def _class_table(split: str, rows: Sequence[ClassScore]) -> dict[str, Any]:
    """Return the table of one split: rows as given, the lowest recall, and the weakest classes where there are many."""
    known = [row for row in rows if row.get("n")]
    ordered = sorted(known, key=lambda row: (row["recall"], -row["n"]))
    lowest = ordered[0]["recall"] if ordered and ordered[0]["recall"] < ordered[-1]["recall"] else None
    weakest = ordered[:SHOWN] if len(rows) > MANY else []
    shown, weakest = ([row | metrics.told(row) for row in part] for part in (rows, weakest))
    return {"split": split, "rows": shown, "lowest": lowest, "weakest": weakest}


def _time(record: RunRecord, rows: Sequence[EpochRow]) -> dict[str, Any]:
    epochs = [row["wall_s"] for row in rows if isinstance(row.get("wall_s"), (int, float))]
    total = sum(record.wall_s.values())
    return {
        "stages": [(stage, seconds, seconds / total if total else 0.0) for stage, seconds in record.wall_s.items()],
        "total": total,
        "estimate": record.estimate_s,
        "training": record.wall_s.get("train"),
        "images_per_s": record.images_per_s,
        "rate_of": record.rate_of,
        "epoch": sum(epochs) / len(epochs) if epochs else None,
    }


def _groups(groups: Sequence[ParameterGroup]) -> dict[str, Any]:
    """Return the parameter groups as a table: every key that occurs, but for the long lists of names."""
    columns = list(dict.fromkeys(key for group in groups for key, value in group.items() if not isinstance(value, list)))
    columns.sort(key=lambda key: key != "name")
    return {
        "columns": columns,
        "rows": [[words.plain(group[key]) if key in group else "" for key in columns] for group in groups],
    }


def _commands(run: Path, record: RunRecord) -> list[tuple[str, str]]:
    """Return (what it does, the exact command), ready to be pasted into a shell."""
    place, recipe = shlex.quote(str(run)), shlex.quote(str(run / folder.RECIPE))
    on_arrays = not record.plan.get("data")
    again = f"descend fit --recipe {recipe}" + (" DATA" if on_arrays else "")
    commands = [
        ("Classify new pictures", f"descend predict {place} FILES"),
        ("Measure on other labeled pictures", f"descend eval {place} DATA"),
    ]
    if record.status != "finished":
        commands.insert(0, ("Go on with this run", f"descend fit --resume {place}"))
    commands.append(("Train the same run again" + (" (on the same pictures)" if on_arrays else ""), again))
    if record.command:
        commands.append(("How this run was started", shlex.join(record.command)))
    return [(what, words.with_imports(command, record)) for what, command in commands]

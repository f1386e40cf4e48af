"""Runs as lines for a terminal: a table of many, and some of them side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any

from descend.cli.catalogue import entries
from descend.durations import duration
from descend.errors import SpecError
from descend.percentages import digits, percent
from descend.plain_data import finite
from descend.printable import columns
from descend.quantities import size_in_words
from descend.spec_text import Call, parse
from descend.train.record_types import Score
from descend.train.run_list import ListedRun, differing

HEADER = ("run", "data", "transfer", "backbone", "validation", "test", "time", "size", "status")
NONE = "-"
WIDEST = 60  # characters of a setting


def table(runs: Sequence[ListedRun]) -> Iterator[str]:
    """Yield a row per run, and what they take in all."""
    yield from columns([HEADER, *map(_row, runs)])
    for run in runs:
        if run.problem:
            yield f"damaged: {run.problem.partition(chr(10))[0]}"
    total = size_in_words(sum(run.n_bytes for run in runs))
    yield f"{len(runs)} run{'s' * (len(runs) != 1)}, {total}; accuracies with 95% intervals"


def _row(run: ListedRun) -> tuple[str, ...]:
    record = run.record
    if record is None:
        return (run.path.name, *[NONE] * 6, size_in_words(run.n_bytes), run.status)
    return (
        run.path.name, str(record.data.get("name") or NONE), run.setting("transfer") or NONE,
        _short(run.setting("backbone")), accuracy(record.val), accuracy(record.test),
        duration(run.wall_s), size_in_words(run.n_bytes), run.status,
    )  # fmt: skip


def accuracy(score: Score | None) -> str:
    """Return an accuracy with its interval, or a dash."""
    if score is None:
        return NONE
    low, high = score["accuracy_interval"]
    return f"{percent(score['accuracy'])} [{digits(low)}, {digits(high)}]"


# ------------------------------------------------------------------------------------------------------- side by side


def side_by_side(runs: Sequence[ListedRun]) -> Iterator[str]:
    """Yield what differs in settings, a column per run, then what came out."""
    settings = shown_settings(runs)
    same_data = len({run.record.data_fingerprint for run in runs if run.record}) == 1
    rows = [("", *(run.path.name for run in runs))]
    rows += [(name, *values) for name, values in settings.items()]
    rows += [("", *[""] * len(runs)), *_outcome(runs)]
    yield from columns(rows)
    if damaged := [run.path.name for run in runs if not run.record]:
        yield f"damaged, and not to be compared: {', '.join(damaged)}"
        return
    if not settings:
        yield "the settings are the same"
    if not same_data:
        yield "the runs are not of the same pictures: their figures cannot be compared"
    else:
        yield "one run each: what a setting buys needs several seeds (descend compare)"


def facts_side_by_side(runs: Sequence[ListedRun]) -> dict[str, Any]:
    """Return the same as plain data: the runs, and the settings that differ with a value for each of them."""
    return {"runs": [run.facts() for run in runs], "settings": finite(differing(runs))}


def _outcome(runs: Sequence[ListedRun]) -> Iterator[tuple[str, ...]]:
    yield "validation", *(accuracy(run.record.val if run.record else None) for run in runs)
    yield "test", *(accuracy(run.record.test if run.record else None) for run in runs)
    for name, score_of in (("validation loss", "val"), ("test loss", "test")):
        scores: list[Score | None] = [getattr(run.record, score_of, None) for run in runs]
        yield name, *(NONE if score is None else f"{score['loss']:.3f}" for score in scores)
    yield "best epoch", *(str(run.record.chosen["epoch"] or NONE) if run.record and run.record.chosen else NONE for run in runs)
    yield "time", *(duration(run.wall_s) if run.record else NONE for run in runs)
    yield "size on disk", *(size_in_words(run.n_bytes) for run in runs)
    yield "status", *(run.status for run in runs)


def shown_settings(runs: Sequence[ListedRun]) -> dict[str, list[str]]:
    """Return the settings in which runs differ as text. One technique with other knobs becomes a row for each that differs."""
    shown: dict[str, list[str]] = {}
    for name, values in differing(runs).items():
        calls = [_parsed(value) for value in values]
        known = [call for call in calls if isinstance(call, Call)]
        if len(known) == len(calls) and len({(call.name, call.arguments) for call in known}) == 1:
            knobs = {knob: [call.settings.get(knob) for call in known] for call in known for knob in call.settings}
            calls_by_row = {f"{name}.{knob}": row for knob, row in knobs.items() if any(value != row[0] for value in row)}
        else:
            calls_by_row = {name: calls}
        for row, cells in calls_by_row.items():
            telling = {*_telling(cells)}
            shown[row] = [_cut(_text(cell, telling)) for cell in cells]
    return shown


def _parsed(value: Any) -> Any:
    """Return a setting with its spec texts parsed, the members of a list too; a list of one is that one."""
    if isinstance(value, (list, tuple)):
        return _parsed(value[0]) if len(value) == 1 else tuple(map(_parsed, value))
    if not isinstance(value, str) or "(" not in value:
        return value
    try:
        return parse(value)
    except SpecError:
        return value


def _telling(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the knobs, as (technique, knob), that are not at their defaults anywhere in a value."""
    if isinstance(value, Call):
        defaults = _defaults().get(value.name, {})
        yield from ((value.name, knob) for knob, item in value.settings.items() if defaults.get(knob, ...) != item)
        yield from _telling((*value.arguments, *value.settings.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _telling(item)


def _text(value: Any, telling: Collection[tuple[str, str]]) -> str:
    """Return a parsed setting as a recipe would write it, techniques with the knobs that are telling."""
    if isinstance(value, Call):
        parts = [_text(item, telling) for item in value.arguments]
        parts += [f"{knob}={_text(item, telling)}" for knob, item in value.settings.items() if (value.name, knob) in telling]
        return value.name + (f"({', '.join(parts)})" if parts else "")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_text(item, telling) for item in value)}]" if value else "none"
    return NONE if value is None else str(value)


@cache
def _defaults() -> dict[str, dict[str, Any]]:
    """Return technique -> knob -> its default; a name that two families have stands for the knobs of both."""
    defaults: dict[str, dict[str, Any]] = {}
    for entry in entries():
        values = {knob["name"]: knob["default"] for knob in entry["knobs"]}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        defaults[entry["name"]] = defaults.get(entry["name"], {}) | values
    return defaults


def _short(value: Any) -> str:
    """Return a setting as text, techniques with the knobs that are not at their defaults."""
    parsed = _parsed(value)
    return _text(parsed, {*_telling(parsed)})


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."

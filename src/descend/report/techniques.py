"""Every technique that a run's plan holds, with all its knobs and the papers behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from descend.augment import Augmentation
from descend.errors import DescendError
from descend.models import Architecture
from descend.optim import GradientStage, Rule
from descend.regularize import Regularizer
from descend.report import papers
from descend.schedule import Schedule
from descend.spec_text import Call, parse
from descend.technique import Knob, Technique, build, knobs
from descend.train.record import RunRecord
from descend.transfer import Head

FAMILIES: dict[str, type[Technique]] = {
    "backbone": Architecture, "head": Head, "augment": Augmentation, "regularize": Regularizer, "optimizer": Rule,
    "gradients": GradientStage, "schedule": Schedule,
}  # fmt: skip
"""Setting of the plan -> the family that its texts name techniques of."""


@dataclass(frozen=True)
class KnobRow:
    """One knob: its value as text, whether it is the default (None where that is not known), and what is legal."""

    name: str
    value: str
    is_default: bool | None
    legal: str


@dataclass(frozen=True)
class Used:
    """One technique of a run. setting: of the plan, that it stands in. source: where it comes from; keys: of its papers."""

    setting: str
    name: str
    source: str
    keys: tuple[str, ...]
    knobs: tuple[KnobRow, ...]


def used(record: RunRecord) -> list[Used]:
    """Return the techniques of a run's plan in the plan's order, those inside others after them.

    One that is not known here (another version's, or one's own that is not imported) is shown by its text alone.
    """
    return [
        item
        for setting, family in FAMILIES.items()
        for text in record.specs(setting)
        if text and text != "auto"
        for item in _used(setting, text, family)
    ]


def bibtex(record: RunRecord, found: list[Used]) -> str:
    """Return the papers behind a run's techniques and behind the figures of its report, as BibTeX."""
    of_report = [key for part, key in papers.MEASURES.items() if part == "interval" or _has(record, part)]
    return papers.bibtex([*(key for item in found for key in item.keys), *of_report])


def _has(record: RunRecord, part: str) -> bool:
    """Return whether a report shows a part that has a paper of its own."""
    if part == "looked":
        return any("looked" in item for item in record.mistakes)
    return bool(record.calibration)


def _used(setting: str, text: str, family: type[Technique]) -> Iterator[Used]:
    try:
        technique = build(text, family)
    except DescendError:
        yield from _as_written(setting, text)
        return
    yield from _walked(setting, technique)


def _walked(setting: str, technique: Technique) -> Iterator[Used]:
    inside: list[Technique] = []
    rows: list[KnobRow] = []
    for knob in knobs(type(technique)):
        value = getattr(technique, knob.name)
        held = [item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Technique)]
        inside += held
        default = None if knob.default is dataclasses.MISSING else value == knob.default
        shown = ", ".join(item.name for item in held) if held else _text(value)
        rows.append(KnobRow(knob.name, shown, default, _legal(knob)))
    try:
        named = tuple(papers.keys(technique.source))
    except KeyError:  # one's own techniques have sources of their own
        named = ()
    yield Used(setting, technique.name, technique.source, named, tuple(rows))
    for item in inside:
        yield from _walked(setting, item)


def _legal(knob: Knob) -> str:
    """Return what a knob takes, what it is, and the range worth searching."""
    parts = [knob.interval, knob.doc]
    if knob.search is not None:
        parts.append(f"worth trying {knob.search.low:g} to {knob.search.high:g}" + ", by factors" * knob.search.log)
    return "; ".join(part for part in parts if part)


def _as_written(setting: str, text: str) -> Iterator[Used]:
    try:
        call = parse(text)
    except DescendError:
        return
    rows = tuple(KnobRow(name, _text(value), None, "") for name, value in call.settings.items())
    yield Used(setting, call.name, "", (), rows)


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_text, value)) + "]"
    return value.text if isinstance(value, Call) else f"{value:g}" if isinstance(value, float) else str(value)

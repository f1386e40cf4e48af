"""One technique as a row of the report: all its knobs, whether they are the defaults, and the papers behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from descend.errors import DescendError
from descend.report import papers
from descend.spec_text import Call, parse
from descend.technique import Knob, Technique, build, knobs


@dataclass(frozen=True)
class KnobRow:
    """One knob: its value as text, whether it is the default (None where that is not known), and what is legal."""

    name: str
    value: str
    is_default: bool | None
    legal: str


@dataclass(frozen=True)
class Used:
    """One technique of a run. source: where it comes from; keys: of its papers.

    setting: of the plan, that it stands in, or what a search used it for.
    """

    setting: str
    name: str
    source: str
    keys: tuple[str, ...]
    knobs: tuple[KnobRow, ...]

    @classmethod
    def own(cls, setting: str, name: str, source: str, values: Mapping[str, Any]) -> Used:
        """Return what is no technique of the registry. values: name of a setting -> its value."""
        rows = tuple(KnobRow(knob, _text(value), None, "") for knob, value in values.items())
        return cls(setting, name, source, tuple(papers.keys(source)), rows)


def of_text(setting: str, text: str, family: type[Technique]) -> Iterator[Used]:
    """Yield the technique that a text names, and those inside it; one that is not known here by its text alone."""
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
    yield Used.own(setting, call.name, "", call.settings)


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_text, value)) + "]"
    return value.text if isinstance(value, Call) else f"{value:g}" if isinstance(value, float) else str(value)

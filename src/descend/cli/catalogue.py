"""Every technique as plain data, written ahead of time: a list, a typo and a completion answer without importing torch.

``catalogue.json`` lies beside this file, is written by ``scripts/docs``, and a test holds it to the techniques. In a process
that has imported techniques anyway, or that was given some of the user's own (``--import``), they themselves are asked.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from descend.augment.policy_names import POLICIES, unknown_transform
from descend.errors import KnobError, nearest
from descend.printable import shortened
from descend.spec_text import Call, parse, unknown_technique
from descend.technique import Knob, Technique, any_registered, former_name, knobs, registered
from descend.train.recipe import Recipe

FILE = Path(__file__).with_name("catalogue.json")
FAMILIES = {
    "head": "head", "augment": "augmentation", "regularize": "regularizer", "optimizer": "optimizer", "gradients": "gradient",
    "schedule": "schedule",
}  # fmt: skip
"""Settings that are spec text of one family. A backbone is not among them: it may be any of timm's."""

Entries = dict[tuple[str, str], dict[str, Any]]  # (family, name) -> technique


def entries() -> list[dict[str, Any]]:
    """Return every technique as ``describe`` does, in the order of families and names."""
    if any_registered():
        return [describe(cls) for cls in registered()]
    return json.loads(FILE.read_text(encoding="utf-8"))


def text() -> str:
    """Return what ``catalogue.json`` must hold: a technique per line."""
    ours = (cls for cls in registered() if cls.__module__.startswith("descend."))
    return "[\n" + ",\n".join(json.dumps(describe(cls)) for cls in ours) + "\n]\n"


def describe(cls: type[Technique]) -> dict[str, Any]:
    """Return a technique as plain data."""
    return {
        "family": cls.family,
        "name": cls.name,
        "formerly": former_name(cls),
        "signature": _signature(cls),
        "summary": (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " "),
        "source": cls.source,
        "knobs": [_knob(knob) for knob in knobs(cls)],
    }


def _knob(knob: Knob) -> dict[str, Any]:
    given = knob.default is not dataclasses.MISSING
    default = str(knob.default) if isinstance(knob.default, (Technique, tuple)) else knob.default
    search = dataclasses.asdict(knob.search) if knob.search else None
    return {
        "name": knob.name,
        "takes": knob.interval,
        "family": knob.family.family if knob.family else None,
        "required": not given,
        "default": default if given else None,
        "search": search,
    }


def _signature(cls: type[Technique]) -> str:
    parts = (k.name if k.default is dataclasses.MISSING else f"{k.name}={k.default!r}" for k in knobs(cls))
    return f"{cls.name}({', '.join(parts)})"


def check_names(recipe: Recipe) -> None:
    """Raise SpecError or KnobError where a recipe's text names a technique, or one of its knobs, that there is not.

    It only says sooner what would be said anyway when the settings become techniques: before torch is imported.
    """
    check_texts({family: list(_texts(getattr(recipe, setting))) for setting, family in FAMILIES.items()})


def check_texts(texts: Mapping[str, Sequence[str]]) -> None:
    """Raise SpecError or KnobError where a text names a technique, or a knob, that there is not. texts: family -> spec texts."""
    if not any(texts.values()) or any_registered():
        return
    known = {(entry["family"], entry["name"]): entry for entry in entries()}
    for family, spec in ((family, spec) for family, listed in texts.items() for spec in listed):
        chosen_later = spec == "auto" or (family == "augmentation" and spec.strip() in POLICIES)
        if not chosen_later:
            _check(parse(spec), family, known)


def _texts(value: object) -> Iterator[str]:
    """Yield the spec texts of a setting."""
    for item in (value,) if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ():
        if isinstance(item, str):
            yield item


def _check(call: Call, family: str, known: Entries) -> None:
    entry = known.get((family, call.name))
    if entry is None:
        names = [name for kind, name in known if kind == family]
        if call.name in POLICIES or any(call.name == other["formerly"] for other in known.values()):
            return  # another sentence, that of whoever builds it
        if family == "augmentation":
            raise unknown_transform(call.name, names)
        raise unknown_technique(call, family, nearest(call.name, names))
    takes = {knob["name"]: knob["family"] for knob in entry["knobs"]}
    for name, value in call.settings.items():
        if name not in takes:
            if family == "optimizer":
                return  # rules know better what was meant
            fix = nearest(name, takes) if takes else "It has none."
            raise KnobError(call.name, f"has no knob {shortened(repr(name))}", fix=fix)
        _check_inside(value, takes[name], known)
    inside = {kind for kind in takes.values() if kind}
    if len(inside) == 1:
        _check_inside(call.arguments, inside.pop(), known)


def _check_inside(value: object, family: str | None, known: Entries) -> None:
    if isinstance(value, tuple):
        for item in value:
            _check_inside(item, family, known)
    elif isinstance(value, Call) and family is not None:
        _check(value, family, known)

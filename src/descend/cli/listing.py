"""``descend list``: every registered technique, one line each."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

from descend.cli.output import Parser, tell
from descend.errors import SpecError, nearest
from descend.technique import Knob, Technique, knobs, registered


def main(argv: list[str]) -> int:
    """Print the techniques, all or of one family."""
    parser = Parser(prog="descend list", description="List every technique with its knobs.")
    parser.add_argument("family", nargs="?", help="only this family, for example optimizer")
    parser.add_argument("--json", action="store_true", help="one JSON array, with intervals, search ranges and sources")
    options = parser.parse_args(argv)
    techniques = list(registered())
    families = sorted({cls.family for cls in techniques})
    if options.family is not None and options.family not in families:
        raise SpecError(
            "descend list", "the family must be one that exists", got=options.family, fix=nearest(options.family, families)
        )
    chosen = [cls for cls in techniques if options.family in (None, cls.family)]
    if options.json:
        tell(*json.dumps([describe(cls) for cls in chosen], indent=1).splitlines())
        return 0
    width = max(len(_signature(cls)) for cls in chosen)
    for family in sorted({cls.family for cls in chosen}):
        tell(f"{family}:")
        for cls in chosen:
            if cls.family == family:
                tell(f"  {_signature(cls):<{min(width, 60)}}  {_sentence(cls)}")
    return 0


def describe(cls: type[Technique]) -> dict[str, Any]:
    """Return a technique as plain data."""
    return {
        "family": cls.family,
        "name": cls.name,
        "summary": _sentence(cls),
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
        "required": not given,
        "default": default if given else None,
        "search": search,
    }


def _signature(cls: type[Technique]) -> str:
    parts = (k.name if k.default is dataclasses.MISSING else f"{k.name}={k.default!r}" for k in knobs(cls))
    return f"{cls.name}({', '.join(parts)})"


def _sentence(cls: type[Technique]) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")

"""A backbone by its name: one of ours, or one of timm's."""

from __future__ import annotations

import re

from descend.errors import SpecError
from descend.models.architecture import Architecture
from descend.models.pretrained import Timm
from descend.technique import build, registered


def backbone(value: str | Architecture) -> Architecture:
    """Return the architecture that ``value`` stands for: spec text (``resnet9(width=32)``) or a timm name (``resnet18``).

    Our own names win over timm's. Raises SpecError for a name that nobody knows.
    """
    called = re.fullmatch(r"\s*([\w.]+)\s*(?:\((.*)\)\s*)?", value, re.DOTALL) if isinstance(value, str) else None
    if called is None:
        return build(value, Architecture)
    name, knobs = called.groups()
    if name in {cls.name for cls in registered(Architecture)}:
        return build(value, Architecture)
    from descend.models.timm_package import timm  # heavy: only where a name is not ours

    if timm.is_model(name) and knobs is None:
        return Timm(model=name)
    if timm.is_model(name):
        raise SpecError("backbone", f"must say the knobs of timm's {name} within timm(...)", got=value,
                        fix=f"Write timm(model={name!r}{', ' * bool(knobs.strip())}{knobs.strip()}).")  # fmt: skip
    raise _unknown(name, timm.list_models())


def _unknown(name: str, timm_names: list[str]) -> SpecError:
    import difflib

    ours = [cls.name for cls in registered(Architecture)]
    close = difflib.get_close_matches(name, [*ours, *timm_names], n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Ours: {', '.join(ours)}; or any timm name."
    return SpecError("backbone", "must name one of ours or a timm model", got=name, fix=hint)

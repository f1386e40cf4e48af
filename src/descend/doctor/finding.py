"""What a check says: what it saw, the figures that show it, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from descend.doctor.subject import Subject

Severity = Literal["ok", "note", "finding"]
"""``ok``: as it should be. ``note``: worth knowing, the run may go on. ``finding``: the run would suffer."""


@dataclass(frozen=True)
class Finding:
    """One answer of one check.

    check: its name. what: one sentence. evidence: figures, ready for JSON. fix: what to do, "" where there is nothing to do.
    table: rows of figures, each a mapping with the same keys, for what is told layer by layer or part by part.
    """

    check: str
    severity: Severity
    what: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    fix: str = ""
    table: tuple[Mapping[str, Any], ...] = ()


Check = Callable[[Subject], list[Finding]]
"""Looks at one thing of a subject, which is afterwards what it was before."""


def named(names: Sequence[str]) -> str:
    """Return the first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

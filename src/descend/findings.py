"""What a check says: what it saw, the figures that show it, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["ok", "note", "finding"]
"""``ok``: as it should be. ``note``: worth knowing, one may go on. ``finding``: something to be mended."""


@dataclass(frozen=True)
class Finding:
    """One answer of one check.

    check: its name. what: one sentence. evidence: figures, ready for JSON. fix: what to do, "" where there is nothing to do.
    table: rows of figures, each a mapping with the same keys, for what is told part by part.
    """

    check: str
    severity: Severity
    what: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    fix: str = ""
    table: tuple[Mapping[str, Any], ...] = ()


def named(names: Sequence[str]) -> str:
    """Return the first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def counted(n: int, one: str, many: str) -> str:
    """Return ``1 picture is`` or ``1,200 pictures are``."""
    return f"{n:,} {one if n == 1 else many}"


def is_clean(findings: Iterable[Finding]) -> bool:
    """Return whether nothing is to be mended; notes do not count."""
    return all(finding.severity != "finding" for finding in findings)


def cell(value: object) -> str:
    """Return a value of ``Finding.table`` as text, numbers that are not whole in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def verdict(findings: Sequence[Finding], sound: str) -> str:
    """Return how many findings there are, in words; ``sound`` where there are none."""
    n = sum(finding.severity == "finding" for finding in findings)
    return counted(n, "finding", "findings") if n else sound

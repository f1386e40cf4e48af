"""Durations in words, for terminals and pages alike."""

from __future__ import annotations


def duration(seconds: float, *, estimated: bool = False) -> str:
    """Return a time as ``0.42 s``, ``17.2 s``, ``3 min 20 s`` or ``2 h 05 min``.

    estimated: rounded as a person says it, for what is not known better: ``4 s``, ``20 s``, ``3 min``, ``1.5 h``.

    >>> from descend.durations import duration
    >>> duration(200), duration(200, estimated=True)
    ('3 min 20 s', '3 min')
    """
    if estimated:
        return _rounded(seconds)
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _rounded(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s" if seconds < 10 else f"{round(seconds, -1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

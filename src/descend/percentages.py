"""Shares in percent, for terminals and pages alike: one decimal, two where many pictures carry it, no gap before the sign."""

from __future__ import annotations

MANY = 10_000  # pictures, from which the interval of an accuracy is narrower than two points, and a second decimal says something


def percent(share: float | None, n: int = 0) -> str:
    """Return a share as ``95.4%``; with a second decimal where ``n`` pictures carry it. None is a dash.

    >>> from descend.percentages import percent
    >>> percent(0.9537), percent(0.9537, n=10_000)
    ('95.4%', '95.37%')
    """
    return "\N{EN DASH}" if share is None else f"{digits(share, n)}%"


def digits(share: float, n: int = 0) -> str:
    """Return what stands before the sign: for the lower end of a range whose upper end has it."""
    return f"{100 * share:.{2 if n >= MANY else 1}f}"


def tick(share: float, _place: int | None = None) -> str:
    """Return a share as the axis of a figure tells it, without zeros behind the point. _place: matplotlib says it, too."""
    return f"{100 * share:.4g}%"

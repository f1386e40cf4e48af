"""Quantities as people write and read them: ``5m``, ``20ms``, ``20MB``."""

from __future__ import annotations

import math

from descend.errors import KnobError

TIMES = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
SIZES = {"KB": 1e3, "MB": 1e6, "GB": 1e9}


def seconds(text: str, *, who: str) -> float:
    """Return the seconds of a time: ``30s``, ``5m``, ``1.5h``, ``20ms``. Raises KnobError, naming ``who``.

    >>> from descend.quantities import seconds
    >>> seconds("5m", who="budget"), seconds("20ms", who="latency")
    (300.0, 0.02)
    """
    return _quantity(text, TIMES, who, "a time", "30s, 5m or 1.5h")


def n_bytes(text: str, *, who: str) -> float:
    """Return the bytes of a size: ``20MB``, ``500KB``, ``1.5GB``, in powers of 1,000. Raises KnobError, naming ``who``."""
    return _quantity(text, SIZES, who, "a size", "500KB, 20MB or 1GB")


def size_in_words(n_bytes: float) -> str:
    """Return a size for a person, in powers of 1,000.

    >>> from descend.quantities import size_in_words
    >>> size_in_words(1_450_000), size_in_words(2_500_000_000)
    ('1 MB', '2.5 GB')
    """
    for unit in ("B", "KB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def _quantity(text: str, units: dict[str, float], who: str, what: str, examples: str) -> float:
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text.strip()[len(number) :]
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not unit and math.isfinite(value):
        raise KnobError(who, f"needs a unit, one of {', '.join(units)}", got=text, fix=f"Write {examples}, for example.")
    if not (math.isfinite(value) and value > 0 and unit in units):
        raise KnobError(who, f"must be {what} above 0, such as {examples}", got=text)
    return value * units[unit]

"""Quantities as people write and read them: ``5m``, ``20ms``, ``20MB``."""

from __future__ import annotations

import math

from descend.errors import KnobError

TIMES = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
SIZES = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "B": 1.0}
_SHORT = {name.removesuffix("B").lower(): name for name in SIZES if name != "B"}  # "k" and "Ki": the B may be left out
_SPELLED = {name.lower(): name for name in SIZES} | _SHORT


def seconds(text: str, *, who: str) -> float:
    """Return the seconds of a time: ``30s``, ``5m``, ``1.5h``, ``20ms``. Raises KnobError, naming ``who``.

    >>> from descend.quantities import seconds
    >>> seconds("5m", who="budget"), seconds("20ms", who="latency")
    (300.0, 0.02)
    """
    return _value(text, *_parts(text), TIMES, who, "a time", "30s, 5m or 1.5h")


def n_bytes(text: str, *, who: str, bare: bool = False) -> float:
    """Return the bytes of a size: ``20MB`` and ``1.5 GB`` in powers of 1,000, ``500 MiB`` in powers of 1,024, in any case.

    bare: whether a number without a unit, 0 too, counts bytes. Raises KnobError, naming ``who``.

    >>> from descend.quantities import n_bytes
    >>> n_bytes("20MB", who="max_size"), n_bytes("1 KiB", who="max_size"), n_bytes("500", who="the limit", bare=True)
    (20000000.0, 1024.0, 500.0)
    """
    number, unit = _parts(text)
    if bare and not unit:
        if math.isfinite(number) and number >= 0:
            return number
        number = math.nan  # no unit is missing
    return _value(text, number, _SPELLED.get(unit.lower(), unit), SIZES, who, "a size", "500KB, 20MB or 1.5GiB")


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


def _parts(text: str) -> tuple[float, str]:
    """Return the number of a quantity, nan where there is none, and its unit."""
    written = text.strip()
    number = written.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    try:
        return float(number), written[len(number) :]
    except ValueError:
        return math.nan, written[len(number) :]


def _value(text: str, number: float, unit: str, units: dict[str, float], who: str, what: str, examples: str) -> float:
    if not unit and math.isfinite(number):
        raise KnobError(who, f"needs a unit, one of {', '.join(units)}", got=text, fix=f"Write {examples}, for example.")
    if not (math.isfinite(number) and number > 0 and unit in units):
        raise KnobError(who, f"must be {what} above 0, such as {examples}", got=text)
    return number * units[unit]

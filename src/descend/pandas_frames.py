"""pandas, for those who ask for a frame: descend itself computes without it."""

from __future__ import annotations

from types import ModuleType

from descend.errors import MissingExtra


def pandas_for(who: str, *, instead: str = "") -> ModuleType:
    """Return pandas. who: what makes a frame of it; instead: where the same numbers are without it. Raises MissingExtra."""
    try:
        import pandas
    except ImportError:
        fix = "Install it with: pip install 'descend[tables]'" + (f"; {instead}." if instead else ".")
        raise MissingExtra(who, "pandas must be installed", fix=fix) from None
    return pandas

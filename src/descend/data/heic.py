"""HEIC, the format of iPhones: read where the extra is installed, named where it is not."""

from __future__ import annotations

from functools import cache

SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
ADVICE = "HEIC pictures need: pip install 'descend[heic]'"


@cache
def available() -> bool:
    """Make Pillow read HEIC files and say whether it can; orientation is applied as for other files."""
    try:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError:
        return False
    register_heif_opener()
    return True

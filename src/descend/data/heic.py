"""HEIC, the format of iPhones: read where the extra is installed, named where it is not."""

from __future__ import annotations

from importlib.util import find_spec

SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
ADVICE = "HEIC pictures need: pip install 'descend[heic]'"


def available() -> bool:
    """Return whether HEIC files can be read here."""
    return find_spec("pillow_heif") is not None


def register() -> None:
    """Make Pillow read HEIC files, if the extra is installed; orientation is applied as for other files."""
    if available():
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports] (an extra)

        register_heif_opener()

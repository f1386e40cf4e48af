"""Whether there is anything where DATA says: told before what reads it is imported, so that a typo is answered at once."""

from __future__ import annotations

import re
from pathlib import Path

from descend.data import builtin
from descend.errors import DataError, did_you_mean, nearest

PREFIX = "builtin:"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://.+", re.IGNORECASE)


def check_place(text: str) -> None:
    """Raise DataError unless ``text`` is the name of a built-in set, or there is a folder or a file of that name."""
    named, path = text.removeprefix(PREFIX), path_of(text)
    if named in builtin.SETS or is_folder(path) or is_file(path) or is_address(text):  # an address is looked at when it is read
        return
    others = (name for name in _names_beside(path) if name != path.name)  # which may be there, and no folder
    beside = [name for name in others if not name.startswith(".")]
    near = did_you_mean(path.name, [*builtin.SETS, *beside])
    hint = near or nearest(named, builtin.SETS).replace("Known:", "Built-in sets:")
    raise DataError(text, f"no such folder, table or built-in set{_why_none(path)}", fix=hint)


def _names_beside(path: Path) -> list[str]:
    """Return what lies where a path leads that does not exist; nothing where that cannot be listed."""
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError):
        return []


def path_of(text: str) -> Path:
    """Return the path that DATA means, ``~`` followed. Raises DataError for nothing, and for the home of nobody."""
    if not text.strip():
        raise DataError("data", "must be a folder, a table or the name of a built-in set", got=text,
                        fix="Write . for the current folder.")  # fmt: skip
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = Path(text).parts[0]
        raise DataError(text, f"must lie in the home of a user that exists, {user!r} has none",
                        fix=f"Write ./{user} for a folder of that name.") from None  # fmt: skip


def _why_none(path: Path) -> str:
    """Return why a path leads to neither a folder nor a file, in brackets; "" where nothing is there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return ""
    except OSError as error:
        return f" ({error.strerror})"
    return " (it is a pipe, a socket or a device)"


def is_address(text: str) -> bool:
    """Say whether a text is an address rather than a path."""
    return _ADDRESS.match(text) is not None


def is_file(path: Path) -> bool:
    """Say whether a path leads to a file; one that no file system could hold does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def is_folder(path: Path) -> bool:
    """Say whether a path leads to a folder; one that no file system could hold does not."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False

"""A file that somebody has asked for by name: its place is looked at before the work, and the file is written whole after it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from descend.errors import KnobError, OutputError, way_to_write


def check_output(who: str, path: Path, *, reads: Iterable[Path] = ()) -> None:
    """Raise KnobError unless ``path`` is that of a file in a folder that exists, OutputError where none can be written there.

    who: what names the file, such as ``--page``. reads: what the work reads; a file among it must not be written over.
    """
    from descend.unfinished import delete, unfinished_name  # only those who write a file: every command imports this one

    if any(is_same_file(path, read) for read in reads):
        raise KnobError(who, "must be another file than those that are read", got=str(path), fix="Choose another name.")
    if path.is_dir():
        raise KnobError(who, "must be a file, not a folder", got=str(path))
    if not path.parent.is_dir():
        raise KnobError(who, "must lie in a folder that exists", got=str(path),
                        fix=f"Make it: mkdir -p {shlex.quote(str(path.parent))}")  # fmt: skip
    tried = Path(os.path.realpath(path)).with_name(unfinished_name())
    try:
        tried.touch()  # rights alone do not tell: a disk may be mounted for reading only
    except OSError as error:
        raise _unwritable(str(path), error) from error
    finally:
        delete(tried)


def is_same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one file that is there, by links too; a folder is none."""
    try:
        return one.is_file() and one.samefile(other)
    except (OSError, ValueError):  # one is not there, or no file system could hold it
        return False


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a path to write at that becomes ``path`` as in ``files.replacing``; OutputError where the disk does not take it.

    A link goes on leading to its file.
    """
    from descend.files import replacing  # takes longer to import than `descend --help` does

    with taken(path), replacing(Path(os.path.realpath(path))) as unfinished:
        yield unfinished


@contextmanager
def taken(path: Path) -> Iterator[Path]:
    """Yield ``path`` to write; OutputError in its name where the block cannot, but for a pipe whose reader went away."""
    with taken_by(str(path)):
        yield path


@contextmanager
def taken_by(who: str) -> Iterator[None]:
    """Let the block write; OutputError in the name of what it writes to where that is refused, as in ``taken``."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(who, error) from error


def write_page(path: Path, page: str) -> None:
    """Write a page (UTF-8) as ``writing`` does; names of files in it need not be valid Unicode."""
    with writing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8", errors="backslashreplace")


def _unwritable(who: str, error: OSError) -> OutputError:
    way = way_to_write(error, "")
    fix = f"{way}, or choose another place." if way else "Choose a place where you may write."
    return OutputError(who, f"must be a file that can be written ({error.strerror or error})", fix=fix)

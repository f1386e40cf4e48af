"""A second cache at an address that several machines share: what one has computed, the others fetch.

``DESCEND_CACHE_SHARED`` names it: ``s3://bucket/descend``, ``file:///mnt/all/descend``, whatever fsspec writes; it may be one
that can only be read, such as ``https://...``. Features and decoded pixels are looked for there when they are not on this disk,
come into the cache folder of this machine, and are left there when they have been made here. Kernels, graphs, measurements and
the index of files stay on each machine.

An entry ``<address>/<kind>/<key>/`` holds parts, each of one writer and under a name that no other writer has: ``<name>.part``,
written first, and ``<name>.note``, sealed, written last. A part without its note is not there yet, so nobody reads half of one,
on stores that have no rename either, and two that make the same at the same time do not meet.

It never stops a run: where the address is out of reach, or ends to be in the middle, this process goes on with its own disk. That
is logged once (logger ``descend.shared_cache``). It has no limit and throws nothing out: who owns the place decides that.
Source: https://filesystem-spec.readthedocs.io; torch brings it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from descend.errors import KnobError, MissingExtra, first_line
from descend.files import sealed, unsealed

VARIABLE = "DESCEND_CACHE_SHARED"
PART, NOTE = ".part", ".note"
_NOTE = re.compile(rf"(^|/)[0-9a-f]{{32}}{re.escape(NOTE)}$")
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})  # need no folders: making one might make a bucket
T = TypeVar("T")

_log = logging.getLogger(__name__)


def shared_cache() -> SharedCache | None:
    """Return the cache at ``DESCEND_CACHE_SHARED``, the same one in all of this process; None where none is named.

    Raises KnobError for an address that fsspec does not know, MissingExtra where it lacks the package for it.
    """
    address = os.environ.get(VARIABLE)
    return _at(address.rstrip("/")) if address else None


def new_name() -> str:
    """Return a name for a part that no other writer has."""
    return uuid.uuid4().hex


@functools.cache
def _at(address: str) -> SharedCache:
    import fsspec  # a second to import

    try:
        system, root = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingExtra(VARIABLE, f"needs a package ({first_line(error)})", fix=f"Install it, or unset {VARIABLE}.") from error
    except Exception as error:  # each file system has errors of its own
        raise KnobError(VARIABLE, f"must be an address that fsspec reads ({first_line(error)})", got=address,
                        fix="Write s3://bucket/folder, or a folder that all machines see.") from error  # fmt: skip
    return SharedCache(address, system, root.rstrip("/"))


class SharedCache:
    """The cache at ``address``: ``root`` in a file system of fsspec. ``shared_cache`` makes it."""

    def __init__(self, address: str, system: Any, root: str) -> None:
        self.address = address
        self._system, self._root = system, root
        protocols = system.protocol
        self._has_folders = not _BUCKETS & {*([protocols] if isinstance(protocols, str) else protocols)}
        self._reads = self._writes = True
        self._noted = dict[tuple[str, str], dict[str, bytes]]()

    def notes(self, kind: str, key: str) -> dict[str, bytes]:
        """Return the notes of the parts of an entry, by the names of the parts, as they were when this process first asked."""
        if (kind, key) not in self._noted:
            self._noted[kind, key] = self._listed(kind, key)
        return self._noted[kind, key]

    def read(self, kind: str, key: str, name: str) -> bytes | None:
        """Return what ``write`` was given; None where it is not there, or not whole."""
        return self._look(lambda: unsealed(self._system.cat_file(self._path(kind, key, name + PART))), None)

    def blocks(self, kind: str, key: str, name: str, n_bytes: int, *, start: int = 0) -> Iterator[bytes]:
        """Yield what ``leave`` was given, ``n_bytes`` at a time from byte ``start`` on; too little where it is not whole."""

        def opened() -> Any:
            file = self._system.open(self._path(kind, key, name + PART), "rb")
            file.seek(start)
            return file

        file = self._look(opened, None)
        with file or contextlib.nullcontext():
            while file is not None and (block := self._look(partial(file.read, n_bytes), b"")):
                yield block

    def write(self, kind: str, key: str, name: str, content: bytes, *, note: bytes) -> None:
        """Leave bytes for others, behind their digest, then the note."""
        self._leave(kind, key, name, lambda path: self._system.pipe_file(path, sealed(content)), note)

    def leave(self, kind: str, key: str, name: str, file: Path, *, note: bytes) -> None:
        """Leave a file for others as it is, then the note; nothing where a part of the entry has this note already."""
        if note not in self._listed(kind, key).values():
            self._leave(kind, key, name, lambda path: self._system.put_file(str(file), path), note)

    def _listed(self, kind: str, key: str) -> dict[str, bytes]:
        folder = self._path(kind, key)

        def look() -> dict[str, bytes]:
            self._system.invalidate_cache(folder)
            paths = [path for path in self._system.ls(folder, detail=False) if _NOTE.search(path)]
            found = self._system.cat(paths, on_error="return") if paths else {}
            for content in found.values():
                if isinstance(content, Exception):
                    raise content
            notes = {path[-len(NOTE) - 32 : -len(NOTE)]: unsealed(found[path]) for path in sorted(found)}
            return {name: note for name, note in notes.items() if note is not None}

        return self._look(look, {})

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _look(self, look: Callable[[], T], nothing: T) -> T:
        """Return what a look gives; ``nothing`` for what is not there, and for all after any other failure."""
        if not self._reads:
            return nothing
        try:
            return look()
        except FileNotFoundError:
            return nothing
        except Exception as error:  # each file system has errors of its own
            self._reads = self._writes = False
            self._tell(error, "goes on with the cache of this machine")
            return nothing

    def _leave(self, kind: str, key: str, name: str, leave: Callable[[str], None], note: bytes) -> None:
        """Leave a part, then its note; after a failure nothing more."""
        if not self._writes:
            return
        try:
            if self._has_folders:
                self._system.makedirs(self._path(kind, key), exist_ok=True)
            leave(self._path(kind, key, name + PART))
            self._system.pipe_file(self._path(kind, key, name + NOTE), sealed(note))
        except Exception as error:  # each file system has errors of its own
            self._writes = False
            self._tell(error, "leaves nothing there")
        else:
            self._noted.setdefault((kind, key), {})[name] = note

    def _tell(self, error: Exception, consequence: str) -> None:
        why = f"{type(error).__name__}: {first_line(error)}"
        _log.warning("shared cache %s: must be within reach (%s); this process %s.", self.address, why, consequence)

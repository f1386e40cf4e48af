"""Files that appear whole or not at all, and the one folder for everything that can be computed again.

``replacing`` is the one way in which the product writes a file: beside its place, flushed to the disk, then renamed. After a
crash or a power cut the old content is there or the new one, never half a file.

``<root>/<kind>/<key><suffix>`` is an entry of the cache: one file, or one folder of files. Every kind of cache lives here
(decoded pictures, feature vectors, exported graphs, compiled kernels), so that one limit holds for all and ``descend cache``
shows all. An entry's modification time is the time of its last use. Entries appear whole and disappear whole; one that this
process is using is never thrown out, and on Linux and macOS one that another process has open stays readable for it.

Environment: ``DESCEND_CACHE`` moves the folder, ``DESCEND_CACHE_LIMIT`` (``20GB``, ``500 MiB``) sets the limit.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from descend.errors import KnobError

DEFAULT_LIMIT = "20GB"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_UNFINISHED = "."  # an entry being written has a hidden name
_ABANDONED_S = 24 * 3600.0

_held: Counter[Path] = Counter()
_lock = threading.Lock()


@dataclass(frozen=True)
class Entry:
    """One thing in the cache. ``last_use``: seconds since 1970."""

    kind: str
    path: Path
    n_bytes: int
    last_use: float


@dataclass(frozen=True)
class Usage:
    """How many entries of one kind there are, and their size."""

    n: int
    n_bytes: int


def parse_bytes(text: str, who: str = "size") -> int:
    """Return the number of bytes in ``20GB``, ``1.5 GiB`` or ``500000``. Raises KnobError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", text.lower())
    if match is None:
        raise KnobError(who, "must be a number of bytes", got=text, fix="Write 20GB, 500MB or 1.5GiB.")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def default_root() -> Path:
    """Return ``$DESCEND_CACHE``, or the place where this system keeps a user's caches."""
    chosen = os.environ.get("DESCEND_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("descend", appauthor=False))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden path to write a file or a folder at; it becomes ``path`` in one step when the block ends well.

    What was written is on the disk before it gets its name, so a power cut leaves the old content or the new one. If the block
    fails, nothing remains of it. Raises OSError as it comes.
    """
    unfinished = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}{path.suffix}")
    try:
        yield unfinished
        for written in [*unfinished.rglob("*"), unfinished] if unfinished.is_dir() else [unfinished]:
            _flush(written)
        unfinished.replace(path)
        _flush(path.parent)
    finally:
        _delete(unfinished)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` as ``path``, whole or not at all. Raises OSError as it comes."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders; it keeps renames in its journal
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class CacheFolder:
    """The cache folder at ``root`` (default: see ``default_root``) that may hold ``limit_bytes`` (default: the environment)."""

    def __init__(self, root: str | os.PathLike[str] | None = None, *, limit_bytes: int | None = None) -> None:
        self.root = Path(os.path.abspath(root)) if root is not None else default_root()  # noqa: PTH100 (links stay as they are)
        if limit_bytes is None:
            limit_bytes = parse_bytes(os.environ.get("DESCEND_CACHE_LIMIT") or DEFAULT_LIMIT, "DESCEND_CACHE_LIMIT")
        self.limit_bytes = limit_bytes

    def entry_path(self, kind: str, key: str, suffix: str = "") -> Path:
        """Return where the entry lies or would lie. ``key`` must be a plain file name; a hash makes a good one."""
        return self.root / kind / f"{key}{suffix}"

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Yield a hidden path to write a file or a folder at; it becomes the entry ``path`` as in ``replacing``.

        Two processes may write the same entry at once: one of the two, whole, remains. Raises OSError as it comes.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        written = False
        try:
            with replacing(path) as unfinished:
                yield unfinished
                written = True
        except OSError:  # a folder of that name is there already, or Windows keeps an open file
            if not (written and path.exists()):
                raise

    def touch(self, path: Path) -> None:
        """Note that the entry has been used now."""
        with contextlib.suppress(OSError):  # a cache that can be read but not written is still a cache
            os.utime(path)

    def hold(self, path: Path) -> None:
        """Keep the entry from being thrown out by this process until ``release`` is called as often."""
        with _lock:
            _held[path] += 1

    def release(self, path: Path) -> None:
        """Undo one ``hold``."""
        with _lock:
            _held[path] -= 1
            if _held[path] <= 0:
                del _held[path]

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return what lies in the cache, of one kind or of all, least recently used first."""
        listed: list[Entry] = []
        for folder in _listed(self.root):
            if folder.is_dir() and kind in (None, folder.name):
                for path in _listed(folder):
                    with contextlib.suppress(FileNotFoundError):  # thrown out by another process meanwhile
                        listed.append(Entry(folder.name, path, _size(path), path.stat().st_mtime))
        return sorted(listed, key=lambda entry: (entry.last_use, str(entry.path)))

    def usage(self) -> dict[str, Usage]:
        """Return the number and the bytes of the entries of each kind."""
        total: dict[str, Usage] = {}
        for entry in self.entries():
            before = total.get(entry.kind, Usage(0, 0))
            total[entry.kind] = Usage(before.n + 1, before.n_bytes + entry.n_bytes)
        return dict(sorted(total.items()))

    def clear(self, kind: str | None = None) -> int:
        """Throw out every entry, of one kind or of all, that this process is not using; return the bytes freed."""
        return sum(self._evict(entry) for entry in self.entries(kind))

    def enforce_limit(self, incoming: int = 0) -> list[Entry]:
        """Throw out the least recently used entries until ``incoming`` further bytes fit under the limit; return them."""
        self._sweep()
        entries = self.entries()
        excess = sum(entry.n_bytes for entry in entries) + incoming - self.limit_bytes
        gone: list[Entry] = []
        for entry in entries:
            if excess <= 0:
                break
            freed = self._evict(entry)
            if freed:
                excess -= freed
                gone.append(entry)
        return gone

    def discard(self, path: Path) -> bool:
        """Throw out one entry, in use or not; say whether it is gone by this."""
        hidden = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
        try:
            path.replace(hidden)  # whole or not at all: nobody finds half an entry
        except OSError:  # gone already, or open in another process on Windows
            return False
        _delete(hidden)
        return True

    def _evict(self, entry: Entry) -> int:
        with _lock:  # nobody begins to use it meanwhile
            return entry.n_bytes if _held[entry.path] <= 0 and self.discard(entry.path) else 0

    def _sweep(self) -> None:
        """Delete what killed processes left half-written."""
        now = time.time()
        for folder in _listed(self.root):
            for path in folder.glob(f"{_UNFINISHED}*") if folder.is_dir() else ():
                with contextlib.suppress(FileNotFoundError):
                    if now - path.stat().st_mtime > _ABANDONED_S:
                        _delete(path)


def _listed(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(_UNFINISHED)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
    return path.stat().st_size


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

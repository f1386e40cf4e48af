"""Files that appear whole or not at all, and the one folder for everything that can be computed again.

``replacing`` is the one way in which the product writes a file: beside its place, flushed to the disk, then renamed. After a
crash or a power cut the old content is there or the new one, never half a file.

``<root>/<kind>/<key><suffix>`` is an entry of the cache: one file, or one folder of files. Every kind of cache lives here
(decoded pictures, feature vectors, exported graphs, compiled kernels), so that one limit holds for all and ``descend cache``
shows all. An entry's modification time is the time of its last use. Entries appear whole and disappear whole; one that this
process is using is never thrown out, and on Linux and macOS one that another process has open stays readable for it.

The cache never stops a run. ``CacheFolder.store`` keeps bytes behind their digest and drops what the disk does not take;
``CacheFolder.load`` returns what is whole and throws out what is not. Where the folder cannot be written at all, a temporary one
serves this process and those that it starts. Either is logged once (logger ``descend.files``), with the remedy.

Environment: ``DESCEND_CACHE`` moves the folder, ``DESCEND_CACHE_LIMIT`` (``20GB``, ``500 MiB``) sets the limit;
``DESCEND_CACHE_TEMPORARY`` is set by a process that needs a temporary folder, for those that it starts.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.quantities import n_bytes
from descend.unfinished import BEGUN, delete, is_abandoned, is_left, sweep_unfinished, unfinished_name

DEFAULT_LIMIT = "20GB"
_TEMPORARY = "DESCEND_CACHE_TEMPORARY"
_INHERITED = os.environ.get(_TEMPORARY)  # made, and talked about, by the process that started this one
_FIX = "Set DESCEND_CACHE to a folder that can be written and has free space."
SEAL_BYTES = hashlib.sha256().digest_size

_held: Counter[Path] = Counter()
_lock = threading.Lock()
_told: set[Path] = set()
_stopped: set[Path] = set()  # folders that this process has begun to fill, and may go on with
_log = logging.getLogger(__name__)


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


def default_root() -> Path:
    """Return ``$DESCEND_CACHE``, or the place where this system keeps a user's caches."""
    chosen = os.environ.get("DESCEND_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen))  # noqa: PTH111 (leaves the name of an unknown user alone, where pathlib raises)
    import platformdirs

    return Path(platformdirs.user_cache_dir("descend", appauthor=False))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden path to write a file or a folder at; it becomes ``path`` in one step when the block ends well.

    What was written is on the disk before it gets its name, so a power cut leaves the old content or the new one. If the block
    fails, nothing remains of it. Raises OSError as it comes.
    """
    unfinished = path.with_name(unfinished_name(path.suffix))
    try:
        yield unfinished
        _finish(unfinished, path)
    finally:
        delete(unfinished)


def _finish(unfinished: Path, path: Path) -> None:
    """Let what was written become ``path``, once it is on the disk."""
    for written in [*unfinished.rglob("*"), unfinished] if unfinished.is_dir() else [unfinished]:
        flush(written)
    unfinished.replace(path)
    flush(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` as ``path``, whole or not at all. Raises OSError as it comes."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk. Raises OSError as it comes."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders; it keeps renames in its journal
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems flush no folders
            raise
    finally:
        os.close(handle)


def sealed(content: bytes) -> bytes:
    """Return ``content`` behind its digest (SHA-256, ``SEAL_BYTES`` long)."""
    return hashlib.sha256(content).digest() + content


def unsealed(content: bytes) -> bytes | None:
    """Return what ``sealed`` was given, or None if a byte of it has changed."""
    digest, inner = content[:SEAL_BYTES], content[SEAL_BYTES:]
    return inner if hashlib.sha256(inner).digest() == digest else None


def _accepts(folder: Path) -> bool:
    """Return whether the system lets this process write in ``folder``, or make it, as far as it tells beforehand."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _temporary_root(root: Path) -> Path | None:
    """Return the folder that serves this process and those that it starts in place of ``root``; None where there is none."""
    with _lock:
        chosen = os.environ.get(_TEMPORARY)
        if not chosen or not os.access(chosen, os.W_OK):
            try:
                place = Path(tempfile.gettempdir())
                sweep_unfinished(place)
                chosen = str(place / unfinished_name())
                Path(chosen).mkdir(mode=0o700)
            except OSError:
                return None
            atexit.register(_remove_temporary, Path(chosen), os.getpid())
            os.environ[_TEMPORARY] = chosen
    return Path(chosen) / hashlib.blake2b(os.fsencode(root), digest_size=8).hexdigest()


def _remove_temporary(folder: Path, process: int) -> None:
    if os.getpid() == process:  # a forked child leaves it to its parent
        delete(folder)


class CacheFolder:
    """The cache folder at ``root`` (default: see ``default_root``) that may hold ``limit_bytes`` (default: the environment)."""

    def __init__(self, root: str | os.PathLike[str] | None = None, *, limit_bytes: int | None = None) -> None:
        self.root = Path(os.path.abspath(root)) if root is not None else default_root()  # noqa: PTH100 (links stay as they are)
        if limit_bytes is None:
            limit = os.environ.get("DESCEND_CACHE_LIMIT") or DEFAULT_LIMIT
            limit_bytes = int(n_bytes(limit, who="DESCEND_CACHE_LIMIT", bare=True))
        self.limit_bytes = limit_bytes

    def entry_path(self, kind: str, key: str, suffix: str = "") -> Path:
        """Return where the entry lies or would lie. ``key`` must be a plain file name; a hash makes a good one."""
        path = self.root / kind / f"{key}{suffix}"
        return path if os.path.lexists(path) else self.folder_of(kind) / path.name

    def folder_of(self, kind: str) -> Path:
        """Return the folder for new entries of a kind: where the cache cannot be written, one in a temporary folder."""
        folder = self.root / kind
        if _accepts(folder):
            return folder
        temporary = _temporary_root(self.root)
        if temporary is None:
            return folder
        if os.environ[_TEMPORARY] != _INHERITED:
            self.tell("it is read-only, or no folder", "a temporary folder takes its place until this process ends")
        return temporary / kind

    def store(self, path: Path, content: bytes) -> bool:
        """Keep ``content`` as the entry ``path``, for ``load``; return whether the disk and the limit take it.

        If they do not, the entry is missing and nothing else happens.
        """
        n_bytes = SEAL_BYTES + len(content)
        if n_bytes > self.limit_bytes:  # nothing else must go for what cannot be kept
            return False
        try:
            self.enforce_limit(n_bytes)
            with self.writing(path) as unfinished:
                unfinished.write_bytes(sealed(content))
        except OSError as error:
            self.tell(error.strerror or str(error), "what it does not take is computed again by later runs")
            return False
        return True

    def load(self, path: Path) -> bytes | None:
        """Return what ``store`` kept as ``path``, or None; an entry that is not as it was stored is thrown out."""
        if not os.path.lexists(path):
            return None
        try:
            content = unsealed(path.read_bytes()) if path.is_file() else None  # to read a pipe would wait for ever
        except OSError:
            return None
        if content is None:
            self.discard(path)
        else:
            self.touch(path)
        return content

    def verify(self, path: Path) -> bool:
        """Return whether ``path`` is as ``store`` left it, to be mapped from ``SEAL_BYTES`` on; throw it out if it differs."""
        try:
            if path.is_file():
                with path.open("rb") as file:
                    if file.read(SEAL_BYTES) == hashlib.file_digest(file, hashlib.sha256).digest():
                        return True
        except OSError:
            return False
        self.discard(path)
        return False

    def tell(self, why: str, consequence: str) -> None:
        """Log that the cache cannot be written: once for each folder in this process."""
        with _lock:
            if self.root in _told:
                return
            _told.add(self.root)
        _log.warning("cache folder %s: must be writable (%s); %s. %s", self.root, why, consequence, _FIX)

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

    @contextlib.contextmanager
    def filling(self, path: Path) -> Iterator[Path]:
        """Yield a hidden folder, which becomes the entry ``path`` as in ``writing``; it may hold what a stopped process has left.

        Where the block fails, the folder stays for the next one that fills this entry, for a day; after an OSError it is deleted:
        a full disk needs the room. Whoever fills it finds out what in it is whole.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = path.with_name(unfinished_name(f".{path.name}{BEGUN}"))
        for left in path.parent.glob(f".*.{path.name}{BEGUN}"):
            if left in _stopped or is_left(left):
                with contextlib.suppress(OSError):  # another process was quicker
                    left.replace(begun)
                    break
        begun.mkdir(exist_ok=True)
        try:
            yield begun
            _finish(begun, path)
        except OSError:  # also where another process has filled it meanwhile
            delete(begun)
            if not path.exists():
                raise
        except BaseException:
            _stopped.add(begun)
            raise

    def folder(self, kind: str, facts: Any, fill: Callable[[Path], None]) -> Path:
        """Return the entry of a kind that is a folder, named by ``facts``, plain data; where it is not there, ``fill`` makes it.

        It appears when it is complete, and is held for as long as this process may read from it. Raises what ``fill`` raises.
        """
        entry = self.entry_path(kind, hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest())
        self.hold(entry)
        if entry.is_dir():
            self.touch(entry)
        else:
            with self.writing(entry) as unfinished:
                fill(unfinished)
        return entry

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
        for folder in self._kinds():
            for path in _listed(folder) if kind in (None, folder.name) else ():
                with contextlib.suppress(OSError):  # thrown out by another process meanwhile, or another user's
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
        for folder in self._kinds():
            for path in folder.glob(f".*{BEGUN}") if kind in (None, folder.name) else ():
                if is_left(path):
                    delete(path)
        return sum(self._evict(entry) for entry in self.entries(kind))

    def enforce_limit(self, incoming: int = 0) -> list[Entry]:
        """Throw out the least recently used entries until ``incoming`` further bytes fit under the limit; return them."""
        self._sweep()
        entries, gone = self.entries(), list[Entry]()
        excess = sum(entry.n_bytes for entry in entries) + incoming - self.limit_bytes
        for entry in entries:
            if excess <= 0:
                break
            if freed := self._evict(entry):
                excess -= freed
                gone.append(entry)
        return gone

    def discard(self, path: Path) -> bool:
        """Throw out one entry, in use or not; say whether it is gone by this."""
        hidden = path.with_name(unfinished_name())
        try:
            path.replace(hidden)  # whole or not at all: nobody finds half an entry
        except OSError:  # gone already, or open in another process on Windows
            return False
        delete(hidden)
        return True

    def _evict(self, entry: Entry) -> int:
        with _lock:  # nobody begins to use it meanwhile
            return entry.n_bytes if _held[entry.path] <= 0 and self.discard(entry.path) else 0

    def _kinds(self) -> list[Path]:
        """Return the folders of the kinds, those in the temporary folder too if there is one."""
        roots = [self.root] if _TEMPORARY not in os.environ else [self.root, _temporary_root(self.root) or self.root]
        return [folder for root in roots for folder in _listed(root) if os.path.isdir(folder)]  # noqa: PTH112 (never raises)

    def _sweep(self) -> None:
        """Delete what killed processes left half-written, in entries that are folders too."""
        for kind in self._kinds():
            for folder in [kind, *(entry for entry in _listed(kind) if os.path.isdir(entry))]:  # noqa: PTH112 (never raises)
                with contextlib.suppress(OSError):
                    for path in folder.glob(".*"):
                        if is_abandoned(path):
                            delete(path)


def _listed(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:  # absent, no folder, or not for this user to read
        return []


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
    return path.stat().st_size

"""Files of which parts are read where they lie: on this machine, or at an address by whatever fsspec reads.

A ``Member`` is the place of one picture in such a file: of a tar, bytes from one on; of Parquet, a row of a row group. A picture
of a folder has its path for a place, and what opens pictures takes either.

At an address a picture is one range of bytes. A pass from the beginning of a file to its end reads blocks of 4 MiB instead, of
which 64 MiB are held at most, all files together. A server that gives no ranges has the file fetched whole into the cache when
it is first read, and again where it had to make room.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Protocol

from descend.errors import DataError, is_full_disk
from descend.files import CacheFolder
from descend.printable import shortened
from descend.regular_files import size_on_disk

BLOCK = 2**22  # bytes read at once at an address by what goes through a file
HELD_BLOCKS = 16
_FETCHED = "fetched"  # of the cache's entries
_PAUSES_S = (0.5, 2.0)  # before an address that did not answer is asked again


class Holder(Protocol):
    """What holds pictures."""

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    @property
    def facts(self) -> tuple[str, ...]:
        """What tells that its content has changed."""
        ...

    @property
    def changed_ns(self) -> int:
        """When that last happened, in ns since 1970; 0 where nothing tells."""
        ...

    def read(self, at: int, n: int) -> bytes:
        """Return the bytes of the picture at (at, n). Raises OSError, DataError."""
        ...


class RangedFile(Holder, Protocol):
    """A file: ``read`` gives n bytes from ``at`` on."""

    @property
    def path(self) -> PurePath:
        """Its path, or that at its address: for its name, its ending and its folder's name."""
        ...

    @property
    def size(self) -> int:
        """Its size in bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """The place of a picture in a file: ``n`` bytes from ``at`` on in a tar; row group ``at``, row ``n`` in Parquet."""

    holder: Holder
    name: str
    at: int
    n: int

    def read(self) -> bytes:
        """Return the picture's bytes. Raises OSError, DataError."""
        return self.holder.read(self.at, self.n)

    def state(self) -> tuple[tuple[str, ...], int]:
        """Return what tells that the picture may have changed, and when that last happened in ns since 1970."""
        return (*self.holder.facts, str(self.at), str(self.n)), self.holder.changed_ns

    def __str__(self) -> str:
        return f"{self.name} in {self.holder.name}"


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine. It is opened for each read, so that however many files hold no more than one descriptor."""

    path: Path
    size: int
    facts: tuple[str, ...]
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> LocalFile:
        """Return the file as it is now. Raises OSError, also for a pipe or a device."""
        size_on_disk(path)
        status = path.stat()
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        facts = (os.path.realpath(path), *map(str, state))
        return cls(path, status.st_size, facts, max(status.st_mtime_ns, status.st_ctime_ns))

    @property
    def name(self) -> str:
        """The path as text."""
        return str(self.path)

    def read(self, at: int, n: int) -> bytes:
        """Return n bytes from ``at`` on. Raises OSError."""
        handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            os.lseek(handle, at, os.SEEK_SET)
            content = os.read(handle, n)
            while len(content) < n and (more := os.read(handle, n - len(content))):
                content += more
        finally:
            os.close(handle)
        return _whole(content, n)


class RemoteFile:
    """A file at an address. system: fsspec's. facts: what the system says of it, its address first."""

    def __init__(self, system: Any, path: str, facts: Iterable[str], size: int, cache: CacheFolder) -> None:
        self._system, self._where, self._cache = system, path, cache
        self.path, self.size, self.facts, self.changed_ns = PurePosixPath(path), size, tuple(facts), 0
        self._lock = threading.Lock()
        self._gives_ranges: bool | None = None

    @property
    def name(self) -> str:
        """The address."""
        return self.facts[0]

    def read(self, at: int, n: int) -> bytes:
        """Return n bytes from ``at`` on. Raises DataError where the address is out of reach, OSError where the file ends."""
        if n <= 0 or n > BLOCK:
            return self._range(at, n)
        parts: list[bytes] = []
        for number in range(at // BLOCK, (at + n - 1) // BLOCK + 1):
            block = self._block(number)
            if block is None:
                return self._range(at, n)
            parts.append(block)
        start = at % BLOCK
        return _whole(b"".join(parts)[start : start + n], n)

    def _block(self, number: int) -> bytes | None:
        """Return a block that is held, or to which a pass through the file has come; None for what is read by chance."""
        with self._lock:
            held = _blocks.get(self.facts, number)
            if held is None and (number == 0 or _blocks.get(self.facts, number - 1) is not None):
                held = self._range(number * BLOCK, max(0, min(BLOCK, self.size - number * BLOCK)))
                _blocks.put(self.facts, number, held)
        return held

    def _range(self, at: int, n: int) -> bytes:
        if n <= 0:
            return b""
        for pause in (*_PAUSES_S, None):
            try:
                return _whole(self._asked(at, n), n)
            except DataError:
                raise
            except Exception as error:  # each file system has errors of its own
                if pause is None or isinstance(error, FileNotFoundError):
                    raise out_of_reach(self.name, error) from error
                time.sleep(pause)
        raise AssertionError  # the last try returns or raises

    def _asked(self, at: int, n: int) -> bytes:
        if self._gives_ranges is None:
            self._gives_ranges = self._looked()
        if self._gives_ranges:
            return self._system.cat_file(self._where, start=at, end=at + n)
        return self._from_cache(at, n)

    def _looked(self) -> bool:
        """Say whether a part of the file can be had without the rest."""
        try:
            with self._system.open(self._where, "rb", cache_type="none") as file:
                file.seek(self.size // 2)
                return len(file.read(1)) == min(1, self.size)
        except (ValueError, NotImplementedError, io.UnsupportedOperation):
            return False

    def _from_cache(self, at: int, n: int) -> bytes:
        """Return a part of the file by way of a copy in the cache. Raises DataError where that does not take it."""
        limit = self._cache.limit_bytes
        if self.size > limit:
            raise DataError(self.name, f"must lie where parts of a file can be read, or fit into the cache of {limit:,} bytes",
                            got=f"{self.size:,} bytes", fix="Raise DESCEND_CACHE_LIMIT, or download it.")  # fmt: skip

        def fetch(unfinished: Path) -> None:
            self._cache.enforce_limit(self.size)
            unfinished.mkdir()
            self._system.get_file(self._where, str(unfinished / "file"))

        try:
            entry = self._cache.folder(_FETCHED, list(self.facts), fetch)
        except OSError as error:
            if not is_full_disk(error):
                raise
            raise no_room(self.name, self._cache, error) from error  # it would be full the next time, too
        try:
            return LocalFile.of(entry / "file").read(at, n)
        finally:
            self._cache.release(entry)


class Window(io.RawIOBase):
    """A file, or ``n`` bytes of it from ``at`` on, as what libraries read from. most: bytes that may be asked for at once."""

    def __init__(self, file: RangedFile, at: int = 0, n: int | None = None, *, most: int | None = None) -> None:
        super().__init__()
        self._file, self._at, self._position = file, at, 0
        self._n = file.size - at if n is None else n
        self._most = most

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, in bytes from the window's beginning."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._n}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return up to ``size`` bytes. Raises OSError, and ValueError for more than may be asked for."""
        left = max(0, self._n - self._position)
        n = left if size is None or size < 0 else min(size, left)
        if self._most is not None and n > self._most:
            raise ValueError(f"{n:,} bytes stand where at most {self._most:,} may")
        content = self._file.read(self._at + self._position, n) if n else b""
        self._position += n
        return content

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return how many bytes that took."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def out_of_reach(address: str, error: Exception) -> DataError:
    """Return the error for an address that does not give what is asked for."""
    why = shortened(str(error).strip().partition("\n")[0])
    return DataError(address, f"must be within reach ({type(error).__name__}: {why})",
                     fix="Look at its name and your rights, or download it and give the folder.")  # fmt: skip


def no_room(address: str, cache: CacheFolder, error: OSError) -> DataError:
    """Return the error for what the disk of the cache does not take."""
    return DataError(address, f"must be fetched into the cache {cache.root} ({error.strerror or error})",
                     fix="Make room there, or set DESCEND_CACHE to a folder with free space.")  # fmt: skip


def _whole(content: bytes, n: int) -> bytes:
    if len(content) != n:
        raise OSError(None, f"its file ends before it, or has changed: {len(content):,} of {n:,} bytes are there")
    return content


class _Blocks:
    """The blocks that were read last, of all files together."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[tuple[str, ...], int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, facts: tuple[str, ...], number: int) -> bytes | None:
        with self._lock:
            if (facts, number) in self._held:
                self._held.move_to_end((facts, number))
            return self._held.get((facts, number))

    def put(self, facts: tuple[str, ...], number: int, content: bytes) -> None:
        with self._lock:
            self._held[facts, number] = content
            while len(self._held) > HELD_BLOCKS:
                self._held.popitem(last=False)


_blocks = _Blocks()

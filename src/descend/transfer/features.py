"""Features are computed once per picture and view, and kept on disk in segments that are whole or absent.

A *store* holds what one engine, one prefix and one way of preparing pictures gave: its key names them all. In it a *row*
is one view of one picture, found by the digest of the picture's bytes and the number of the view. View 0 is the plain
evaluation view and lies in a store of its own, so that it serves every augmentation and seed.

On disk a store is a folder of segments, each one file: a digest, the keys of its rows, the rows. An interrupted extraction keeps
every segment it finished. A segment that does not agree with its digest is thrown out, and its rows are computed again; each
process asks that once of each segment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from descend.files import SEAL_BYTES, CacheFolder
from descend.progress import Update
from descend.shared_cache import new_name, shared_cache
from descend.transfer.engine import Engine

Take = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
View = Callable[[NDArray[np.uint8], NDArray[np.int64], int], NDArray[np.uint8]]
Divided = Callable[[Sequence[NDArray[np.int64]], int], Iterator[NDArray[np.float32]]]
"""Computes features: parts, each of row numbers (B,), number of the view -> (B, ...) of each part, in their order."""

SEGMENT_BYTES, SEGMENT_S = 16 * 2**20, 5.0  # what a crash can lose: the memory that waits to be written, and the time it took
IN_MEMORY_BYTES = 64 * 2**20  # a larger answer is memory-mapped
REFUSED_BYTES = 2**28  # so much of what the disk does not take is kept for later calls in this process
KIND = "features"  # of the cache's entries
_SUFFIX = ".segment"
_whole: set[tuple[Path, int, int, int]] = set()  # segments that agreed with their digests, as they were then
_refused: dict[Path, list[tuple[list[bytes], NDArray[np.float32]]]] = {}  # folder of a store -> segments that are in memory only


@dataclass(frozen=True)
class Work:
    """Computes features: row numbers (B,), number of the view -> (B, ...). The parts: as in ``extract``."""

    engine: Engine
    take: Take
    view: View
    ids: NDArray[np.int64]

    def __call__(self, rows: NDArray[np.int64], draw: int) -> NDArray[np.float32]:
        """Return the features of a view of the pictures ``rows``."""
        return self.engine(self.view(self.take(rows), self.ids[rows], draw))

    def of_parts(self, parts: Sequence[NDArray[np.int64]], draw: int) -> Iterator[NDArray[np.float32]]:
        """Yield the features of a view of each part, computed here."""
        return (self(rows, draw) for rows in parts)


def extract(engine: Engine, take: Take, rows: NDArray[np.int64], *, digests: NDArray[np.uint8], ids: NDArray[np.int64],
            view: View, preparation: str, n_views: int = 1, augmentation: str = "", seed: int = 0, batch: int = 64,
            progress: Update | None = None, divided: Divided | None = None) -> NDArray[np.float32]:  # fmt: skip
    """Return the features of ``n_views`` views of the pictures ``rows``: (n, V, D) float32, or (n, V, C, H, W) for a map.

    take: row numbers (B,) int64 -> pictures (B, R, R, 3) uint8. digests: (N, 16) uint8 and ids: (N,) int64, of all rows.
    view: ``view(images (B, R, R, 3) uint8, ids (B,) int64, draw)`` -> (B, S, S, 3) uint8; draw 0 is the plain view, the
    others are augmented.
    preparation: what happened to a picture before the engine (decoding, size, crop, interpolation and their version);
    augmentation, seed: what decides views 1 and up. Only what no earlier run has left on disk is computed.
    divided: computes what it is asked for, in parts of ``batch`` rows, by several processes; None: here.
    progress: called with ("features", views computed, views to compute), never where all are on disk: it tells how fast the
    engine is. An exception, Ctrl-C too, passes through after what was finished is on disk. The answer is mapped from a temporary
    file where it is larger than 64 MiB and the disk has the space.
    """
    rows = np.asarray(rows, np.int64)
    out, done = None, 0
    compute = divided or Work(engine, take, view, ids).of_parts
    plain, augmented = _stores(engine, preparation, augmentation, seed)
    with plain, augmented:
        stores = [augmented if draw else plain for draw in range(n_views)]
        keys = [[_row_key(digests[row], draw) for row in rows] for draw in range(n_views)]
        for store, of_view in zip(stores, keys, strict=True):
            store.fetch(of_view)
        missing = [
            {key: int(row) for key, row in zip(of_view, rows, strict=True) if key not in store}  # copies once
            for store, of_view in zip(stores, keys, strict=True)
        ]
        total = sum(map(len, missing))
        if progress is not None and total:
            progress("features", 0, total)
        for draw, store in enumerate(stores):
            new, at = [*missing[draw]], np.array([*missing[draw].values()], np.int64)
            parts = [slice(start, start + batch) for start in range(0, len(new), batch)]
            for part, computed in zip(parts, compute([at[part] for part in parts], draw), strict=True):
                store.add(new[part], computed)
                done += len(computed)
                if progress is not None:
                    progress("features", done, total)
            store.flush()
            if out is None:
                out = room_for((len(rows), n_views, *store.row_shape), engine.cache.folder_of(KIND))
            store.read(keys[draw], out[:, draw])
    assert out is not None  # n_views >= 1
    return out


def n_missing(engine: Engine, rows: NDArray[np.int64], *, digests: NDArray[np.uint8], preparation: str, n_views: int = 1,
              augmentation: str = "", seed: int = 0) -> int:  # fmt: skip
    """Return how many views ``extract``, called with the same arguments, has to compute: copies count once."""
    plain, augmented = _stores(engine, preparation, augmentation, seed)
    with plain, augmented:
        n = 0
        for draw in range(n_views):
            store, keys = augmented if draw else plain, {_row_key(digests[row], draw) for row in rows}
            store.fetch(keys)
            n += sum(key not in store for key in keys)
        return n


def _stores(engine: Engine, preparation: str, augmentation: str, seed: int) -> tuple[Store, Store]:
    """Return the stores of the plain and of the augmented views."""
    return Store(engine, preparation), Store(engine, f"{preparation}|{augmentation}|{seed}")


def _row_key(digest: NDArray[np.uint8], draw: int) -> bytes:
    return hashlib.blake2b(digest.tobytes() + draw.to_bytes(8, "little"), digest_size=16).digest()


def room_for(shape: tuple[int, ...], folder: Path) -> NDArray[np.float32]:
    """Return an array to fill: in memory, or if it is large in a nameless file, whose pages the system may drop.

    The file's blocks are allocated first: where the disk is full, writing to a map of a file with holes would kill the process.
    """
    n_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    if n_bytes > IN_MEMORY_BYTES:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, n_bytes)
                else:  # macOS, Windows
                    for start in range(0, n_bytes, 2**20):
                        file.write(bytes(min(2**20, n_bytes - start)))
                    file.flush()
                return np.memmap(file, np.float32, "r+", shape=shape).view(np.ndarray)
    return np.empty(shape, np.float32)


def _opened(path: Path, cache: CacheFolder) -> tuple[list[bytes], NDArray[np.float32]] | None:
    """Return the keys and the mapped rows of a segment; None, and no segment any more, if it is not as it was written."""
    try:
        status = path.stat()
        state = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        if state not in _whole:
            if not cache.verify(path):
                return None
            _whole.add(state)
        with path.open("rb") as file:
            file.seek(SEAL_BYTES)
            keys = np.load(file)
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            rows = np.memmap(file, dtype, "r", offset=file.tell(), shape=shape)
    except OSError:  # thrown out by another process meanwhile
        return None
    return [bytes(key) for key in keys], rows.view(np.ndarray)


class Store:
    """The rows of one store, open within ``with``: ``key in store``, ``add``, ``flush``, ``read``.

    Other processes may add to it at the same time. Where the disk is full or cannot be written, or the cache's limit is
    too small, rows stay in memory: all for this store, and up to 256 MiB in all for later ones of this process.
    """

    def __init__(self, engine: Engine, preparation: str) -> None:
        key = f"sealed|{engine.key}|{engine.prefix.key}|{preparation}"
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        self.cache = engine.cache
        self.folder: Path = self.cache.folder_of(KIND) / name  # of new segments
        self._folders = {self.folder, self.cache.entry_path(KIND, name)}  # two where the cache can only be read
        self._where: dict[bytes, tuple[int, int]] = {}  # row key -> segment, position in it
        self._segments: list[NDArray[np.float32]] = []
        self._keys: list[bytes] = []  # added, not yet written
        self._rows: list[NDArray[np.float32]] = []
        self._begun = time.perf_counter()  # the segment that is not yet written

    def __enter__(self) -> Store:
        for segment in _refused.get(self.folder, ()):
            self._index(*segment)
        for folder in sorted(self._folders):
            self.cache.hold(folder)
            with contextlib.suppress(OSError):
                for path in sorted(folder.glob(f"[!.]*{_SUFFIX}")):
                    segment = _opened(path, self.cache)
                    if segment is not None:
                        self._index(*segment)
                self.cache.touch(folder)
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()  # after an interruption too
        self._segments.clear()  # lets go of the maps
        for folder in self._folders:
            self.cache.release(folder)

    def __contains__(self, key: bytes) -> bool:
        return key in self._where

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row: (D,) or (C, H, W); there must be a row."""
        return self._segments[0].shape[1:]

    def add(self, keys: list[bytes], rows: NDArray[np.float32]) -> None:
        """Keep the features ``rows`` (B, ...) under ``keys``; they reach the disk in segments, every few seconds at least."""
        self._keys += keys
        self._rows.append(rows)
        late = time.perf_counter() - self._begun > SEGMENT_S
        if late or sum(part.nbytes for part in self._rows) >= SEGMENT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last segment."""
        self._begun = time.perf_counter()
        if not self._keys:
            return
        keys, rows, name = self._keys, np.concatenate(self._rows), new_name()
        self._keys, self._rows = [], []
        content = BytesIO()
        np.save(content, np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16))
        np.save(content, rows)
        self._keep(name, content.getvalue())
        if (shared := shared_cache()) is not None:
            shared.write(KIND, self.folder.name, name, content.getvalue(), note=b"".join(keys))

    def fetch(self, keys: Iterable[bytes]) -> None:
        """Take from the shared cache, where there is one, the segments that hold those of the rows ``keys`` that are not here."""
        if (shared := shared_cache()) is None:
            return
        missing = {key for key in keys if key not in self}
        for name, note in shared.notes(KIND, self.folder.name).items() if missing else ():
            there = {note[at : at + 16] for at in range(0, len(note), 16)}
            if there & missing and (content := shared.read(KIND, self.folder.name, name)) is not None:
                self._keep(name, content)
                missing -= there

    def read(self, keys: list[bytes], out: NDArray[np.float32]) -> None:
        """Copy the rows of ``keys``, in their order, to ``out`` (n, ...) float32."""
        places = np.array([self._where[key] for key in keys]).reshape(-1, 2)
        for segment in np.unique(places[:, 0]):
            at = np.flatnonzero(places[:, 0] == segment)
            out[at] = self._segments[segment][places[at, 1]]

    def _keep(self, name: str, content: bytes) -> None:
        """Write a segment, or keep it in memory where the disk does not take it."""
        path = self.folder / f"{name}{_SUFFIX}"
        segment = _opened(path, self.cache) if self.cache.store(path, content) else None
        if segment is None:
            file = BytesIO(content)
            segment = [bytes(key) for key in np.load(file)], np.load(file)
            if segment[1].nbytes + sum(kept.nbytes for store in _refused.values() for _, kept in store) <= REFUSED_BYTES:
                _refused.setdefault(self.folder, []).append(segment)
        self._index(*segment)

    def _index(self, keys: list[bytes], rows: NDArray[np.float32]) -> None:
        self._segments.append(rows)
        self._where |= {key: (len(self._segments) - 1, position) for position, key in enumerate(keys)}

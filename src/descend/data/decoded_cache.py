"""Decoded pictures, once: ``(N, R, R, 3) uint8`` in one file, memory-mapped, shared by all runs that need the same pixels.

Each row has a checksum (CRC-32, 5 GB/s), compared when the row is first taken; a row that differs is decoded again, and the
entry is thrown out. Where there is neither disk nor memory for the pixels, pictures are decoded each time they are taken.

The file is keyed by the digests of the pictures in their order, the resolution and the policies (decoding; scale, background and
fit), not by names, labels or splits: another seed, another split or a copy of the folder elsewhere finds it. It is filled by a
pool of threads, written in order with plain writes (a full disk is then an error; through a memory map it would be a killed
process), and appears whole. A process that is stopped leaves every shard of 256 pictures that it has finished to the next one.

Private memory stays flat: pages of the map that have been read count as this process's memory until they are released, so the map
is opened anew after every ``_MAPPED`` bytes; the operating system's file cache keeps the pixels meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL
from numpy.typing import ArrayLike, NDArray

from descend.data.dataset import Dataset
from descend.data.decode import POLICY, decode_resized
from descend.data.opening import read_source
from descend.data.packed import Packed
from descend.data.parquet_pictures import each_alone
from descend.data.pool import in_order, n_threads
from descend.data.problems import Problem
from descend.data.ranges import Member
from descend.data.scan import Index, digest, reason
from descend.errors import DataError, PictureError, check_count
from descend.files import CacheFolder, sealed, unsealed
from descend.progress import Update
from descend.shared_cache import new_name, shared_cache
from descend.unfinished import delete

KIND = "decoded"
IN_MEMORY_BYTES = 2**30  # without a usable disk, this much is held in memory instead
SHARD = 256  # pictures: what a kill can lose
_MAPPED = 2**24
_OF_SHARD = "-shard"
_FAULT = 2**16  # Linux maps 16 pages around each one touched
_FIX = "Set DESCEND_CACHE to a folder with room, raise DESCEND_CACHE_LIMIT, or run: descend cache --clear"


Decode = Callable[[int], "NDArray[np.uint8] | str"]  # a row -> its pixels, or the reason why it has none


class Decoded:
    """All pictures of ``dataset``, decoded at one resolution; row i is the data set's row i.

    ``dataset`` is the one given less the pictures that could not be decoded: their split is -1, and ``take`` refuses them.
    ``path`` is the folder in the cache, or None when the pixels are held in memory or decoded as they are taken.
    checksums: (N,) uint32, CRC-32 of each row in ``path``. decode: what decodes a row that differs, or that lies nowhere;
    threads: by how many.
    """

    def __init__(
        self,
        dataset: Dataset,
        resolution: int,
        pixels: NDArray[np.uint8] | None,
        path: Path | None = None,
        *,
        checksums: NDArray[np.uint32] | None = None,
        decode: Decode | None = None,
        threads: int = 1,
    ) -> None:
        self.dataset, self.resolution, self.path = dataset, resolution, path
        self._bad = dataset.splits < 0
        self._checksums, self._decode, self._threads = checksums, decode, threads
        self._checked = np.zeros(len(dataset), np.bool_)
        self._lock = threading.Lock()
        self._since = 0
        self._file: IO[bytes] | None = None
        if path is not None:
            self._file = (path / "pixels").open("rb")
            weakref.finalize(self, self._file.close)
            pixels = self._map()
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """All rows as one read-only (N, R, R, 3) uint8 array, mapped where there is a file; ``take`` is kinder to memory.

        Rows that were not taken before are not compared with their checksums. Those that lie nowhere are decoded now.
        """
        with self._lock:
            if self._pixels is not None:
                return self._pixels
        pixels = np.zeros((len(self), self.resolution, self.resolution, 3), np.uint8)
        pixels[~self._bad] = self.take(np.flatnonzero(~self._bad))
        return pixels

    def take(self, rows: ArrayLike) -> NDArray[np.uint8]:
        """Return a copy of some rows: (B,) -> (B, R, R, 3) uint8. Safe to call from several threads."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self) or self._bad[rows].any()):
            raise DataError(self.dataset.name, f"rows must be decoded pictures in 0..{len(self) - 1}", got=rows[:8].tolist())
        with self._lock:
            pixels = self._pixels
            if self._file is not None:
                self._since += len(rows) * (self.resolution**2 * 3 + _FAULT)
                if self._since > _MAPPED:
                    self._pixels, self._since = self._map(), 0
        if pixels is None:
            taken = np.empty((len(rows), self.resolution, self.resolution, 3), np.uint8)
            for at, picture in enumerate(in_order(self._again, rows.tolist(), self._threads)):
                taken[at] = picture
            return taken
        taken = np.ascontiguousarray(pixels[rows])
        if self._checksums is not None:
            self._check(rows, taken, self._checksums)
        return taken

    def _check(self, rows: NDArray[np.int64], taken: NDArray[np.uint8], checksums: NDArray[np.uint32]) -> None:
        """Compare rows that are taken for the first time with their checksums; decode anew what is not as it was written."""
        for at in np.flatnonzero(~self._checked[rows]):
            row = int(rows[at])
            if zlib.crc32(taken[at]) == checksums[row]:
                self._checked[row] = True
            else:
                taken[at] = self._again(row)
                if self.path is not None:  # later runs decode everything anew; this one keeps the file that it has open
                    CacheFolder(self.path.parents[1]).discard(self.path)

    def _again(self, row: int) -> NDArray[np.uint8]:
        assert self._decode is not None  # given where it can be needed
        picture = self._decode(row)
        if isinstance(picture, str):
            raise DataError(self.dataset.name_of(row), f"must stay readable while it is used ({picture})", fix="Run again.")
        return picture

    def _map(self) -> NDArray[np.uint8]:
        assert self._file is not None  # called only where there is one
        return np.memmap(self._file, np.uint8, "r", shape=(len(self), self.resolution, self.resolution, 3)).view(np.ndarray)


def decoded(
    dataset: Dataset,
    resolution: int,
    *,
    threads: int | None = None,
    cache_dir: str | Path | None = None,
    limit_bytes: int | None = None,
    progress: Update | None = None,
) -> Decoded:
    """Decode every picture to ``resolution`` x ``resolution`` pixels, or find that done in the cache.

    They become square by the fit of the data set's policy (``decode_resized``); pictures that have this size are not
    interpolated, and those in memory that have it are used where they are. If the cache does not take them, the pixels are held
    in memory where they fit in 1 GiB, and else decoded each time they are taken; a problem of kind ``cache`` says so.
    Raises DataError when a class loses all its training pictures.
    """
    check_count("decoded", resolution, knob="resolution")
    if isinstance(dataset.pictures, np.ndarray) and dataset.pictures.ndim > 1 and dataset.uniform_side == resolution:
        return Decoded(dataset, resolution, _as_they_are(dataset.pictures))
    cache = CacheFolder(cache_dir, limit_bytes=limit_bytes)
    path = cache.entry_path(KIND, _key(dataset, resolution))
    decode = _decoding(dataset, resolution, cache)
    workers = n_threads(threads)
    cache.hold(path)
    try:
        stored = _stored(path, dataset, resolution)
        if stored is None:
            cache.discard(path)  # if there is one, it is not whole
            _make_room(cache, len(dataset) * resolution**2 * 3)
            pictures = partial(_pictures, dataset, decode, workers, progress)
            with cache.filling(path) as begun:
                _fill(begun, dataset, resolution, partial(_fetched, path.name, resolution, decode, pictures))
            stored = _stored(path, dataset, resolution)
            if stored is None:
                raise OSError(None, "what was written there cannot be read")
            _leave(path)
        cache.touch(path)
        reasons, checksums = stored
        less = _less(dataset, reasons)
        pixels = Decoded(less, resolution, None, path, checksums=checksums, decode=decode, threads=workers)
        weakref.finalize(pixels, cache.release, path)
    except OSError as error:
        cache.release(path)
        return _without_disk(dataset, resolution, cache, workers, progress, error)
    except BaseException:
        cache.release(path)
        raise
    return pixels


def _key(dataset: Dataset, resolution: int) -> str:
    text = f"checksums\0{POLICY}\0{dataset.policy}\0{PIL.__version__}\0{resolution}\0"
    state = hashlib.blake2b(text.encode(), digest_size=16)
    state.update(dataset.digests.tobytes())
    return state.hexdigest()


def _stored(path: Path, dataset: Dataset, resolution: int) -> tuple[dict[int, str], NDArray[np.uint32]] | None:
    """Return the rows of an entry that have no pixels, with the reasons, and all checksums; None if there is no whole entry."""
    try:
        size = (path / "pixels").stat().st_size
        if size != len(dataset) * resolution**2 * 3 or not (path / "rows").is_file():  # to read a pipe would wait for ever
            return None
        noted = unsealed((path / "rows").read_bytes())
    except OSError:
        return None
    return None if noted is None else _noted(noted)


def _noted(content: bytes) -> tuple[dict[int, str], NDArray[np.uint32]]:
    """Return the rows that have no pixels, with the reasons, and all checksums, of what ``_note`` has written."""
    rows = json.loads(content)
    return {int(row): why for row, why in rows["bad"].items()}, np.array(rows["crc32"], np.uint32)


def _make_room(cache: CacheFolder, n_bytes: int) -> None:
    if n_bytes > cache.limit_bytes:
        raise OSError(None, f"{n_bytes / 1e9:.2f} GB of pixels do not fit under the limit of {cache.limit_bytes / 1e9:.2f} GB")
    cache.enforce_limit(n_bytes)


def _fill(folder: Path, dataset: Dataset, resolution: int, pictures: Callable[[int], Iterator[NDArray[np.uint8] | str]]) -> None:
    """Write the pixels of all rows, shard by shard, after those that are whole in the folder.

    pictures: a row -> its pixels and those of the rows after it, or the reason why there are none.
    """
    n_bytes, path = resolution**2 * 3, folder / "pixels"
    path.touch()
    with path.open("r+b") as file:
        reasons, checksums = _whole_shards(folder, file, n_bytes)
        start = len(checksums)
        file.seek(start * n_bytes)
        try:
            for row, picture in enumerate(pictures(start), start):
                if isinstance(picture, str):
                    reasons[row] = picture
                    file.seek(n_bytes, os.SEEK_CUR)
                else:
                    file.write(picture.data)
                checksums.append(0 if isinstance(picture, str) else zlib.crc32(picture.data))
                if len(checksums) % SHARD == 0:
                    file.flush()
                    _note(folder / f"{len(checksums) - SHARD}{_OF_SHARD}", reasons, checksums[-SHARD:])
        except BaseException:
            if len(checksums) < SHARD:
                delete(folder)  # nothing that is worth keeping
            raise
        file.truncate(len(dataset) * n_bytes)
    for shard in folder.glob(f"*{_OF_SHARD}"):
        shard.unlink()
    _note(folder / "rows", reasons, checksums)


def _note(path: Path, reasons: dict[int, str], checksums: list[int]) -> None:
    path.write_bytes(sealed(json.dumps({"bad": reasons, "crc32": checksums}).encode()))


def _whole_shards(folder: Path, file: IO[bytes], n_bytes: int) -> tuple[dict[int, str], list[int]]:
    """Return which rows of the first shards have no pixels, with the reasons, and the checksums of all, as far as they agree."""
    reasons: dict[int, str] = {}
    checksums: list[int] = []
    with contextlib.suppress(OSError):  # no further shard
        while (noted := unsealed((folder / f"{len(checksums)}{_OF_SHARD}").read_bytes())) is not None:
            bad, found = _noted(noted)
            for row, checksum in enumerate(found.tolist(), len(checksums)):
                pixels = file.read(n_bytes)
                if row not in bad and zlib.crc32(pixels) != checksum:
                    return reasons, checksums
            reasons, checksums = bad, checksums + found.tolist()
    return reasons, checksums


def _decoding(dataset: Dataset, resolution: int, cache: CacheFolder) -> Decode:
    """Return the function from a row to its pixels, or to the reason why it has none."""

    def decode(row: int) -> NDArray[np.uint8] | str:
        source = dataset.source(row)
        content = _content(dataset, row, source, cache) if isinstance(source, (Path, Member)) else source
        try:
            return decode_resized(content, resolution, name=dataset.name_of(row), policy=dataset.policy)
        except PictureError as error:
            return reason(error)

    return decode


def _pictures(
    dataset: Dataset, decode: Decode, threads: int, progress: Update | None, start: int = 0
) -> Iterator[NDArray[np.uint8] | str]:
    """Yield the pixels of each row from ``start`` on, or the reason why it has none."""
    for done, result in enumerate(in_order(decode, range(start, len(dataset)), threads), start=start + 1):
        yield result
        if progress is not None:
            progress("decode", done, len(dataset))


def _fetched(
    key: str, resolution: int, decode: Decode, decoded_from: Callable[[int], Iterator[NDArray[np.uint8] | str]], start: int
) -> Iterator[NDArray[np.uint8] | str]:
    """Yield what ``decoded_from(start)`` does, from the shared cache as far as its pixels agree with their checksums.

    What could not be decoded on another machine is tried here: another decoder may be installed.
    """
    shared, row, n_bytes = shared_cache(), start, resolution**2 * 3
    for name, note in ({} if shared is None else shared.notes(KIND, key)).items():
        assert shared is not None  # it has notes
        bad, checksums = _noted(note)
        blocks = shared.blocks(KIND, key, name, n_bytes, start=row * n_bytes)
        for checksum, block in zip(checksums[row:], blocks, strict=False):
            if row not in bad and (len(block) < n_bytes or zlib.crc32(block) != checksum):
                break
            yield decode(row) if row in bad else np.frombuffer(block, np.uint8).reshape(resolution, resolution, 3)
            row += 1
    yield from decoded_from(row)


def _leave(path: Path) -> None:
    """Leave an entry in the shared cache, where there is one."""
    shared = shared_cache()
    if shared is not None and (note := unsealed((path / "rows").read_bytes())) is not None:
        shared.leave(KIND, path.name, new_name(), path / "pixels", note=note)


def _content(dataset: Dataset, row: int, source: Path | Member, cache: CacheFolder) -> bytes:
    """Read a picture that the scan has read before; one that changed since must not enter the cache under its old digest."""
    try:
        content = read_source(source)
    except OSError as error:
        raise DataError(str(source), f"must stay readable while it is used ({error.strerror})", fix="Run again.") from None
    if digest(content) != dataset.digests[row].tobytes():
        assert dataset.root is not None  # of files
        Index(cache, dataset.root).forget(dataset.digests[row])  # or every later run would meet the same surprise
        raise DataError(str(source), "must not change while it is used", fix="Run again.")
    return content


def _less(dataset: Dataset, reasons: dict[int, str]) -> Dataset:
    if not reasons:
        return dataset
    less = dataset.without(reasons)
    if (dataset.splits == 0).any():  # a data set for evaluation only may lose what it likes
        less.check_trainable()
    return less


def _as_they_are(pictures: NDArray[Any]) -> NDArray[np.uint8]:
    """Show pictures in memory, (N, R, R) or (N, R, R, C), as RGB without a copy: gray ones do not take three times the memory."""
    channels = pictures[..., None] if pictures.ndim == 3 else pictures
    return np.broadcast_to(channels, (*channels.shape[:3], 3))


def _without_disk(
    dataset: Dataset, resolution: int, cache: CacheFolder, threads: int, progress: Update | None, error: OSError
) -> Decoded:
    in_memory = len(dataset) * resolution**2 * 3 <= IN_MEMORY_BYTES
    if not in_memory and isinstance(dataset.pictures, Packed):
        with contextlib.suppress(DataError):  # then as they lie, which takes longer
            dataset = replace(dataset, pictures=each_alone(dataset.pictures, cache))
    decode = _decoding(dataset, resolution, cache)
    pixels = np.zeros((len(dataset), resolution, resolution, 3), np.uint8) if in_memory else None
    reasons: dict[int, str] = {}
    for row, picture in enumerate(_pictures(dataset, decode, threads, progress)):  # all: who can be decoded must be known now
        if isinstance(picture, str):
            reasons[row] = picture
        elif pixels is not None:
            pixels[row] = picture
    where = "are held in memory" if in_memory else "do not fit in memory, each is decoded whenever it is needed: slow"
    why = error.strerror or str(error)
    note = Problem("cache", f"the decoded pictures {where}, the cache cannot take them ({why}). {_FIX}", 1)
    less = _less(dataset, reasons)
    less = replace(less, problems=(*less.problems, note))
    return Decoded(less, resolution, pixels, decode=decode, threads=threads)

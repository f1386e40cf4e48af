"""Decoded pictures, once: ``(N, R, R, 3) uint8`` in one file, memory-mapped, shared by all runs that need the same pixels.

The file is keyed by the digests of the pictures in their order, the resolution and the policies (decoding; scale, background and
fit), not by names, labels or splits: another seed, another split or a copy of the folder elsewhere finds it. It is filled by a
pool of threads, written in order with plain writes (a full disk is then an error; through a memory map it would be a killed
process), and appears whole.

Private memory stays flat: pages of the map that have been read count as this process's memory until they are released, so the map
is opened anew after every ``_MAPPED`` bytes; the operating system's file cache keeps the pixels meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL
from numpy.typing import ArrayLike, NDArray

from descend.data.dataset import Dataset
from descend.data.decode import POLICY, decode_resized
from descend.data.opening import read_file
from descend.data.pool import in_order, n_threads
from descend.data.problems import Problem
from descend.data.scan import Index, digest, reason
from descend.errors import DataError, PictureError, check_count
from descend.files import CacheFolder
from descend.progress import Update

KIND = "decoded"
IN_MEMORY_BYTES = 2**30  # without a usable disk, this much is held in memory instead
_MAPPED = 2**24
_FAULT = 2**16  # Linux maps 16 pages around each one touched
_FIX = "Set DESCEND_CACHE to a folder with room, raise DESCEND_CACHE_LIMIT, or run: descend cache --clear"


class Decoded:
    """All pictures of ``dataset``, decoded at one resolution; row i is the data set's row i.

    ``dataset`` is the one given less the pictures that could not be decoded: their split is -1, and ``take`` refuses them.
    ``path`` is the folder in the cache, or None when the pixels are held in memory.
    """

    def __init__(self, dataset: Dataset, resolution: int, pixels: NDArray[np.uint8] | None, path: Path | None = None) -> None:
        self.dataset, self.resolution, self.path = dataset, resolution, path
        self._bad = dataset.splits < 0
        self._lock = threading.Lock()
        self._since = 0
        self._file: IO[bytes] | None = None
        if pixels is None:
            assert path is not None  # either pixels or a file that holds them
            self._file = (path / "pixels").open("rb")
            weakref.finalize(self, self._file.close)
        self._pixels = self._map() if pixels is None else pixels

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """All rows as one read-only (N, R, R, 3) uint8 array, mapped where there is a file; ``take`` is kinder to memory."""
        with self._lock:
            return self._pixels

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
        return np.ascontiguousarray(pixels[rows])

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
    interpolated, and those in memory that have it are used where they are. If the cache cannot be written, the pixels are held in
    memory where they fit in 1 GiB, and a problem of kind ``cache`` says so.
    Raises DataError when neither is possible, or when a class loses all its training pictures.
    """
    check_count("decoded", resolution, knob="resolution")
    if dataset.pictures is not None and dataset.uniform_side == resolution:
        return Decoded(dataset, resolution, _as_they_are(dataset.pictures))
    cache = CacheFolder(cache_dir, limit_bytes=limit_bytes)
    path = cache.entry_path(KIND, _key(dataset, resolution))
    cache.hold(path)
    try:
        existed = path.exists()
        reasons = _stored(path, dataset, resolution)
        if reasons is None:
            if existed:  # and is not whole: something has damaged it
                cache.discard(path)
            _make_room(cache, len(dataset) * resolution**2 * 3)
            with cache.writing(path) as unfinished:
                _fill(unfinished, _pictures(dataset, resolution, n_threads(threads), progress, cache), dataset, resolution)
            reasons = _stored(path, dataset, resolution) or {}
        cache.touch(path)
        pixels = Decoded(_less(dataset, reasons), resolution, None, path)
        weakref.finalize(pixels, cache.release, path)
    except OSError as error:
        cache.release(path)
        return _without_disk(dataset, resolution, _pictures(dataset, resolution, n_threads(threads), progress, cache), error)
    except BaseException:
        cache.release(path)
        raise
    return pixels


def _key(dataset: Dataset, resolution: int) -> str:
    state = hashlib.blake2b(f"{POLICY}\0{dataset.policy}\0{PIL.__version__}\0{resolution}\0".encode(), digest_size=16)
    state.update(dataset.digests.tobytes())
    return state.hexdigest()


def _stored(path: Path, dataset: Dataset, resolution: int) -> dict[int, str] | None:
    """Return the rows of a whole entry that have no pixels, with the reasons; None if there is no whole entry."""
    try:
        if (path / "pixels").stat().st_size != len(dataset) * resolution**2 * 3:
            return None
        noted = json.loads((path / "bad.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return {int(row): why for row, why in noted.items()}


def _make_room(cache: CacheFolder, n_bytes: int) -> None:
    if n_bytes > cache.limit_bytes:
        raise OSError(None, f"{n_bytes / 1e9:.2f} GB of pixels do not fit under the limit of {cache.limit_bytes / 1e9:.2f} GB")
    cache.enforce_limit(n_bytes)


def _fill(folder: Path, pictures: Iterator[NDArray[np.uint8] | str], dataset: Dataset, resolution: int) -> None:
    folder.mkdir()
    reasons: dict[int, str] = {}
    with (folder / "pixels").open("wb") as file:
        for row, picture in enumerate(pictures):
            if isinstance(picture, str):
                reasons[row] = picture
                file.seek(resolution**2 * 3, os.SEEK_CUR)
            else:
                file.write(picture.data)
        file.truncate(len(dataset) * resolution**2 * 3)
        file.flush()
        os.fsync(file.fileno())  # after a power cut the entry is whole or absent, never black
    (folder / "bad.json").write_text(json.dumps(reasons), encoding="utf-8")


def _pictures(
    dataset: Dataset, resolution: int, threads: int, progress: Update | None, cache: CacheFolder
) -> Iterator[NDArray[np.uint8] | str]:
    """Yield each row's pixels, or the reason why it has none."""

    def one(row: int) -> NDArray[np.uint8] | str:
        name = dataset.name_of(row)
        content = _content(dataset, row, cache) if dataset.pictures is None else dataset.pictures[row]
        try:
            return decode_resized(content, resolution, name=name, policy=dataset.policy)
        except PictureError as error:
            return reason(error)

    for done, result in enumerate(in_order(one, range(len(dataset)), threads), start=1):
        yield result
        if progress is not None:
            progress("decode", done, len(dataset))


def _content(dataset: Dataset, row: int, cache: CacheFolder) -> bytes:
    """Read a file that the scan has read before; a file that changed since must not enter the cache under its old digest."""
    path = dataset.path_of(row)
    assert path is not None and dataset.root is not None  # noqa: PT018 (the pictures are files)
    try:
        content = read_file(path)
    except OSError as error:
        raise DataError(str(path), f"must stay readable while it is used ({error.strerror})", fix="Run again.") from None
    if digest(content) != dataset.digests[row].tobytes():
        Index(cache, dataset.root).forget(dataset.digests[row])  # or every later run would meet the same surprise
        raise DataError(str(path), "must not change while it is used", fix="Run again.")
    return content


def _less(dataset: Dataset, reasons: dict[int, str]) -> Dataset:
    if not reasons:
        return dataset
    less = dataset.without(reasons)
    if (dataset.splits == 0).any():  # a data set for evaluation only may lose what it likes
        less.check_trainable()
    return less


def _as_they_are(pictures: NDArray[Any]) -> NDArray[np.uint8]:
    """Show pictures in memory, (N, R, R) or (N, R, R, C), as RGB without a copy: grey ones do not take three times the memory."""
    channels = pictures[..., None] if pictures.ndim == 3 else pictures
    return np.broadcast_to(channels, (*channels.shape[:3], 3))


def _without_disk(dataset: Dataset, resolution: int, pictures: Iterator[NDArray[np.uint8] | str], error: OSError) -> Decoded:
    n_bytes = len(dataset) * resolution**2 * 3
    why = error.strerror or str(error)
    if n_bytes > IN_MEMORY_BYTES:
        raise DataError("cache", f"must have room for {n_bytes / 1e9:.2f} GB of decoded pictures ({why})", fix=_FIX) from error
    pixels = np.zeros((len(dataset), resolution, resolution, 3), np.uint8)
    reasons: dict[int, str] = {}
    for row, picture in enumerate(pictures):
        if isinstance(picture, str):
            reasons[row] = picture
        else:
            pixels[row] = picture
    note = Problem("cache", f"the decoded pictures are held in memory, the cache cannot take them ({why}). {_FIX}", 1)
    less = _less(dataset, reasons)
    return Decoded(replace(less, problems=(*less.problems, note)), resolution, pixels)

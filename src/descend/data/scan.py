"""The first look at every picture: a digest of its bytes, its size from the header, whether it opens at all.

The digest is the picture's identity everywhere: which copies must stay on one side of a split, what its augmentation draws
are, where its decoded pixels and its features lie in the cache. An index on disk remembers (path, size, time of change) ->
digest, so that a second run does not read the files again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from descend.data.decode import POLICY, probe
from descend.data.manifest import Manifest
from descend.data.pool import Progress, in_order
from descend.errors import PictureError
from descend.files import CacheFolder

DIGEST_BYTES = 16
_SETTLED_NS = 2_000_000_000  # a file changed this recently may change again within one tick of the file system's clock
_CHUNK = 256  # pictures given to a thread at once: a warm look takes microseconds


@dataclass(frozen=True)
class Scan:
    """What a look at N pictures found.

    digests: (N, 16) uint8, blake2b of the file's bytes. sizes: (N, 2) int32, width and height in pixels as stored, before
    EXIF orientation. reasons: row -> why it cannot be opened; such rows hold zeros.
    """

    digests: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    reasons: dict[int, str]


def digest(content: bytes) -> bytes:
    """Return the identity of a picture: blake2b of its bytes, 16 bytes long."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def scan(manifest: Manifest, *, threads: int, cache: CacheFolder, progress: Progress | None = None) -> Scan:
    """Look at every picture of a manifest."""
    n = len(manifest.names)
    found = Scan(np.zeros((n, DIGEST_BYTES), np.uint8), np.zeros((n, 2), np.int32), {})
    if manifest.root is None:
        _look_at_arrays(manifest, found)
    else:
        _look_at_files(manifest.root, manifest.names, found, threads, cache, progress)
    return found


def _look_at_arrays(manifest: Manifest, found: Scan) -> None:
    pictures = manifest.pictures
    assert pictures is not None  # a manifest without a root holds its pictures
    found.sizes[:] = pictures.shape[2], pictures.shape[1]
    shape = str(pictures.shape[1:]).encode()
    for row, picture in enumerate(pictures):
        found.digests[row] = np.frombuffer(digest(shape + picture.tobytes()), np.uint8)


def _look_at_files(
    root: Path, names: Sequence[str], found: Scan, threads: int, cache: CacheFolder, progress: Progress | None
) -> None:
    index = _Index(cache, root)
    known, now = index.load(), time.time_ns()
    keys = np.zeros_like(found.digests)
    keep = np.zeros(len(names), np.bool_)
    fresh = np.zeros(len(names), np.bool_)

    def look(start: int) -> None:
        for row in range(start, min(start + _CHUNK, len(names))):
            path = root / names[row]
            try:
                status = path.stat()
                key = digest(f"{names[row]}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogatepass"))
                entry = known.get(key)
                fresh[row] = entry is None
                identity, size = entry or _read(path, names[row])
            except PictureError as error:
                found.reasons[row] = reason(error)
                continue
            except OSError as error:
                found.reasons[row] = error.strerror or str(error)
                continue
            found.digests[row], found.sizes[row] = np.frombuffer(identity, np.uint8), size
            keys[row], keep[row] = np.frombuffer(key, np.uint8), status.st_mtime_ns < now - _SETTLED_NS

    for done, _ in enumerate(in_order(look, range(0, len(names), _CHUNK), threads), start=1):
        if progress is not None:
            progress("scan", min(done * _CHUNK, len(names)), len(names))
    if (fresh & keep).any():
        index.save(keys[keep], found.digests[keep], found.sizes[keep])


def _read(path: Path, name: str) -> tuple[bytes, tuple[int, int]]:
    content = path.read_bytes()
    return digest(content), probe(content, name=name)


def reason(error: PictureError) -> str:
    """Return why a picture cannot be decoded, without its name."""
    return error.must.removeprefix("must be a readable picture (").removesuffix(")")


class _Index:
    """What is known about the files below one folder, on disk."""

    def __init__(self, cache: CacheFolder, root: Path) -> None:
        key = digest(f"{POLICY}\0{os.path.realpath(root)}".encode("utf-8", "surrogatepass")).hex()
        self._cache, self._path = cache, cache.entry_path("index", key, ".npz")

    def load(self) -> dict[bytes, tuple[bytes, tuple[int, int]]]:
        try:
            with np.load(BytesIO(self._path.read_bytes())) as file:
                keys, digests, sizes = file["keys"], file["digests"], file["sizes"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # none yet, or damaged: then the pictures are read anew
            return {}
        self._cache.touch(self._path)
        return {
            key.tobytes(): (identity.tobytes(), (int(size[0]), int(size[1])))
            for key, identity, size in zip(keys, digests, sizes, strict=True)
        }

    def save(self, keys: NDArray[np.uint8], digests: NDArray[np.uint8], sizes: NDArray[np.int32]) -> None:
        with contextlib.suppress(OSError), self._cache.writing(self._path) as unfinished:  # without it the next run reads again
            np.savez(unfinished, keys=keys, digests=digests, sizes=sizes)

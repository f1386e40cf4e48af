"""The first look at every picture: a digest of its bytes, its traits, whether it opens at all.

The digest is the picture's identity everywhere: which copies must stay on one side of a split, what its augmentation draws
are, where its decoded pixels and its features lie in the cache. An index on disk remembers what was seen of each file, so that a
second run does not read the files again. A file is the one that was seen if its name, size, times of content and status change
(in nanoseconds) and number in the file system are the same: names, sizes and times of content alone survive an exchange of two
files, and unpacking. A picture in a shard is the one that was seen if its place there, and so much of the shard, are the same.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.decode import POLICY
from descend.data.manifest import Manifest
from descend.data.opening import read_source
from descend.data.pool import in_order
from descend.data.ranges import Member
from descend.data.traits import TRAITS, traits
from descend.errors import PictureError
from descend.files import CacheFolder
from descend.progress import Update

DIGEST_BYTES = 16
_SETTLED_NS = 2_000_000_000  # a file changed this recently may change again within one tick of the file system's clock
_CHUNK = 256  # pictures given to a thread at once: a warm look takes microseconds
_now_ns: Callable[[], int] = time.time_ns


@dataclass(frozen=True)
class Scan:
    """What a look at N pictures gave.

    digests: (N, 16) uint8, blake2b of the file's bytes. traits: (N,) ``TRAITS``. reasons: row -> why it cannot be opened; such
    rows hold zeros.
    """

    digests: NDArray[np.uint8]
    traits: NDArray[np.void]
    reasons: dict[int, str]


def digest(content: bytes) -> bytes:
    """Return the identity of a picture: blake2b of its bytes, 16 bytes long."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def scan(manifest: Manifest, *, threads: int, cache: CacheFolder, progress: Update | None = None) -> Scan:
    """Look at every picture of a manifest."""
    n = len(manifest.names)
    result = Scan(np.zeros((n, DIGEST_BYTES), np.uint8), np.zeros(n, TRAITS), {})
    if manifest.root is None:
        _look_at_arrays(manifest, result)
    else:
        _look_at_files(manifest, manifest.root, result, threads, cache, progress)
    return result


def _look_at_arrays(manifest: Manifest, result: Scan) -> None:
    pictures = manifest.pictures
    assert isinstance(pictures, np.ndarray)  # a manifest without a root holds its pictures
    if pictures.dtype == np.object_:
        _look_at_encoded(manifest.names, pictures, result)
        return
    result.traits["size"] = pictures.shape[2], pictures.shape[1]
    shape = str(pictures.shape[1:]).encode()
    for row, picture in enumerate(pictures):
        result.digests[row] = np.frombuffer(digest(shape + picture.tobytes()), np.uint8)


def _look_at_encoded(names: Sequence[str], pictures: NDArray[Any], result: Scan) -> None:
    for row, content in enumerate(pictures):
        result.digests[row] = np.frombuffer(digest(content), np.uint8)
        try:
            result.traits[row] = traits(content, name=names[row])
        except PictureError as error:
            result.reasons[row] = reason(error)


def _look_at_files(
    manifest: Manifest, root: Path, result: Scan, threads: int, cache: CacheFolder, progress: Update | None
) -> None:
    index, now, names = Index(cache, root), _now_ns(), manifest.names
    index.load()
    keys = np.zeros_like(result.digests)
    keep = np.zeros(len(names), np.bool_)
    fresh = np.zeros(len(names), np.bool_)

    def look(start: int) -> None:
        for row in range(start, min(start + _CHUNK, len(names))):
            source = manifest.source(row)
            assert isinstance(source, (Path, Member))  # of a manifest with a root
            try:
                state, changed_ns = source.state() if isinstance(source, Member) else _state(source)
                key = digest("\0".join((names[row], *state)).encode("utf-8", "surrogatepass"))
                before = index.find(key)
                fresh[row] = before is None
                result.digests[row], result.traits[row] = before or _read(source, names[row])
            except PictureError as error:
                result.reasons[row] = reason(error)
                continue
            except OSError as error:
                result.reasons[row] = error.strerror or str(error)
                continue
            keys[row], keep[row] = np.frombuffer(key, np.uint8), changed_ns < now - _SETTLED_NS

    if progress is not None:
        progress("scan", 0, len(names))
    for done, _ in enumerate(in_order(look, range(0, len(names), _CHUNK), threads), start=1):
        if progress is not None:
            progress("scan", min(done * _CHUNK, len(names)), len(names))
    if (fresh & keep).any():
        index.save(keys[keep], result.digests[keep], result.traits[keep])


def _state(path: Path) -> tuple[tuple[str, ...], int]:
    """Return what tells that a file may have changed, and when that last happened in ns since 1970. Raises OSError."""
    status = path.stat()
    state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return tuple(map(str, state)), max(status.st_mtime_ns, status.st_ctime_ns)


def _read(source: Path | Member, name: str) -> tuple[NDArray[np.uint8], NDArray[np.void]]:
    content = read_source(source)
    return np.frombuffer(digest(content), np.uint8), traits(content, name=name)


def reason(error: PictureError) -> str:
    """Return why a picture cannot be decoded, without its name."""
    return error.must.removeprefix("must be a readable picture (").removesuffix(")")


class Index:
    """What was seen of the files below one folder, on disk; in memory, arrays sorted by key."""

    def __init__(self, cache: CacheFolder, root: Path) -> None:
        key = digest(f"index 6\0{POLICY}\0{os.path.realpath(root)}".encode("utf-8", "surrogatepass")).hex()
        self._cache, self._path = cache, cache.entry_path("index", key, ".sealed")
        self._keys, self._digests = np.zeros((0, DIGEST_BYTES), np.uint8), np.zeros((0, DIGEST_BYTES), np.uint8)
        self._traits = np.zeros(0, TRAITS)
        self._heads = np.zeros(0, np.uint64)

    def load(self) -> None:
        """Read what is known; nothing, where there is no index yet or it is damaged: then the pictures are read anew."""
        content = self._cache.load(self._path)
        if content is None:
            return
        with np.load(BytesIO(content)) as file:
            keys, digests, seen = file["keys"], file["digests"], file["traits"]
        heads = np.ascontiguousarray(keys[:, :8]).view(np.uint64).reshape(-1)
        order = np.argsort(heads)
        self._keys, self._digests, self._traits, self._heads = keys[order], digests[order], seen[order], heads[order]

    def find(self, key: bytes) -> tuple[NDArray[np.uint8], NDArray[np.void]] | None:
        """Return the digest and the traits of the file that was seen under a key, or None."""
        wanted = np.frombuffer(key, np.uint8)
        at = int(np.searchsorted(self._heads, wanted[:8].view(np.uint64)[0]))
        if at < len(self._keys) and (self._keys[at] == wanted).all():
            return self._digests[at], self._traits[at]
        return None

    def save(self, keys: NDArray[np.uint8], digests: NDArray[np.uint8], seen: NDArray[np.void]) -> None:
        """Write what was seen of n files; without it the next run reads them again."""
        content = BytesIO()
        np.savez(content, keys=keys, digests=digests, traits=seen)
        self._cache.store(self._path, content.getvalue())

    def forget(self, content_digest: NDArray[np.uint8]) -> None:
        """Drop what was seen of files with these contents: one of them has turned out to hold something else."""
        self.load()
        kept = (self._digests != content_digest).any(axis=1)
        if not kept.all():
            self.save(self._keys[kept], self._digests[kept], self._traits[kept])

"""Pictures in an archive (``photos.zip``, ``photos.tar.gz``) or in WebDataset's shards: unpacked once into the cache, then read.

    photos.zip                  class folders, splits, a table: whatever a folder may hold, also within one folder more
    shard-000.tar               members of one key belong together: 17.jpg, and its class in 17.cls or as "label" in 17.json
    shards/ of such files       all of them; train-000.tar and val-000.tar tell the split

An archive that has changed (size, time) is unpacked anew. Nothing is written outside the cache, links and devices are passed
over. What does not fit into the cache is refused before anything is written; a compressed tar, which tells its sizes only when it
is read to its end, is read once, and refused at the first file that is too much.

Source of the shards' conventions: https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import csv
import json
import lzma
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from descend.data.manifest import SPLIT_WORDS
from descend.errors import DataError
from descend.files import CacheFolder
from descend.printable import shortened

KIND = "unpacked"  # of the cache's entries
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SHARD = ".tar"  # shards are not compressed
TABLE = "descend-shards.csv"  # what is written of the classes that shards tell
_CLASS, _FACTS = ".cls", ".json"  # beside a picture in a shard: its class, or what is known of it
_NO_PICTURES = (_CLASS, _FACTS, ".txt", ".csv")
_NOISE = ("__MACOSX",)

Member = tuple[PurePosixPath, int, "zipfile.ZipInfo | tarfile.TarInfo"]  # path within, bytes, what the archive calls it
Archive = zipfile.ZipFile | tarfile.TarFile


def is_archive(path: Path) -> bool:
    """Say whether a file is an archive, by its name."""
    return path.name.lower().endswith(ENDINGS)


def shards_of(folder: Path) -> list[Path]:
    """Return the shards in a folder without folders, in the order of their names; none where there are folders."""
    try:
        with os.scandir(folder) as entries:
            inside = list(entries)
    except OSError:  # who reads the folder tells why
        return []
    shards = [Path(entry.path) for entry in inside if entry.name.lower().endswith(SHARD) and entry.is_file()]
    return [] if not shards or any(entry.is_dir() for entry in inside) else sorted(shards)


def unpacked(archives: list[Path], cache: CacheFolder | None = None) -> Path:
    """Return the folder, or the table, that these archives hold, unpacked if it is not in the cache.

    Raises DataError for one that is damaged, encrypted or too large for the cache, and where the disk does not take it.
    """
    cache = cache or CacheFolder()
    name = stem(archives[0]) if len(archives) == 1 else archives[0].parent.name
    root = in_cache(archives, name, lambda place: _unpack(archives, place, cache), cache)
    table = root / TABLE
    return table if table.is_file() else root


def in_cache(archives: list[Path], name: str, unpack: Callable[[Path], None], cache: CacheFolder) -> Path:
    """Return the folder in the cache, called ``name``, of what is in these files; where it is not there, ``unpack`` fills it.

    Raises DataError where the disk does not take it, and what ``unpack`` raises.
    """
    facts = [[str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns] for path in archives]
    try:
        return cache.folder(KIND, facts, lambda unfinished: unpack(unfinished / name)) / name
    except OSError as error:
        raise DataError(str(archives[0]), f"must be unpacked into the cache {cache.root} ({error.strerror or error})",
                        fix="Make room there, or unpack it and give the folder.") from error  # fmt: skip


def unpacked_folder(path: Path) -> Path:
    """Return the folder in which the files of an archive lie, unpacked if need be; the path itself where it is no file."""
    if not path.is_file():
        return path  # who looks for it says so
    place = unpacked([path])
    return place if place.is_dir() else place.parent


def _unpack(archives: list[Path], root: Path, cache: CacheFolder) -> None:
    """Write the archives' files below ``root``, and make room for them. Raises DataError where the cache is too small."""
    room = Room(archives[0], cache)
    room.take(sum(size for path in archives if not _is_stream(path) for size in _sizes(path)))
    for path in archives:
        _extract(path, root if len(archives) == 1 else root / stem(path), room.take if _is_stream(path) else None)
    if all(path.suffix.lower() == SHARD for path in archives):
        _write_table(root)


class Room:
    """The room in the cache for what is unpacked. who: what errors name."""

    def __init__(self, who: Path, cache: CacheFolder) -> None:
        self._who, self._cache, self._needed, self._made = who, cache, 0, 0

    def take(self, n_bytes: int) -> None:
        """Make room for so many more bytes. Raises DataError where the cache, emptied, would not hold them."""
        self._needed += n_bytes
        limit = self._cache.limit_bytes
        if self._needed > limit:
            raise DataError(str(self._who), f"must fit into the cache of {limit:,} bytes", got=f"{self._needed:,} bytes or more",
                            fix="Unpack it, and give the folder.")  # fmt: skip
        if self._needed > self._made:
            self._made = min(limit, max(self._needed, 2 * self._made))  # to look at all entries for each file would take long
            self._cache.enforce_limit(self._made)


def _is_stream(path: Path) -> bool:
    """Say whether an archive must be read to its end to know its files: a tar that is compressed as a whole."""
    return path.suffix.lower() not in (".zip", ".tar")


def _sizes(path: Path) -> Iterator[int]:
    with _opened(path) as archive:
        yield from (size for _, size, _ in _members(path, archive))


def _extract(path: Path, folder: Path, take: Callable[[int], None] | None) -> None:
    """Write the files of an archive below a folder. take: asked for room before each, where the sizes are not known yet."""
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(path) as archive:
        for inside, size, member in _members(path, archive):
            if take is not None:
                take(size)
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            with _member(archive, member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)


@contextmanager
def _opened(path: Path) -> Iterator[Archive]:
    """Open an archive. Raises DataError for one that is damaged, is none, or has a password, wherever that shows."""
    try:
        with zipfile.ZipFile(path) if path.suffix.lower() == ".zip" else tarfile.open(path) as archive:
            yield archive
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError) as error:
        raise DataError(str(path), f"must be an archive that is whole ({shortened(str(error) or type(error).__name__)})",
                        fix="Fetch it again.") from error  # fmt: skip
    except RuntimeError as error:  # of zipfile, where a password is asked for
        raise DataError(str(path), "must not be encrypted", fix="Unpack it, and give the folder.") from error


def _members(path: Path, archive: Archive) -> Iterator[Member]:
    """Yield the files of an archive that are worth unpacking. Raises DataError for a name that leads out of it."""
    listed: Iterable[zipfile.ZipInfo | tarfile.TarInfo] = archive.infolist() if isinstance(archive, zipfile.ZipFile) else archive
    for member in listed:
        is_zip = isinstance(member, zipfile.ZipInfo)
        name, size = (member.filename, member.file_size) if is_zip else (member.name, member.size)
        inside = PurePosixPath(name.replace("\\", "/"))
        if member.is_dir() if is_zip else not member.isfile():
            continue
        if inside.is_absolute() or ".." in inside.parts or re.match(r"[A-Za-z]:", name):
            raise DataError(str(path), "must name files inside itself", got=name, fix="Do not trust this archive.")
        if not any(part in _NOISE or part.startswith("._") for part in inside.parts):
            yield inside, size, member


def _member(archive: Archive, member: zipfile.ZipInfo | tarfile.TarInfo) -> IO[bytes]:
    if isinstance(archive, zipfile.ZipFile):
        assert isinstance(member, zipfile.ZipInfo)
        return archive.open(member)
    assert isinstance(member, tarfile.TarInfo)
    file = archive.extractfile(member)
    assert file is not None  # it is a regular file
    return file


def _write_table(root: Path) -> None:
    """Write a table of the pictures whose classes stand beside them, where there are any."""
    members: dict[Path, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            members.setdefault(path.parent / path.name.partition(".")[0], []).append(path)
    rows: list[list[str]] = []
    for files in members.values():
        labels = [label for path in files if path.suffix.lower() in (_CLASS, _FACTS) and (label := _label(path))]
        pictures = [path for path in files if path.suffix.lower() not in _NO_PICTURES]
        rows += [[path.relative_to(root).as_posix(), labels[0], _split(root, path)] for path in pictures if labels]
    if not rows:
        return
    n_columns = 3 if any(split for *_, split in rows) else 2
    with (root / TABLE).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows(row[:n_columns] for row in [["path", "label", "split"], *rows])


def _label(path: Path) -> str | None:
    """Return the class that a file beside a picture tells, or None."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if path.suffix.lower() == _CLASS:
        return text or None
    try:
        facts = json.loads(text)
    except ValueError:
        return None
    label = facts.get("label", facts.get("cls")) if isinstance(facts, dict) else None
    return str(label) if isinstance(label, (str, int)) and not isinstance(label, bool) else None


def _split(root: Path, picture: Path) -> str:
    """Return the split that the name of a picture's shard begins with, or ""."""
    shard = picture.relative_to(root).parts[0] if picture.parent != root else ""
    word = re.split(r"[^a-z]", shard.lower())[0]
    return word if word in SPLIT_WORDS else ""


def stem(path: Path) -> str:
    """Return the name of an archive without its ending: what its pictures are called together."""
    ending = next(ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.name.lower().endswith(ending))
    return path.name[: -len(ending)] or "archive"

"""Pictures in a compressed archive (``photos.zip``, ``photos.tar.gz``): unpacked once into the cache, then read.

    photos.zip                  class folders, splits: whatever a folder may hold, also within one folder more
    photos/cat.zip, dog.zip     a class, a split or a part each, where a folder holds zips and no pictures (``packed_folder``)

An archive that has changed (size, times of content and status change, number in the file system) is unpacked anew. Nothing is
written outside the cache. A hard link in a tar is a copy of the file before it that it leads to; other links are not followed but
named (``left_out_of``), and devices are passed over. What does not fit into the cache is refused before anything is written; a
compressed tar, which tells its sizes only when it is read to its end, is read once, and refused at the first file that is too
much. A tar that is not compressed is read where it lies (``tar_shards``).
"""

from __future__ import annotations

import json
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from descend.data.formats import is_picture_name
from descend.data.manifest import natural
from descend.data.ranges import LocalFile
from descend.errors import DataError, is_full_disk
from descend.files import CacheFolder
from descend.printable import shortened
from descend.regular_files import size_on_disk

KIND = "unpacked"  # of the cache's entries
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_NOISE = ("__MACOSX",)
_MARKS = {b"PK\x03\x04": ".zip", b"\x1f\x8b": ".tar.gz", b"BZh": ".tar.bz2", b"\xfd7zXZ\0": ".tar.xz"}
_LONGEST_MARK = 6  # bytes
_SAMPLES = "-samples"
_NUMBERED = re.compile(r"[\W_]*\d+\W*$")  # the end of photos-001, photos (2), photos3

LINK, LINK_TO_NOTHING = "a link", "a link to no file before it"  # why it is passed over
_REPEATED = "stands in the archive several times: the last counts"
_LEFT_OUT = "-left-out.json"  # beside the folder of an archive's files: what was not unpacked of it

# path within, bytes, what the archive calls it; of a hard link, the path of the file before it that it leads to
Member = tuple[PurePosixPath, int, "zipfile.ZipInfo | tarfile.TarInfo | PurePosixPath"]
Archive = zipfile.ZipFile | tarfile.TarFile


def is_archive(path: Path) -> bool:
    """Say whether a file is an archive, by its name."""
    return path.name.lower().endswith(ENDINGS)


def unpacked(archive: Path, cache: CacheFolder | None = None) -> Path:
    """Return the folder that an archive holds, unpacked if it is not in the cache.

    Raises DataError for one that is damaged, encrypted or too large for the cache, and where the disk does not take it.
    """
    cache, name = cache or CacheFolder(), stem(archive.name)
    facts = [*_facts(archive), name, "left out 1"]  # a number for what is left out, and told
    return in_cache(facts, str(archive), lambda entry: _unpack(archive, entry / name, cache), cache) / name


def left_out_of(folder: Path) -> list[tuple[str, str]]:
    """Return what is left out of a folder that ``unpacked`` has returned: (path, why) of links, and of names that come again."""
    try:
        return [(path, why) for path, why in json.loads(_noted(folder).read_bytes())]
    except (OSError, ValueError):  # of an archive that is unpacked whole there is no file
        return []


def _noted(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_LEFT_OUT}")


def _facts(archive: Path) -> tuple[str, ...]:
    """Return what tells that an archive has changed. Raises DataError for one that is not there, or is no file."""
    try:
        return LocalFile.of(archive).facts
    except OSError as error:
        raise _unreadable(archive, error) from None


def packed_folder(folder: Path, name: str, zips: Sequence[str]) -> Path | None:
    """Return the folder that the zips in a folder hold, each as a folder of its name; of one zip, what it holds.

    zips: their names; name: that of the folder. Those that all hold one and the same folder are parts of it. None where there is
    none, one without pictures, or several that differ in a number only, which may be parts as well as classes.
    ``cat-samples.zip``, as Teachable Machine names what it gives, is ``cat``, where all are called so. Raises DataError as
    ``unpacked`` does, and for two of one name.
    """
    found = sorted(zips, key=natural)
    archives = [folder / zipped for zipped in found]
    held = [_held(path) for path in archives]
    tops = [{_top(path) for path in each if is_picture_name(path.as_posix())} for each in held]
    if not all(tops):
        return None
    if len(found) == 1:
        return unpacked(archives[0])
    are_parts = len(set.union(*tops)) == 1 and "" not in tops[0]
    inside = [""] * len(found) if are_parts else _called(found)
    if inside is None:
        return None
    paths = [PurePosixPath(at, path).as_posix().casefold() for at, each in zip(inside, held, strict=True) for path in each]
    if len(set(paths)) < len(paths):
        raise DataError(str(folder), "must hold zips of different names, and no file in two of them", got=", ".join(found),
                        fix="Unpack them, or rename one.")  # fmt: skip
    cache = CacheFolder()
    facts = [name, *(fact for path, at in zip(archives, inside, strict=True) for fact in (*_facts(path), at))]

    def unpack(entry: Path) -> None:
        Room(str(folder), cache).take(sum(sum(_sizes(path)) for path in archives))
        for path, at in zip(archives, inside, strict=True):
            _extract(path, entry / name / at, None)

    return in_cache(facts, str(folder), unpack, cache) / name


def _called(zips: Sequence[str]) -> list[str] | None:
    """Return the folders that zips stand for, by their names; None where these differ in a number only."""
    names = [stem(zipped) for zipped in zips]
    if all(name.endswith(_SAMPLES) and name != _SAMPLES for name in names):
        return [name.removesuffix(_SAMPLES) for name in names]
    return None if len({_NUMBERED.sub("", name) for name in names}) == 1 else names


def _top(path: PurePosixPath) -> str:
    """Return the folder that a picture's class lies in, at the top of an archive; "" where it is a class or a picture itself."""
    return path.parts[0] if len(path.parts) > 2 else ""


def _held(path: Path) -> list[PurePosixPath]:
    with _opened(path) as archive:
        return [inside for inside, _, _ in _members(path, archive)]


def in_cache(facts: Sequence[Any], who: str, unpack: Callable[[Path], None], cache: CacheFolder) -> Path:
    """Return the folder in the cache of what is in a file, told by ``facts``; where it is not there, ``unpack`` fills it.

    Raises DataError, in the name of ``who``, where the disk does not take it, and what ``unpack`` raises.
    """
    try:
        return cache.folder(KIND, facts, unpack)
    except OSError as error:
        fix = "Make room there, or unpack it and give the folder." if is_full_disk(error) else "Unpack it, and give the folder."
        raise DataError(who, f"must be unpacked into the cache {cache.root} ({error.strerror or error})", fix=fix) from error


def _unpack(archive: Path, root: Path, cache: CacheFolder) -> None:
    """Write an archive's files below ``root``, and make room for them. Raises DataError where the cache is too small."""
    room = Room(str(archive), cache)
    if not _is_stream(archive):
        room.take(sum(_sizes(archive)))
    _extract(archive, root, room.take if _is_stream(archive) else None)


class Room:
    """The room in the cache for what is unpacked. who: what errors name."""

    def __init__(self, who: str, cache: CacheFolder) -> None:
        self._who, self._cache, self._needed, self._made = who, cache, 0, 0

    def count(self, n_bytes: int) -> None:
        """Count so many more bytes. Raises DataError where the cache, emptied, would not hold all."""
        self._needed += n_bytes
        limit = self._cache.limit_bytes
        if self._needed > limit:
            raise DataError(self._who, f"must fit into the cache of {limit:,} bytes", got=f"{self._needed:,} bytes or more",
                            fix="Unpack it, and give the folder.")  # fmt: skip

    def take(self, n_bytes: int) -> None:
        """Make room for so many more bytes. Raises DataError as ``count`` does."""
        self.count(n_bytes)
        if self._needed > self._made:
            # twice as much as before: to look at all entries for each file would take long
            self._made = min(self._cache.limit_bytes, max(self._needed, 2 * self._made))
            self._cache.enforce_limit(self._made)


def _is_stream(path: Path) -> bool:
    """Say whether an archive must be read to its end to know its files: a tar that is compressed as a whole."""
    return path.suffix.lower() != ".zip"


def _sizes(path: Path) -> Iterator[int]:
    with _opened(path) as archive:
        yield from (size for _, size, _ in _members(path, archive))


def _extract(path: Path, folder: Path, take: Callable[[int], None] | None) -> None:
    """Write the files of an archive below a folder, and beside it what is left out: links, and names that come again.

    take: asked for room before each file, where the sizes are not known yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left_out, written = list[tuple[str, str]](), set[PurePosixPath]()
    with _opened(path) as archive:
        for inside, size, member in _members(path, archive, left_out):
            left_out += [(inside.as_posix(), _REPEATED)] * (inside in written)
            written.add(inside)
            if take is not None:
                take(size)
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            with _content(archive, member, folder) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    if left_out:
        _noted(folder).write_text(json.dumps(left_out))


@contextmanager
def _opened(path: Path) -> Iterator[Archive]:
    """Open an archive.

    Raises DataError for one that cannot be read, is damaged or none, has a password, or is packed in a way that is not known
    here, wherever that shows.
    """
    try:
        with _opened_file(path) as archive:
            yield archive
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is not None:  # of the system; gzip and bz2 have no other error for damage
            raise
        raise _damaged(path, error) from error
    except NotImplementedError as error:
        raise DataError(str(path), f"must be packed in a way that is read here ({_said(error)})",
                        fix="Unpack it, and give the folder.") from error  # fmt: skip
    except RuntimeError as error:  # of zipfile, where a password is asked for
        raise DataError(str(path), "must not be encrypted", fix="Unpack it, and give the folder.") from error


def _opened_file(path: Path) -> Archive:
    try:
        size_on_disk(path)  # a pipe would be waited for
        return zipfile.ZipFile(path) if path.suffix.lower() == ".zip" else tarfile.open(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(str(path), f"must be an archive that can be read ({_said(error)})", fix="Mend it, or remove it.")


def _damaged(path: Path, error: Exception) -> DataError:
    try:
        with path.open("rb") as file:
            beginning = file.read(_LONGEST_MARK)
    except OSError:
        beginning = b""
    return DataError(str(path), f"must be an archive that is whole ({_said(error)})", fix=way_to_mend(path.name, beginning))


def way_to_mend(name: str, beginning: bytes) -> str:
    """Return what to do about an archive that cannot be read: it may be of another kind than its name says.

    >>> from descend.data.archives import way_to_mend
    >>> way_to_mend("photos.tar", bytes([0x1F, 0x8B])), way_to_mend("photos.tgz", bytes([0x1F, 0x8B]))
    ('By its first bytes it is a .tar.gz: rename it.', 'Fetch it again.')
    """
    kind = next((ending for mark, ending in _MARKS.items() if beginning.startswith(mark)), "")
    suffix = Path(name).suffix.lower()
    is_other = suffix != kind if kind == ".zip" else suffix in (".zip", ".tar")  # all compressed tars are opened alike
    return f"By its first bytes it is a {kind}: rename it." if kind and is_other else "Fetch it again."


def _said(error: Exception) -> str:
    return shortened(getattr(error, "strerror", None) or str(error).rstrip(".") or type(error).__name__)


def _members(path: Path, archive: Archive, links: list[tuple[str, str]] | None = None) -> Iterator[Member]:
    """Yield the files of an archive that are worth unpacking. Raises DataError for a name that leads out of it.

    links: (path, why) of those that lead to no file which has been yielded before are added to it.
    """
    if isinstance(archive, zipfile.ZipFile):
        files = ((member.filename, member.file_size, member) for member in archive.infolist() if not member.is_dir())
        yield from ((inside, size, member) for name, size, member in files if not is_noise(inside := inside_of(str(path), name)))
        return
    sizes: dict[PurePosixPath, int] = {}
    for member in archive:
        if not (member.isfile() or member.islnk() or member.issym()) or is_noise(inside := inside_of(str(path), member.name)):
            continue
        before = None if member.isfile() else linked_from(member)
        if before is None:
            sizes[inside] = member.size
            yield inside, member.size, member
        elif member.islnk() and before in sizes:
            if before != inside:
                sizes[inside] = sizes[before]
                yield inside, sizes[inside], before
        elif links is not None:
            links.append((inside.as_posix(), LINK_TO_NOTHING if member.islnk() else LINK))


def inside_of(archive: str, name: str) -> PurePosixPath:
    """Return the path of a member within its archive. Raises DataError for a name that leads out of it."""
    inside = PurePosixPath(name.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts or re.match(r"[A-Za-z]:", name):
        raise DataError(archive, "must name files inside itself", got=name, fix="Do not trust this archive.")
    return inside


def linked_from(member: tarfile.TarInfo) -> PurePosixPath:
    """Return what a link of a tar leads to: of a hard link, the path of a file before it. Nothing is checked: it is looked up."""
    return PurePosixPath(member.linkname.replace("\\", "/"))


def is_noise(inside: PurePosixPath) -> bool:
    """Say whether a member is what some systems add to an archive."""
    return any(part in _NOISE or part.startswith("._") for part in inside.parts)


def _content(archive: Archive, member: zipfile.ZipInfo | tarfile.TarInfo | PurePosixPath, folder: Path) -> IO[bytes]:
    """Open a file of an archive, or for a hard link the one that was written below ``folder`` before."""
    if isinstance(member, PurePosixPath):
        return (folder / member).open("rb")
    if isinstance(archive, zipfile.ZipFile):
        assert isinstance(member, zipfile.ZipInfo)
        return archive.open(member)
    assert isinstance(member, tarfile.TarInfo)
    file = archive.extractfile(member)
    assert file is not None  # it is a regular file
    return file


def stem(name: str) -> str:
    """Return the name of an archive without its ending: what its pictures are called together."""
    ending = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] or "archive"

"""Parquet with the pictures in it, as Hugging Face stores data sets: read where it lies, row group by row group.

    train.parquet                            a column of pictures, struct {bytes, path} or binary, and a column of labels
    photos/train-00000-of-00002.parquet      shards: the name of a file, or of its folder, tells the split
    photos/data/..., photos/train/...        the shards of a repository

Names of classes come from the schema ("huggingface": ClassLabel), as in ``listed``. Columns ``split`` and ``group`` are those of
a table. A picture without bytes is left out and counted; a path in a row is never followed.

A picture's place is its row group and its row there: the first look goes through the file once (``packed.py``). What is
read is a whole row group; those read last are held, 256 MiB of all files together, so a pass in order reads each group once.
A file with a row group beyond 64 MiB is copied into the cache, as one file that gives any picture at once; and so are all where
pictures are drawn by chance again and again, because their pixels fit neither into the cache nor into memory.

Source: https://huggingface.co/docs/datasets/image_dataset and https://huggingface.co/docs/hub/datasets-file-names-and-splits.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data import tables
from descend.data.archives import Room, in_cache
from descend.data.folder_names import holds_closed_split
from descend.data.manifest import SPLIT_WORDS, Manifest, natural
from descend.data.names import Names
from descend.data.packed import PLACE, Contents, Listing, Packed, listed_once, together
from descend.data.parquet_rows import (
    SUFFIX,
    Columns,
    columns_of,
    has_pictures,
    naming,
    opened,
    rows_of,
)
from descend.data.places import is_folder
from descend.data.ranges import Holder, LocalFile, RangedFile
from descend.errors import DataError
from descend.files import CacheFolder

IN_PLACE = 2**26  # bytes of a row group: one beyond is not read for the sake of a picture
HELD = 2**28  # bytes of the row groups that were read last
NO_PICTURE = "no picture stands in its row"
FOLDERS = ("data", *SPLIT_WORDS)  # in which shards lie, below the folder that is given
_MARKS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}


def shards_of(folder: Path) -> list[Path]:
    """Return the Parquet files with pictures in a folder, or in its folders that are called like splits or ``data``.

    None where there are other folders beside them. Raises DataError where only some of the files have pictures.
    """
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        inside = [entry for entry in entries if is_folder(entry)]
        files = sorted(entry for entry in entries if entry.suffix.lower() == SUFFIX)
        if not files and all(entry.name.lower() in FOLDERS for entry in inside):
            files = sorted(file for entry in inside for file in entry.iterdir() if file.suffix.lower() == SUFFIX)
        elif inside:
            return []
    except OSError:  # who reads the folder tells why
        return []
    if holds_closed_split(entries):
        return []
    without = [file for file in files if not has_pictures(file)]
    if not files or len(without) == len(files):
        return []
    if without:
        raise DataError(str(folder), "all its Parquet files must have a column of pictures", got=without[0].name,
                        fix="Move the others elsewhere.")  # fmt: skip
    return files


def read_shards(shards: Sequence[RangedFile], *, evaluation: bool = False) -> Manifest:
    """List the pictures of Parquet files. Raises DataError for one that is damaged, holds no bytes, or has no labels."""
    contents = contents_of(shards)
    if not contents.is_table:
        raise _unlabeled(shards)
    place = Path(shards[0].path)
    folder = place.parent.parent if place.parent.name.lower() in FOLDERS else place.parent
    name, known = place.stem if len(shards) == 1 else folder.name or "pictures", set(contents.names)
    rows = [[path, *cells] for path, cells in zip(contents.names, contents.cells, strict=True)]
    header = ["path", "label", "split", "group"]
    kept = [column for column in range(4) if column < 2 or any(row[column] for row in rows)]  # split and group say something
    found = tables.list_rows(name, place if len(shards) == 1 else folder, shards[0].name, [header[at] for at in kept],
                             [[row[at] for at in kept] for row in rows], evaluation=evaluation,
                             find=lambda path: path if path in known else None)  # fmt: skip
    return found.lying_in(contents)


def found_in(shards: Sequence[RangedFile]) -> tuple[Contents, list[str], dict[str, str]]:
    """Return the contents of Parquet files, the names of their pictures in natural order, and row -> why of those without one.

    A row without a picture is called by its number, as those with one are.
    """
    contents = contents_of(shards)
    holders, rows = contents.places.rows["holder"], np.arange(len(contents.names))
    numbers, prefixes = rows - np.searchsorted(holders, holders), _prefixes(shards)  # each one's rows follow each other
    empty = [f"{prefixes[holders[row]]}{_called(numbers[row])}" for row in rows if not contents.names[row]]
    return contents, sorted(filter(None, contents.names), key=natural), dict.fromkeys(empty, NO_PICTURE)


def contents_of(shards: Sequence[RangedFile]) -> Contents:
    """Return the pictures of Parquet files, each listed once. Raises DataError for one that is damaged or holds no bytes."""
    cache = CacheFolder()
    holders, listings = list[Holder](), list[Listing]()
    for shard in shards:
        columns = columns_of(shard)
        listing = listed_once("parquet", shard.facts, lambda shard=shard, columns=columns: _look(shard, columns, cache), cache)
        holder: Holder = RowGroups(shard, columns.picture, columns.is_struct)
        if listing.at_once > IN_PLACE:
            holder, listing = _copied(shard, columns, listing, cache)
        if len(shards) > 1 and columns.split is None:  # a lone file is divided, whatever it is called
            paths, labels, _, groups = listing.columns
            listing = replace(listing, columns=(paths, labels, Names([_split_of(shard.path)] * len(paths)), groups))
        holders.append(holder)
        listings.append(listing)
    if not any(path for listing in listings for path in listing.columns[0]):
        raise DataError(shards[0].name, "must hold the bytes of its pictures, it holds at most their paths",
                        fix="Save it with the pictures embedded, or give the folder of the files.")  # fmt: skip
    if len({listing.is_table for listing in listings}) > 1:
        raise DataError(str(shards[0].path.parent), "all its Parquet files must have the same columns: some have no labels")
    return together(holders, listings, _prefixes(shards))


def _prefixes(shards: Sequence[RangedFile]) -> list[str]:
    """Return what stands before the names of each file's pictures."""
    return [""] if len(shards) == 1 else [f"{_folder_split(shard.path)}{shard.path.stem}/" for shard in shards]


def _called(number: int) -> str:
    """Return what the name of a row begins with."""
    return f"{number:07}"


def _unlabeled(shards: Sequence[RangedFile]) -> DataError:
    """Return the error for files that are to be trained on and have no labels."""
    return DataError(shards[0].name, "must have a column of labels", got=", ".join(opened(shards[0]).schema_arrow.names),
                     fix="Call it 'label'. To classify pictures without labels: descend predict RUN FILE.")  # fmt: skip


def _look(shard: RangedFile, columns: Columns, cache: CacheFolder) -> Listing:
    """Go through a file once, and list its pictures. Raises DataError, also where more comes out of it than can be meant."""
    room, (stated, lengths, each) = Room(shard.name, cache), rows_of(shard, columns)
    ends = np.cumsum(lengths)
    told, n_bytes, sizes = list[tuple[str, str, str, str]](), 0, np.zeros(len(lengths), np.int64)
    for number, (content, path, *cells) in enumerate(each):
        name = ""
        if content:
            n_bytes += len(content)
            if n_bytes > stated:  # what a file says of its own sizes need not be true
                room.count(len(content))
            sizes[min(int(np.searchsorted(ends, number, "right")), len(sizes) - 1)] += len(content)
            name = f"{_called(number)}{_safe(path)}{_ending(content, path)}"
        told.append((name, cells[0], cells[1], cells[2]))
    rows = np.arange(len(told))
    at = np.searchsorted(ends, rows, "right").astype(np.int64)
    starts = ends - lengths
    paths, labels, splits, groups = (Names(row[column] for row in told) for column in range(4))
    return Listing((paths, labels, splits, groups), at, rows - np.append(starts, 0)[at], [], 0, columns.label is not None,
                   int(sizes.max(initial=0)))  # fmt: skip


def _copied(shard: RangedFile, columns: Columns, listing: Listing, cache: CacheFolder) -> tuple[Holder, Listing]:
    """Return a copy of a file's pictures in the cache, and the listing with their places there."""
    rows = rows_of(shard, columns)
    contents = (content or b"" for content, *_ in rows.each)
    copy, at, n = _side_by_side(["copied", *shard.facts], shard.name, contents, rows.stated, cache)
    return copy, replace(listing, at=at, n=n)


def each_alone(places: Packed, cache: CacheFolder) -> Packed:
    """Return places from which any picture is read without others: what lies in row groups is copied into the cache, in order.

    Raises DataError where the cache does not take it.
    """
    held = [holder for holder in places.holders if isinstance(holder, RowGroups)]
    if not held:
        return places
    which = hashlib.blake2b(places.rows.tobytes(), digest_size=16).hexdigest()
    facts = ["alone", which, *(fact for holder in places.holders for fact in holder.facts)]
    contents = (places.member(row, "").read() for row in range(len(places)))
    rows = np.zeros(len(places), PLACE)
    copy, rows["at"], rows["n"] = _side_by_side(facts, held[0].name, contents, 0, cache)
    return Packed([copy], rows)


def _side_by_side(
    facts: Sequence[str], who: str, contents: Iterable[bytes], stated: int, cache: CacheFolder
) -> tuple[LocalFile, NDArray[np.int64], NDArray[np.int64]]:
    """Return a file in the cache with these contents, one after the other, where each begins, and how long it is: (N,) each.

    stated: bytes for which room is made before anything is written. Raises DataError where the cache does not take them.
    """
    room = Room(who, cache)

    def fill(unfinished: Path) -> None:
        room.take(stated)
        unfinished.mkdir()
        lengths = list[int]()
        with (unfinished / "pictures").open("wb") as file:
            for content in contents:
                if file.tell() + len(content) > stated:
                    room.take(len(content))
                lengths.append(file.write(content))
        np.save(unfinished / "lengths.npy", np.array(lengths, np.int64))

    entry = in_cache(facts, who, fill, cache)
    lengths = np.load(entry / "lengths.npy")
    return LocalFile.of(entry / "pictures"), np.cumsum(lengths) - lengths, lengths


@dataclass(frozen=True)
class RowGroups:
    """The pictures of a Parquet file by row group and row. column: that of the pictures, structs with ``bytes`` or bytes."""

    file: RangedFile
    column: str
    is_struct: bool

    @property
    def name(self) -> str:
        """What errors call the file."""
        return self.file.name

    @property
    def facts(self) -> tuple[str, ...]:
        """What tells that the file has changed."""
        return self.file.facts

    @property
    def changed_ns(self) -> int:
        """When it has, in ns since 1970."""
        return self.file.changed_ns

    def read(self, at: int, n: int) -> bytes:
        """Return the picture in row ``n`` of row group ``at``. Raises OSError, DataError."""
        group = _groups.read(self, at)
        cell = group[n].as_py() if n < len(group) else None
        content = cell["bytes"] if self.is_struct and cell else cell
        if not content:
            raise OSError(None, "its file has changed: no picture is in its row")
        return content


class _Groups:
    """The row groups that were read last, of all files together."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[RowGroups, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, file: RowGroups, number: int) -> Any:
        """Return the pictures of a row group, from memory or from the file. Raises DataError."""
        with self._lock:  # or two threads would read one group twice
            if (file, number) not in self._held:
                with naming(file.name):
                    self._held[file, number] = opened(file.file).read_row_group(number, columns=[file.column]).column(0)
            self._held.move_to_end((file, number))
            while len(self._held) > 1 and sum(group.nbytes for group in self._held.values()) > HELD:
                self._held.popitem(last=False)
            return self._held[file, number]


_groups = _Groups()


def _split_of(shard: PurePath) -> str:
    """Return the split that the name of a shard begins with, or that its folder is called by, or ""."""
    word = re.split(r"[^a-z]", shard.stem.lower())[0]
    folder = shard.parent.name.lower()
    return word if word in SPLIT_WORDS else folder if folder in SPLIT_WORDS else ""


def _folder_split(shard: PurePath) -> str:
    """Return what keeps the files of two split folders apart."""
    return f"{shard.parent.name}-" if shard.parent.name.lower() in SPLIT_WORDS else ""


def _safe(path: str) -> str:
    """Return the last part of a path as a part of a file's name: no more than plain letters."""
    stem = re.split(r"[/\\]", path)[-1]
    stem = stem.rpartition(".")[0] or stem
    clean = re.sub(r"[^\w.-]", "_", stem, flags=re.ASCII)[:80].strip(".")
    return f"-{clean}" if clean else ""


def _ending(content: bytes, path: str) -> str:
    """Return the ending of a picture by its first bytes; of what those do not tell, that of its path."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    told = next((ending for mark, ending in _MARKS.items() if content.startswith(mark)), None)
    own = re.search(r"\.\w{1,5}$", path, flags=re.ASCII)
    return told or (own[0].lower() if own else "")

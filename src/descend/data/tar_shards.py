"""Tars that are not compressed, WebDataset's shards among them: pictures are read where they lie.

    photos.tar              class folders, splits: whatever a folder may hold, also within one folder more
    shard-000.tar           members of one key belong together: 17.jpg, and its class in 17.cls or as "label" in 17.json
    shards/ of such files   all of them; train-000.tar and val-000.tar tell the split

The headers are walked once, and the listing kept (``packed.py``). A name that leads out is refused. A hard link is the member
before it that it leads to; other links, and members that are stored in pieces, are passed over and named; devices are passed
over; what lies beyond the end of the file, or stands where a header should, is an error.

Source of the shards' conventions: https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from descend.data import folders, tables
from descend.data.archives import LINK, LINK_TO_NOTHING, inside_of, is_noise, linked_from, stem, way_to_mend
from descend.data.folder_names import holds_closed_split
from descend.data.formats import is_hidden_picture, kind_of, why_no_picture
from descend.data.manifest import SPLIT_WORDS, Manifest
from descend.data.names import Names
from descend.data.opening import LARGEST_FILE, READ_AT_ONCE, is_picture_file
from descend.data.packed import Contents, Listing, listed_once, together
from descend.data.problems import Problem, problem
from descend.data.ranges import RangedFile, Window
from descend.data.tree import HIDDEN, SYSTEM_FILE, Folder, tree_of
from descend.errors import DataError
from descend.files import CacheFolder
from descend.printable import shortened

ENDING = ".tar"
_CLASS, _FACTS = ".cls", ".json"  # beside a picture in a shard: its class, or what is known of it
_NO_PICTURES = (_CLASS, _FACTS, ".txt", ".csv")
_MOST_TEXT = 2**20  # bytes of a class, or of what is known of a picture
_LONGEST_HEADER = 2**20
_BLOCK = 512


def shards_of(folder: Path) -> list[Path]:
    """Return the shards in a folder without folders, in the order of their names; none where there are folders."""
    try:
        with os.scandir(folder) as entries:
            kinds = {Path(entry.path): _kind(entry) for entry in entries}
    except OSError:  # who reads the folder tells why
        return []
    shards = sorted(path for path, kind in kinds.items() if path.name.lower().endswith(ENDING) and kind == "file")
    closed = holds_closed_split(path for path, kind in kinds.items() if not kind)
    return [] if "folder" in kinds.values() or closed else shards


def _kind(entry: os.DirEntry[str]) -> str:
    """Return ``file`` or ``folder``; "" for what is neither, such as a link in a circle."""
    try:
        return "file" if entry.is_file() else "folder" if entry.is_dir() else ""
    except OSError:
        return ""


def read_shards(shards: Sequence[RangedFile], place: Path, *, evaluation: bool = False) -> Manifest:
    """List the pictures of shards. place: what was given, the shard or its folder. Raises DataError."""
    contents = contents_of(shards)
    name = stem(shards[0].path.name) if len(shards) == 1 else place.name or "shards"
    if contents.is_table:
        known = set(contents.names)
        rows = [[path, label, _split(path)] for path, (label, *_) in zip(contents.names, contents.cells, strict=True)]
        n_columns = 3 if any(split for *_, split in rows) else 2
        found = tables.list_rows(name, place, str(place), ["path", "label", "split"][:n_columns],
                                 [row[:n_columns] for row in rows], evaluation=evaluation,
                                 find=lambda path: path if path in known else None)  # fmt: skip
        found = replace(found, problems=[*_about_links(contents), *found.problems])
    else:
        found = folders.read_tree(_tree(name, contents), place, evaluation=evaluation)
    return found.lying_in(contents)


def found_in(shards: Sequence[RangedFile]) -> tuple[Contents, list[str], dict[str, str]]:
    """Return the contents of shards, the names of their pictures in natural order, and path -> why of what is passed over."""
    contents = contents_of(shards)
    held = _folders_around(contents.names)
    return (contents, *folders.pictures_below(_tree("", contents), held.__contains__))


def _folders_around(names: Sequence[str]) -> set[str]:
    """Return the paths of all folders that files lie in, each with a slash behind; few hold many, and each is parted once."""
    holding = {name.rpartition("/")[0] for name in names}
    return {f"{folder}/" for path in holding for folder in (PurePosixPath(path), *PurePosixPath(path).parents)}


def contents_of(shards: Sequence[RangedFile]) -> Contents:
    """Return the pictures of shards, each listed once. Raises DataError for one that is damaged or hostile."""
    cache = CacheFolder()
    listings = [listed_once("tar 3", shard.facts, lambda shard=shard: _Walk(shard).listing(), cache) for shard in shards]
    prefixes = [""] if len(shards) == 1 else [f"{stem(shard.path.name)}/" for shard in shards]
    return together(shards, listings, prefixes)


def _about_links(contents: Contents) -> list[Problem]:
    """Return the problem of links that are not followed; a table of shards tells of nothing else that is passed over."""
    links = [f"{path} ({why})" for path, why in contents.passed_over if why in (LINK, LINK_TO_NOTHING)]
    return problem("ignored", "1 link in the shards is not followed and was ignored",
                   "{n} links in the shards are not followed and were ignored", links)  # fmt: skip


def _tree(name: str, contents: Contents) -> Folder:
    return tree_of(name, contents.names, contents.passed_over)


class _File(NamedTuple):
    """Where the content of a member stands in its tar, in bytes."""

    at: int
    size: int
    in_pieces: bool


class _Walk:
    """One walk along the headers of a tar."""

    def __init__(self, shard: RangedFile) -> None:
        self._shard = shard
        self._files: dict[str, _File] = {}  # every one, for the links to it
        self._pictures: dict[str, _File] = {}
        self._classes: dict[str, str] = {}  # key -> what a .cls tells
        self._facts: dict[str, str] = {}  # key -> what a .json tells
        self._no_text: dict[str, str] = {}  # key -> the path of a .cls, or of a .json with a class, that is not UTF-8
        self._passed_over: list[tuple[str, str]] = []
        self._n_repeated = 0

    def listing(self) -> Listing:
        """Return what the shard holds. Raises DataError."""
        for path, file in self._members():
            suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 (a name, not a path)
            if suffix in (_CLASS, _FACTS):
                self._note_class(path, suffix, file)
            elif (why := self._why_not(path, suffix, file)) is not None:
                self._passed_over.append((path, why))
            else:
                self._n_repeated += path in self._pictures
                self._pictures[path] = file
        self._refuse_no_text()
        labels = [self._classes.get(key) or self._facts.get(key) or "" for key in map(_key, self._pictures)]
        empty = Names([""] * len(labels))
        columns = Names(self._pictures), Names(labels), empty, empty
        places = np.array([(file.at, file.size) for file in self._pictures.values()], np.int64).reshape(-1, 2)
        return Listing(columns, places[:, 0], places[:, 1], self._passed_over, self._n_repeated, any(labels))

    def _members(self) -> Iterator[tuple[str, _File]]:
        """Yield the files of the tar that are worth a look, by their paths within it."""
        end, name = 0, self._shard.name
        try:
            with tarfile.open(fileobj=Window(self._shard, most=_LONGEST_HEADER), mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # pyright: ignore[reportAttributeAccessIssue] (or each header would be kept)
                    if member.size < 0 or not end <= member.offset < member.offset_data <= self._shard.size:
                        raise tarfile.TarError(f"the header at byte {member.offset:,} leads backwards")
                    end = member.offset_data + (member.size if member.isreg() and not member.issparse() else 0)
                    if end > self._shard.size:
                        raise tarfile.TarError(f"a member ends beyond the end of the file, at byte {end:,}")
                    if not (member.isreg() or member.islnk() or member.issym()):
                        continue
                    inside = inside_of(name, member.name)
                    path, file = inside.as_posix(), self._file(inside.as_posix(), member)
                    if file is None and not is_noise(inside):
                        self._passed_over.append((path, LINK_TO_NOTHING if member.islnk() else LINK))
                    elif file is not None and not is_noise(inside):
                        yield path, file
                tail = self._shard.read(archive.offset, max(0, min(_BLOCK, self._shard.size - archive.offset)))
        except DataError:
            raise
        except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError) as error:
            raise _damaged(self._shard, error) from error
        if any(tail):
            raise _damaged(self._shard, tarfile.TarError(f"no header stands at byte {archive.offset:,}"))

    def _file(self, path: str, member: tarfile.TarInfo) -> _File | None:
        """Return where a member's content stands, and note it for links to come; None for a link that leads to none."""
        if member.isreg():
            file = _File(member.offset_data, member.size, member.issparse())
        else:
            file = self._files.get(linked_from(member).as_posix()) if member.islnk() else None
        if file is not None:
            self._files[path] = file
        return file

    def _why_not(self, path: str, suffix: str, file: _File) -> str | None:
        """Return why a member is no picture that can be read, None for one."""
        kind = kind_of(path)
        if kind == "system":
            return HIDDEN if is_hidden_picture(path.rpartition("/")[2]) else SYSTEM_FILE
        if suffix in _NO_PICTURES or kind == "other":
            return why_no_picture(path)
        if file.in_pieces:
            return "stored in pieces: pack it again without --sparse"
        if file.size > LARGEST_FILE:
            return f"it has {file.size:,} bytes, more than {LARGEST_FILE:,}"
        if kind == "unknown" or file.size > READ_AT_ONCE:
            window = io.BufferedReader(Window(self._shard, file.at, file.size))
            return None if file.size and is_picture_file(window) else why_no_picture(path)
        return None

    def _note_class(self, path: str, suffix: str, file: _File) -> None:
        if file.size > _MOST_TEXT or file.in_pieces:
            self._passed_over.append((path, "too long for a class"))
            return
        content, key = self._shard.read(file.at, file.size), _key(path)
        text = content.decode("utf-8-sig", "replace").strip()
        found = self._classes if suffix == _CLASS else self._facts
        found[key] = text if suffix == _CLASS else _told(text)
        if found[key] and not _is_utf_8(content):
            self._no_text[key] = path
        if suffix == _FACTS and not found[key]:
            self._passed_over.append((path, why_no_picture(path)))

    def _refuse_no_text(self) -> None:
        """Refuse a class in another encoding: a mark in the place of each strange byte would make one class of several."""
        paths = (self._no_text.get(key) for key in map(_key, self._pictures))
        if path := next(filter(None, paths), None):
            raise DataError(self._shard.name, f"the class of a picture must be UTF-8, {path!r} is not",
                            fix="Write the classes again as UTF-8, or number them.")  # fmt: skip


def _told(text: str) -> str:
    """Return the class in what is known of a picture, "" where it is not told."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    label = facts.get("label", facts.get("cls")) if isinstance(facts, dict) else None
    return str(label) if isinstance(label, (str, int, float)) and not isinstance(label, bool) else ""


def _is_utf_8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _key(path: str) -> str:
    """Return what the members that belong together share: the path up to the first dot of its last part."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _split(path: str) -> str:
    """Return the split that the name of a picture's shard, or of a lone shard's folder, begins with, or ""."""
    word = re.split(r"[^a-z]", path.lower())[0] if "/" in path else ""
    return word if word in SPLIT_WORDS else ""


def _damaged(shard: RangedFile, error: Exception) -> DataError:
    beginning = b""
    with suppress(OSError, DataError):  # what went wrong may be just that
        beginning = shard.read(0, min(_BLOCK, shard.size))
    return DataError(shard.name, f"must be an archive that is whole ({shortened(str(error) or type(error).__name__)})",
                     fix=way_to_mend(shard.path.name, beginning))  # fmt: skip

"""Pictures that lie in shards: where each one is, and what its shard says of it, looked up once and kept in the cache.

A shard is listed once: its pictures' names, places and labels are an entry of the cache, named by the shard's path, size, times
and number in the file system (at an address, by what that tells). The places of N pictures are arrays, 20 bytes each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.names import Names
from descend.data.opening import Source
from descend.data.problems import Problem, problem
from descend.data.ranges import Holder, Member
from descend.files import CacheFolder

PLACE = np.dtype([("holder", "<i4"), ("at", "<i8"), ("n", "<i8")])
COLUMNS = ("path", "label", "split", "group")
_VERSION = "listing 1"


class Packed:
    """Places of N pictures, indexed as an array of them would be. holders: what they lie in. rows: (N,) ``PLACE``."""

    def __init__(self, holders: Sequence[Holder], rows: NDArray[np.void]) -> None:
        self.holders, self.rows = holders, rows

    @property
    def shape(self) -> tuple[int]:
        """(N,), as of an array of N encoded pictures."""
        return (len(self.rows),)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[Any]) -> Packed:
        return Packed(self.holders, self.rows[rows])

    def member(self, row: int, name: str) -> Member:
        """Return the place of one picture, which errors call by its name."""
        holder, at, n = self.rows[row].tolist()
        return Member(self.holders[holder], name, at, n)


@dataclass(frozen=True)
class Listing:
    """What one shard holds. columns: of its N pictures, ``COLUMNS``, as a table would have them; a path is one within the shard.

    at, n: (N,) int64, the places. passed_over: (path, why) of other members. n_repeated: names that stood there before, and count
    no more. is_table: whether labels stand beside the pictures; else folders may tell them. at_once: bytes that must be read for
    one picture at most, where that is more than the picture's own.
    """

    columns: tuple[Names, Names, Names, Names]
    at: NDArray[np.int64]
    n: NDArray[np.int64]
    passed_over: list[tuple[str, str]]
    n_repeated: int
    is_table: bool
    at_once: int = 0

    def to_bytes(self) -> bytes:
        """Return the listing as bytes, for ``of_bytes``."""
        arrays: dict[str, Any] = {f"{name}_{part}": array for name, column in zip(COLUMNS, self.columns, strict=True)
                  for part, array in zip(("ends", "text"), column.arrays, strict=True)}  # fmt: skip
        facts = json.dumps([self.passed_over, self.n_repeated, self.is_table, self.at_once]).encode()
        content = BytesIO()
        np.savez_compressed(content, at=self.at, n=self.n, facts=np.frombuffer(facts, np.uint8), **arrays)
        return content.getvalue()

    @classmethod
    def of_bytes(cls, content: bytes) -> Listing:
        """Return the listing that these bytes are of."""
        with np.load(BytesIO(content)) as file:
            columns = [Names.of_arrays(file[f"{name}_ends"], file[f"{name}_text"]) for name in COLUMNS]
            passed_over, n_repeated, is_table, at_once = json.loads(file["facts"].tobytes())
            return cls((columns[0], columns[1], columns[2], columns[3]), file["at"], file["n"],
                       [(path, why) for path, why in passed_over], n_repeated, is_table, at_once)  # fmt: skip


def listed_once(kind: str, facts: Sequence[str], look: Callable[[], Listing], cache: CacheFolder) -> Listing:
    """Return the listing of a shard from the cache, or from ``look``, kept for the next time."""
    text = "\0".join((_VERSION, kind, *facts)).encode("utf-8", "surrogatepass")
    key = hashlib.blake2b(text, digest_size=16).hexdigest()
    path = cache.entry_path("index", key, ".sealed")
    content = cache.load(path)
    if content is not None:
        return Listing.of_bytes(content)
    found = look()
    cache.store(path, found.to_bytes())
    return found


@dataclass(frozen=True)
class Contents:
    """The pictures of all shards. names: as one folder of them would have. cells: label, split and group of each.

    places: where they lie. passed_over: (path, why). notes: what their owner should know. is_table: as in ``Listing``.
    """

    names: list[str]
    cells: list[tuple[str, str, str]]
    places: Packed
    passed_over: list[tuple[str, str]]
    notes: list[Problem]
    is_table: bool

    def placed(self, names: Sequence[str]) -> Packed:
        """Return the places of pictures by their names."""
        where = {name: row for row, name in enumerate(self.names)}
        return self.places[np.array([where[name] for name in names], np.int64)]

    def members(self, names: Sequence[str]) -> list[Member]:
        """Return the place of each of these pictures."""
        places = self.placed(names)
        return [places.member(row, name) for row, name in enumerate(names)]


def together(holders: Sequence[Holder], listings: Sequence[Listing], prefixes: Sequence[str]) -> Contents:
    """Join the listings of shards. prefixes: what stands before the names of each one's pictures, "" for none.

    Of two pictures of one name the later one counts, as where a tar is unpacked.
    """
    where: dict[str, int] = {}
    names, cells, rows, passed_over = list[str](), list[tuple[str, str, str]](), list[NDArray[np.void]](), list[tuple[str, str]]()
    for number, (listing, prefix) in enumerate(zip(listings, prefixes, strict=True)):
        part = np.zeros(len(listing.at), PLACE)
        part["holder"], part["at"], part["n"] = number, listing.at, listing.n
        rows.append(part)
        for path, *told in zip(*listing.columns, strict=True):
            where[prefix + path if path else f"\0{len(names)}"] = len(names)  # a row without a picture has no name
            names.append(prefix + path if path else "")
            cells.append((told[0], told[1], told[2]))
        passed_over += [(prefix + path, why) for path, why in listing.passed_over]
    kept = np.fromiter(where.values(), np.int64, len(where))
    places = Packed(holders, np.concatenate(rows))
    n_repeated = sum(listing.n_repeated for listing in listings) + len(names) - len(kept)
    notes = problem("repeated", "1 name stands more than once in a shard; its last member counts",
                    "{n} names stand more than once in a shard; the last member of each counts", [""] * n_repeated)  # fmt: skip
    notes = [replace(note, examples=()) for note in notes]
    is_table = any(listing.is_table for listing in listings)
    if len(kept) < len(names):
        places, names, cells = places[kept], [names[row] for row in kept], [cells[row] for row in kept]
    return Contents(names, cells, places, passed_over, notes, is_table)


def source_of(root: Path | None, names: Sequence[str], pictures: NDArray[Any] | Packed | None, row: int) -> Source:
    """Return what ``decode`` takes for a picture: its pixels or bytes in memory, its place in a shard, or its file."""
    if isinstance(pictures, Packed):
        return pictures.member(row, names[row])
    if pictures is not None:
        return pictures[row]
    assert root is not None  # pictures that are not in memory have a root
    return root / names[row]

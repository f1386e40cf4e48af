"""What a source says before any picture is opened: names, labels, given splits and groups, and what looked wrong."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from descend.data.problems import Problem

SPLITS = ("train", "val", "test")
UNASSIGNED = -1  # in a manifest: no split given; in a data set: left out because it cannot be decoded
SPLIT_WORDS = {
    "train": 0, "training": 0,
    "val": 1, "valid": 1, "validation": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip


class Names(Sequence[str]):
    """Many strings in two arrays: 60,000 paths as Python objects would take several times the memory."""

    def __init__(self, names: Iterable[str]) -> None:
        ends, text = array("q", [0]), bytearray()  # grown in place: a list of encoded names would be the peak of a large index
        for name in names:
            text += name.encode("utf-8", "surrogatepass")  # file names need not be valid Unicode
            ends.append(len(text))
        self._ends, self._bytes = np.array(ends, np.int64), bytes(text)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = int(index) % len(self)
        return self._bytes[self._ends[row] : self._ends[row + 1]].decode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Manifest:
    """Rows of a source, not yet opened.

    names: relative paths with forward slashes (absolute where a table says so), or ``digits[17]`` for pictures in memory.
    labels: (N,) int64, index into ``classes``. splits: (N,) int8, 0 train, 1 val, 2 test, -1 not given.
    groups: (N,) int64 or None. pictures: (N, H, W) or (N, H, W, C) uint8, or (N,) encoded
    bytes, for a source in memory, else None.
    """

    name: str
    root: Path | None
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    groups: NDArray[np.int64] | None = None
    pictures: NDArray[Any] | None = None
    problems: list[Problem] = field(default_factory=list)


def natural(text: str) -> tuple[str, str]:
    """Return the key that sorts names as people do: ``img2`` before ``img10``, upper and lower case together.

    Numbers become their length and their digits behind a sign that sorts before all letters, so that a key is one string: keys of
    60,000 names are held at once.
    """
    return re.sub(r"\d+", _sortable, text.casefold()), text


def _sortable(number: re.Match[str]) -> str:
    digits = str(int(number[0]))
    return f"\x01{chr(len(digits))}{digits}"

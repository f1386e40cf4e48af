"""What a source says before any picture is opened: names, labels, given splits and groups, and what looked wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.opening import Source
from descend.data.packed import Contents, Packed, source_of
from descend.data.problems import Problem

SPLITS = ("train", "val", "test")
UNASSIGNED = -1  # in a manifest: no split given; in a data set: left out because it cannot be decoded
SPLIT_WORDS = {
    "train": 0, "training": 0,
    "val": 1, "valid": 1, "validation": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """Rows of a source, not yet opened.

    names: relative paths with forward slashes (absolute where a table says so), or ``digits[17]`` for pictures in memory.
    labels: (N,) int64, index into ``classes``. splits: (N,) int8, 0 train, 1 val, 2 test, -1 not given.
    groups: (N,) int64 or None. pictures: (N, H, W) or (N, H, W, C) uint8, or (N,) encoded bytes, for a source in memory, that
    has no root; with a root, the ``Packed`` places of pictures that lie in shards; None for files below the root.
    """

    name: str
    root: Path | None
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    groups: NDArray[np.int64] | None = None
    pictures: NDArray[Any] | Packed | None = None
    problems: list[Problem] = field(default_factory=list)

    def lying_in(self, contents: Contents) -> Manifest:
        """Return the manifest with its pictures where shards have them."""
        return replace(self, pictures=contents.placed(self.names), problems=[*contents.notes, *self.problems])

    def source(self, row: int) -> Source:
        """Return what ``decode`` takes for a picture."""
        return source_of(self.root, self.names, self.pictures, row)


def natural(text: str) -> tuple[str, str]:
    """Return the key that sorts names as people do: ``img2`` before ``img10``, upper and lower case together.

    Numbers become their length and their digits behind a sign that sorts before all letters, so that a key is one string: keys of
    60,000 names are held at once.
    """
    return re.sub(r"\d+", _sortable, text.casefold()), text


def _sortable(number: re.Match[str]) -> str:
    digits = str(int(number[0]))
    return f"\x01{chr(len(digits))}{digits}"

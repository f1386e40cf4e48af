"""What every check looks at: the data set, the looks of its pictures, and, where it was computed, what a network sees in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data import Dataset, Problem
from descend.data.manifest import SPLITS, UNASSIGNED
from descend.data.near_copies import chained
from descend.data.pool import in_order, n_threads
from descend.data.signatures import Pictures, Signatures, signatures
from descend.errors import PictureError
from descend.files import CacheFolder
from descend.pixels import ONE_COLOR
from descend.progress import Progress


@dataclass(frozen=True)
class DeepLook:
    """What a pretrained network sees in n pictures.

    rows: (n,) int64, those that could be decoded. features: (n, D) float32. probabilities: (n, K) float32, of each class, by a
    head that was fitted without the picture, its copies and its group. network: its name.
    """

    rows: NDArray[np.int64]
    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    network: str


@dataclass(frozen=True)
class Material:
    """A data set as checks see it.

    folder: the one that it was read from, where it is one. seen: the looks of its N pictures. deep: None where no network has
    looked at them. confirmed: names of pictures whose label a person has looked at and kept.
    """

    dataset: Dataset
    folder: Path | None
    seen: Signatures
    pictures: Pictures
    threads: int
    deep: DeepLook | None = None
    confirmed: frozenset[str] = frozenset()

    @cached_property
    def copy_of(self) -> NDArray[np.int64]:
        """A number for each picture that its copies share: (N,) int64."""
        return self.dataset.copies(np.arange(len(self.dataset)))

    @cached_property
    def family(self) -> NDArray[np.int64]:
        """A number for each picture that its copies and near copies share, also through a chain: (N,) int64."""
        exact = self.copy_of
        return chained(int(exact.max()) + 1, exact[self.dataset.near.pairs])[exact]

    @cached_property
    def uniform(self) -> NDArray[np.int64]:
        """Rows of pictures that show one color once they are opened: (n,) int64."""
        looks = self.seen.rows
        narrow = looks["high"].astype(np.int64) - looks["low"] <= 2 * ONE_COLOR
        rows = [row for row in np.flatnonzero(narrow).tolist() if row not in self.seen.reasons]
        plain = in_order(self._is_uniform, rows, self.threads)
        return np.array([row for row, is_plain in zip(rows, plain, strict=True) if is_plain], np.int64)

    def _is_uniform(self, row: int) -> bool:
        try:
            picture = self.dataset.read(row)
        except PictureError:
            return False
        channels = picture.reshape(-1, picture.shape[-1])
        return int((channels.max(axis=0).astype(int) - channels.min(axis=0)).max()) <= ONE_COLOR

    def problems(self, *kinds: str) -> Iterator[Problem]:
        """Yield what loading has found, of these kinds."""
        return (problem for problem in self.dataset.problems if problem.kind in kinds)

    def label_of(self, row: int) -> str:
        """Return a picture's class."""
        return self.dataset.classes[self.dataset.labels[row]]

    def split_of(self, row: int) -> str:
        """Return a picture's split, as given or as ``descend fit`` would make it; "" for one that cannot be read."""
        split = int(self.dataset.splits[row])
        return "" if split == UNASSIGNED else SPLITS[split]

    def told(self, row: int, **more: Any) -> dict[str, Any]:
        """Return a picture as a row of a table."""
        return {"picture": self.dataset.name_of(row), "class": self.label_of(row), "split": self.split_of(row), **more}

    def paired(self, pairs: Iterable[tuple[int, int]], kinds: Iterable[str]) -> tuple[dict[str, Any], ...]:
        """Return pairs of pictures as rows of a table; kinds: what links each."""
        rows: list[dict[str, Any]] = []
        for (one, other), kind in zip(pairs, kinds, strict=True):
            second = self.told(other)
            rows.append(self.told(one, like=second["picture"], its_class=second["class"], its_split=second["split"], by=kind))
        return tuple(rows)


def looked_at(
    dataset: Dataset, folder: Path | None, *, threads: int | None, progress: Progress, deep: DeepLook | None = None
) -> Material:
    """Return what checks look at; what ``descend.data.load`` has looked at before is not decoded again."""
    pictures = Pictures(dataset.root, dataset.names, dataset.digests, dataset.policy, dataset.pictures, dataset.opaque)
    n = n_threads(threads)
    seen = signatures(pictures, threads=n, cache=CacheFolder(), progress=progress.update)
    return Material(dataset, folder, seen, pictures, n, deep)


def ending(name: str) -> str:
    """Return the ending of a file's name, lower case, or ``no ending``."""
    return Path(name.rpartition("/")[2]).suffix.lower() or "no ending"

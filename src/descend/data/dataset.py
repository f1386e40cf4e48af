"""The data set: every picture's name, label, split and identity, in arrays; the pictures themselves stay where they are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.decode import decode
from descend.data.manifest import SPLITS, UNASSIGNED, Manifest, Names, Problem, problem
from descend.data.pool import Progress, n_threads
from descend.data.scan import Scan, scan
from descend.data.sources import Data, read
from descend.data.split import TEST, TRAIN, VAL, assign, sample_ids
from descend.errors import DataError, KnobError, PictureError
from descend.files import CacheFolder

_SHOWN = 20  # classes listed on the terminal
_LOOKED_AT = 24  # pictures decoded to see whether all are grey


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled pictures. Rows never move: a picture that turns out to be unreadable is left out by its split, -1.

    labels: (N,) int64, index into ``classes``. splits: (N,) int8, 0 train, 1 val, 2 test, -1 left out.
    digests: (N, 16) uint8, blake2b of each file's bytes. sizes: (N, 2) int32, width and height in pixels as stored.
    given_split: whether the source said which pictures are for testing or validation. fingerprint: 32 hexadecimal digits, a hash
    of the classes and of every picture's content, label and split as loaded; leaving pictures out later does not change it.
    """

    name: str
    root: Path | None
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    digests: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    names: Sequence[str]
    given_split: bool
    fingerprint: str
    problems: tuple[Problem, ...] = ()
    pictures: NDArray[Any] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Sample ids, (N,) int64: a function of the picture's bytes, so copies share one."""
        return sample_ids(self.digests)

    def indices(self, split: str) -> NDArray[np.int64]:
        """Return the rows of ``train``, ``val`` or ``test``, ascending: (n,) int64."""
        if split not in SPLITS:
            raise KnobError("split", f"must be one of {', '.join(SPLITS)}", got=split)
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def name_of(self, row: int) -> str:
        """Return the picture's path relative to ``root``, or ``digits[17]``."""
        return self.names[row]

    def path_of(self, row: int) -> Path | None:
        """Return the picture's file, or None for pictures in memory."""
        return None if self.root is None else self.root / self.names[row]

    def read(self, row: int) -> NDArray[np.uint8]:
        """Decode one picture in its own size: (H, W, 3) uint8. Raises PictureError."""
        path = self.path_of(row)
        if path is not None:
            return decode(path, name=self.names[row])
        assert self.pictures is not None  # no root: the pictures are in memory
        return decode(self.pictures[row], name=self.names[row])

    @property
    def shorter_side(self) -> tuple[int, int, int]:
        """The smallest, the median and the largest shorter side, in pixels."""
        sides = self.sizes[self.splits != UNASSIGNED].min(axis=1)
        return int(sides.min()), int(np.median(sides)), int(sides.max())

    @property
    def uniform_side(self) -> int | None:
        """The side of the pictures in pixels if all are squares of one size, else None."""
        sides = np.unique(self.sizes[self.splits != UNASSIGNED])
        return int(sides[0]) if len(sides) == 1 else None

    @cached_property
    def is_grey(self) -> bool:
        """Whether the pictures are grey: all of 24, spread over the rows, have equal channels."""
        kept = np.flatnonzero(self.splits != UNASSIGNED)
        for row in kept[np.linspace(0, len(kept) - 1, min(_LOOKED_AT, len(kept))).astype(int)]:
            try:
                picture = self.read(int(row))
            except PictureError:  # found and counted when everything is decoded
                continue
            if not (picture == picture[:, :, :1]).all():
                return False
        return True

    def counts(self) -> NDArray[np.int64]:
        """Return the number of pictures of each class in train, val and test: (K, 3)."""
        kept = self.splits != UNASSIGNED
        cells = self.labels[kept] * len(SPLITS) + self.splits[kept]
        return np.bincount(cells, minlength=len(self.classes) * len(SPLITS)).reshape(-1, len(SPLITS))

    def summary(self) -> dict[str, Any]:
        """Return what a person wants to know before training, ready for JSON."""
        counts = self.counts()
        smallest, median, largest = self.shorter_side
        return {
            "name": self.name,
            "n": int(counts.sum()),
            "classes": list(self.classes),
            "splits": dict(zip(SPLITS, map(int, counts.sum(axis=0)), strict=True)),
            "counts": {
                name: dict(zip(SPLITS, map(int, row), strict=True)) for name, row in zip(self.classes, counts, strict=True)
            },
            "given_split": self.given_split,
            "shorter_side": {"min": smallest, "median": median, "max": largest},
            "grey": self.is_grey,
            "problems": [dataclasses.asdict(problem) | {"examples": list(problem.examples)} for problem in self.problems],
            "fingerprint": self.fingerprint,
        }

    def describe(self) -> list[str]:
        """Return the summary as lines for a terminal: size, splits, classes (twenty at most), problems."""
        counts = self.counts()
        smallest, median, largest = self.shorter_side
        side = f"{median} px" if smallest == largest else f"{smallest} to {largest} px, median {median}"
        n_all, parts = int(counts.sum()), zip(SPLITS, counts.sum(axis=0), strict=True)
        lines = [
            f"{self.name}: {n_all:,} pictures, {len(self.classes)} classes, shorter side {side}",
            "  " + ", ".join(f"{n:,} {part}" for part, n in parts) + (" (given)" if self.given_split else " (split here)"),
        ]
        width = max(map(len, self.classes))
        for name, row in list(zip(self.classes, counts, strict=True))[:_SHOWN]:
            lines.append(f"  {name:{width}}  " + "  ".join(f"{n:>7,}" for n in row))
        if len(self.classes) > _SHOWN:
            lines.append(f"  ... and {len(self.classes) - _SHOWN} more classes")
        return lines + [f"  note: {item}" for item in self.problems]

    def without(self, reasons: dict[int, str]) -> Dataset:
        """Return the data set with rows left out because they cannot be decoded: row -> why."""
        splits = self.splits.copy()
        splits[list(reasons)] = UNASSIGNED
        return dataclasses.replace(self, splits=splits, problems=(*self.problems, *unreadable(self.names, reasons)))

    def check_trainable(self, *, grouped: bool = False) -> None:
        """Raise DataError unless two classes or more each have a picture to train on, and there is one to select on."""
        n, n_classes = int((self.splits != UNASSIGNED).sum()), len(self.classes)
        counts = self.counts()
        if n_classes < 2:
            raise DataError(self.name, "must have at least two classes", got=", ".join(self.classes))
        if n < n_classes:
            raise DataError(self.name, f"must have at least as many pictures as its {n_classes} classes", got=n)
        _refuse_empty(self, counts.sum(axis=1) == 0, "picture that can be read")
        _refuse_empty(self, counts[:, TRAIN] == 0, "picture in train")
        if not counts[:, VAL].any():
            what = "groups" if grouped else "pictures"
            raise DataError(self.name, "must have a picture for validation",
                            got=f"{n} in all" + grouped * ", in groups too large to divide",
                            fix=f"Add {what}, or give the split yourself.")  # fmt: skip


def _refuse_empty(dataset: Dataset, empty: NDArray[np.bool_], what: str) -> None:
    if empty.any():
        named = [name for name, lost in zip(dataset.classes, empty, strict=True) if lost]
        shown = ", ".join(map(repr, named[:5])) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
        bad = [str(item) for item in dataset.problems if item.kind == "unreadable"]
        raise DataError(dataset.name, f"every class must have a {what}, {shown} {'has' if len(named) == 1 else 'have'} none",
                        fix=" ".join(["Add pictures or remove the class.", *(f"Note: {text}." for text in bad)]))  # fmt: skip


def unreadable(names: Sequence[str], reasons: dict[int, str]) -> list[Problem]:
    """Return the problem of pictures that cannot be decoded, each with its reason."""
    listed = [f"{names[row]} ({why})" for row, why in sorted(reasons.items())]
    return problem(
        "unreadable", "1 file cannot be decoded and is left out", "{n} files cannot be decoded and are left out", listed
    )


def load(
    data: Data,
    *,
    seed: int = 0,
    split: bool = True,
    threads: int | None = None,
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Look at a source and return its data set; no picture is fully decoded yet.

    data: a folder, a table, the name of a built-in set, or arrays (``sources.read``). seed: of the split. split=False is for
    evaluation: a source without splits is all ``test``, nothing is carved out, and one class is enough.
    threads: None for one per CPU. progress: called with (stage, done, total). Raises DataError or MissingExtra.
    """
    manifest = read(data)
    found = scan(manifest, threads=n_threads(threads), cache=CacheFolder(cache_dir), progress=progress)
    opened = np.array([row not in found.reasons for row in range(len(manifest.names))], np.bool_)
    given = manifest.splits[opened]
    labels, digests = manifest.labels[opened], found.digests[opened]
    groups = None if manifest.groups is None else manifest.groups[opened]
    unsplit = np.where(given == UNASSIGNED, np.int8(TEST), given)
    splits = assign(labels, digests, groups, given, seed=seed) if split else unsplit
    dataset = Dataset(
        name=manifest.name,
        root=manifest.root,
        classes=manifest.classes,
        labels=labels,
        splits=splits,
        digests=digests,
        sizes=found.sizes[opened],
        names=_kept(manifest, opened),
        given_split=bool((given != UNASSIGNED).any()),
        fingerprint=_fingerprint(manifest.classes, digests, labels, splits),
        problems=tuple(_problems(manifest, found, opened)),
        pictures=manifest.pictures,
    )
    if not len(dataset):
        raise DataError(dataset.name, "must have a picture that can be read", got=str(dataset.problems[-1]))
    if not split:
        return dataset
    dataset.check_trainable(grouped=groups is not None)
    return dataclasses.replace(dataset, problems=(*dataset.problems, *_few(dataset)))


def _few(dataset: Dataset) -> list[Problem]:
    """Return the problem of classes without a picture in a split that others have: no metric speaks for them there."""
    counts = dataset.counts()
    lacking = [
        f"{name} (none in {part})"
        for column, part in enumerate(SPLITS)
        if counts[:, column].any()
        for name, n in zip(dataset.classes, counts[:, column], strict=True)
        if n == 0
    ]
    return problem("few", "1 class is too small for every split", "{n} times a class is too small for a split", lacking)


def _fingerprint(classes: tuple[str, ...], *arrays: NDArray[Any]) -> str:
    state = hashlib.blake2b("\0".join(classes).encode("utf-8", "surrogatepass"), digest_size=16)
    for array in arrays:
        state.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return state.hexdigest()


def _kept(manifest: Manifest, opened: NDArray[np.bool_]) -> Sequence[str]:
    if manifest.root is None:
        return manifest.names
    return Names(name for name, kept in zip(manifest.names, opened, strict=True) if kept)


def _problems(manifest: Manifest, found: Scan, opened: NDArray[np.bool_]) -> list[Problem]:
    problems = [*manifest.problems, *unreadable(manifest.names, found.reasons)]
    rows = np.flatnonzero(opened)
    if not len(rows):
        return problems
    _, copies, counts = np.unique(found.digests[rows], axis=0, return_inverse=True, return_counts=True)
    copies = copies.reshape(-1)
    repeated = np.flatnonzero(counts[copies] > 1)
    together: dict[int, list[int]] = {}
    for position in repeated:
        together.setdefault(int(copies[position]), []).append(int(rows[position]))
    conflicts, leaks = list[str](), list[str]()
    for copy in together.values():
        shown = " = ".join(manifest.names[row] for row in copy[:4])
        if len({int(manifest.labels[row]) for row in copy}) > 1:
            conflicts.append(shown)
        if len({int(manifest.splits[row]) for row in copy}) > 1:
            leaks.append(shown)
    problems += problem("conflict", "1 picture stands in several classes", "{n} pictures stand in several classes", conflicts)
    problems += problem("leak", "1 picture stands in several of the given splits",
                        "{n} pictures stand in several of the given splits", leaks)  # fmt: skip
    return problems + _groups_across(manifest, rows)


def _groups_across(manifest: Manifest, rows: NDArray[np.int64]) -> list[Problem]:
    """Return the problem of groups that a given split tears apart: its pictures help each other across the border."""
    if manifest.groups is None:
        return []
    order = rows[np.argsort(manifest.groups[rows], kind="stable")]
    borders = np.flatnonzero(np.diff(manifest.groups[order])) + 1
    torn = [group for group in np.split(order, borders) if len(set(manifest.splits[group].tolist())) > 1]
    shown = [f"the group of {manifest.names[int(group[0])]}" for group in torn]
    return problem("torn", "1 group stands in several of the given splits",
                   "{n} groups stand in several of the given splits", shown)  # fmt: skip

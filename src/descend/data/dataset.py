"""The data set: every picture's name, label, split and identity, in arrays; the pictures themselves stay where they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.decode import decode
from descend.data.manifest import SPLITS, UNASSIGNED
from descend.data.near_copies import NONE, NearCopies
from descend.data.opening import Source
from descend.data.packed import Packed, source_of
from descend.data.problems import Problem, refusal, unreadable
from descend.data.shapes import CropLoss, crop_loss
from descend.data.split import TRAIN, VAL, linked, sample_ids
from descend.errors import KnobError, PictureError, did_you_mean
from descend.pixel_choices import bars
from descend.pixels import USUAL, Fit, PixelPolicy
from descend.printable import printable

ABOUT_THE_SPLIT = ("carved", "few")  # kinds of problems that go where everything is trained on
# these go where pictures are read by others' policy
ABOUT_THE_POLICY = ("scale", "cut", "apart", "narrow", "background", "blank", "clear")
_SHOWN = 20  # classes listed on the terminal
_LEAST_TOLD = 0.005  # of the pictures' area unseen: below, it would read 0%
_LOOKED_AT = 24  # pictures decoded to see whether all are gray


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labeled pictures. Rows never move: a picture that turns out to be unreadable is left out by its split, -1.

    labels: (N,) int64, index into ``classes``. splits: (N,) int8, 0 train, 1 val, 2 test, -1 left out.
    digests: (N, 16) uint8, blake2b of each file's bytes. sizes: (N, 2) int32, width and height in pixels as stored.
    given_split: whether the source said which pictures are for testing or validation. given_val: for validation. fingerprint: 32
    hexadecimal digits, a hash of the classes and of every picture's content, label and split as loaded; leaving pictures out
    later does not change it.
    policy: how all its pictures are read: the scale, the background and the fit. groups: (N,) int64, pictures that belong
    together (one patient, one video), or None. pictures: as in ``Manifest``. near: the near copies that loading
    found among all rows. unreadable: name -> why, every picture that was left out because it cannot be opened or decoded.
    unread_in: name -> the split that each of these is of, -1 where none was given. opaque: no picture shows what is behind it.
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
    given_val: bool
    fingerprint: str
    problems: tuple[Problem, ...] = ()
    pictures: NDArray[Any] | Packed | None = field(default=None, repr=False)
    policy: PixelPolicy = USUAL
    groups: NDArray[np.int64] | None = field(default=None, repr=False)
    near: NearCopies = field(default=NONE, repr=False)
    unreadable: Mapping[str, str] = field(default_factory=dict, repr=False)
    unread_in: Mapping[str, int] = field(default_factory=dict, repr=False)
    opaque: bool = False

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

    def unread(self, split: str) -> dict[str, str]:
        """Return name -> why of the pictures that cannot be read, of a split, or of none where that was not given."""
        of = (SPLITS.index(split), UNASSIGNED)
        return {name: why for name, why in self.unreadable.items() if self.unread_in.get(name, UNASSIGNED) in of}

    def name_of(self, row: int) -> str:
        """Return the picture's path relative to ``root``, or ``digits[17]``."""
        return self.names[row]

    def path_of(self, row: int) -> Path | None:
        """Return the picture's file, or None for pictures in memory or in a shard."""
        return None if self.root is None or self.pictures is not None else self.root / self.names[row]

    def read(self, row: int) -> NDArray[np.uint8]:
        """Decode one picture in its own size: (H, W, 3) uint8. Raises PictureError."""
        return decode(self.source(row), name=self.names[row], policy=self.policy)

    def source(self, row: int) -> Source:
        """Return what ``decode`` takes for a picture: its file, its place in a shard, or its pixels or bytes in memory."""
        return source_of(self.root, self.names, self.pictures, row)

    def copies(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number the distinct pictures among rows, by their bytes: (n,) int64 -> (n,) int64."""
        return linked(self.digests[rows], None)

    def evidence(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number the independent pieces of evidence among rows: copies of one picture, and pictures of one group, share a number.

        rows: (n,) int64 -> (n,) int64.
        """
        return linked(self.digests[rows], None if self.groups is None else self.groups[rows])

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

    @property
    def crop_loss(self) -> CropLoss:
        """What a center crop never sees of the pictures."""
        return crop_loss(self.sizes[self.splits != UNASSIGNED])

    def fitted(self, fit: Fit) -> Dataset:
        """Return the data set with its pictures made square by ``fit``; bars beside opaque pictures are gray."""
        if fit == self.policy.fit:
            return self
        background = bars(fit) if self.opaque else self.policy.background
        return dataclasses.replace(self, policy=dataclasses.replace(self.policy, fit=fit, background=background))

    @cached_property
    def is_gray(self) -> bool:
        """Whether the pictures are gray: all of 24, spread over the rows, have equal channels."""
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
            "unseen_by_crop": self.crop_loss.area,
            "gray": self.is_gray,
            "scale": None if self.policy.scale is None else list(self.policy.scale),
            "background": self.policy.background,
            "fit": self.policy.fit,
            "problems": [problem.describe() for problem in self.problems],
            "fingerprint": self.fingerprint,
        }

    def describe(self) -> list[str]:
        """Return the summary as lines for a terminal: size, splits, what a crop loses, classes (twenty at most), problems."""
        counts = self.counts()
        smallest, median, largest = self.shorter_side
        side = f"{median} px" if smallest == largest else f"{smallest} to {largest} px, median {median}"
        n_all, parts = int(counts.sum()), zip(SPLITS, counts.sum(axis=0), strict=True)
        lines = [
            f"{self.name}: {n_all:,} pictures, {len(self.classes)} classes, shorter side {side}",
            "  " + ", ".join(f"{n:,} {part}" for part, n in parts) + (" (given)" if self.given_split else " (split here)"),
        ]
        if (unseen := self.crop_loss.area) >= _LEAST_TOLD:
            lines.append(f"  a center crop never sees {unseen:.0%} of the pictures' area")
        names = [printable(name) for name in self.classes[:_SHOWN]]
        width = max(map(len, names))
        for name, row in zip(names, counts[:_SHOWN], strict=True):
            lines.append(f"  {name:{width}}  " + "  ".join(f"{n:>7,}" for n in row))
        if len(self.classes) > _SHOWN:
            lines.append(f"  ... and {len(self.classes) - _SHOWN} more classes")
        return lines + [f"  note: {item}" for item in self.problems]

    def without(self, reasons: dict[int, str]) -> Dataset:
        """Return the data set with rows left out because they cannot be decoded: row -> why."""
        splits = self.splits.copy()
        splits[list(reasons)] = UNASSIGNED
        known = {**self.unreadable, **{self.names[row]: why for row, why in reasons.items()}}
        places = {**self.unread_in, **{self.names[row]: int(self.splits[row]) for row in reasons}}
        told = (*self.problems, *unreadable(self.names, reasons))
        return dataclasses.replace(self, splits=splits, problems=told, unreadable=known, unread_in=places)

    def only(self, rows: NDArray[np.int64], *, why: str) -> Dataset:
        """Return the data set of these rows, (n,) int64, alone; the rest is left aside and counted, for the reason given."""
        aside = len(self) - len(rows)
        note = Problem("part", f"{aside:,} pictures are left aside: {why}", aside)
        taken = {
            name: None if (array := getattr(self, name)) is None else array[rows]
            for name in ("labels", "splits", "digests", "sizes", "pictures", "groups")
        }
        names = [self.names[row] for row in rows]
        return dataclasses.replace(self, **taken, names=names, near=self.near.among(rows), problems=(*self.problems, note))

    def pooled(self) -> Dataset:
        """Return the data set with all in train that may be trained on: everything but a test split that was given."""
        may = self.splits == TRAIN if self.given_split else self.splits != UNASSIGNED
        splits = np.where(may | (self.splits == VAL), np.int8(TRAIN), self.splits)
        kept = tuple(problem for problem in self.problems if problem.kind not in ABOUT_THE_SPLIT)
        return dataclasses.replace(self, splits=splits, problems=kept)

    def check_trainable(self) -> None:
        """Raise DataError unless two classes or more each have a picture to train on, and there is one to select on."""
        n, n_classes = int((self.splits != UNASSIGNED).sum()), len(self.classes)
        counts = self.counts()
        if n_classes < 2:
            raise refusal(self.name, "must have at least two classes", self.problems, got=", ".join(self.classes))
        if n < n_classes:
            raise refusal(self.name, f"must have at least as many pictures as its {n_classes} classes", self.problems, got=n)
        self._refuse_empty(counts.sum(axis=1) == 0, "picture that can be read")
        self._refuse_empty(counts[:, TRAIN] == 0, "picture in train")
        if not counts[:, VAL].any():
            grouped = self.groups is not None
            raise refusal(self.name, "must have a picture for validation", self.problems,
                          got=f"{n} in all" + grouped * ", in groups too large to divide",
                          fix=f"Add {'groups' if grouped else 'pictures'}, or give the split yourself.")  # fmt: skip

    def _refuse_empty(self, empty: NDArray[np.bool_], what: str) -> None:
        if empty.any():
            named = [name for name, is_empty in zip(self.classes, empty, strict=True) if is_empty]
            shown = ", ".join(map(repr, named[:5])) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
            must = f"every class must have a {what}, {shown} {'has' if len(named) == 1 else 'have'} none"
            others = [name for name, is_empty in zip(self.classes, empty, strict=True) if not is_empty]
            fix = f"Add pictures or remove the class. {did_you_mean(named[0], others)}".strip()
            raise refusal(self.name, must, self.problems, fix=fix)

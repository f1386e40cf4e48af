"""The pictures of a page, each embedded once: worst mistakes, those of a confused pair in its row, the unsure, the classes."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from descend.report.confusion import Matrix
from descend.train.evaluate import thumbnail
from descend.train.record import RunRecord
from descend.train.record_types import Mistake, ShownAnswer

SMALL = 76  # pixels of a picture that only leads to the whole one
PER_PAIR = 5  # pictures of a pair's row


@dataclass(frozen=True)
class Picture:
    """One answer with its picture. number: of its place on the page; jpeg, looked: base64, "" where there is none."""

    number: int
    path: str
    split: str
    label: str
    predicted: str
    confidence: float | None
    jpeg: str
    looked: str


@dataclass(frozen=True)
class Link:
    """A small copy (base64 JPEG) of a picture that stands elsewhere on the page."""

    jpeg: str
    to: Picture


@dataclass(frozen=True)
class PairPictures:
    """What stands in the row of a confused pair: links to mistakes that are shown above, and pictures of its own."""

    links: list[Link]
    own: list[Picture]


@dataclass(frozen=True)
class Arranged:
    """All pictures of a page, in the order of its sections; pairs: (split, true class, answer) -> its row's pictures.

    mistakes: the worst. others: of confused pairs that no row tells.
    """

    mistakes: list[Picture]
    pairs: dict[tuple[str, str, str], PairPictures]
    others: list[Picture]
    unsure: list[Picture]
    classes: list[Picture]

    def first(self, split: str, true: str, answered: str) -> int:
        """Return the number of the first picture of a confused pair that stands on the page, 0 where none does."""
        pair = self.pairs.get((split, true, answered), PairPictures([], []))
        return next((picture.number for picture in [*(link.to for link in pair.links), *pair.own]), 0)


def arranged(record: RunRecord, matrices: Sequence[Matrix]) -> Arranged:
    """Put every picture of a record where it is told of.

    matrices: of the page, whose rows of pairs take the pictures of their pair.
    """
    numbered = [_picture(number, item) for number, item in enumerate([*record.mistakes, *record.shown], 1)]
    worst, rest = numbered[: len(record.mistakes)], numbered[len(record.mistakes) :]
    of = {why: [picture for picture, item in zip(rest, record.shown, strict=True) if item["why"] == why] for why in _whys(record)}
    pairs: dict[tuple[str, str, str], PairPictures] = {}
    taken: set[int] = set()
    for matrix in matrices:
        for pair in matrix.pairs:
            key = (matrix.split, pair.true, pair.answered)
            own = [picture for picture in of.get("pair", []) if _pair(picture) == key]
            above = [picture for picture in worst if _pair(picture) == key][: max(0, PER_PAIR - len(own))]
            links = [Link(small, picture) for picture in above if (small := _small(picture.jpeg))]
            pairs[key] = PairPictures(links, own)
            taken |= {picture.number for picture in own}
    others = [picture for picture in of.get("pair", []) if picture.number not in taken]
    return Arranged(worst, pairs, others, of.get("unsure", []), of.get("class", []))


def _whys(record: RunRecord) -> Iterable[str]:
    return dict.fromkeys(item["why"] for item in record.shown)


def _pair(picture: Picture) -> tuple[str, str, str]:
    return picture.split, picture.label, picture.predicted


def _picture(number: int, item: Mistake | ShownAnswer) -> Picture:
    """Return an answer for the page; what records of older versions lack is left empty."""
    return Picture(
        number, item["path"], item.get("split", ""), item["label"], item["predicted"], item.get("confidence"),
        item.get("jpeg", ""), item.get("looked", ""),
    )  # fmt: skip


def _small(jpeg: str) -> str:
    """Return a small copy of a base64 picture, "" of what is none."""
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(jpeg, validate=True))).convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError):
        return ""
    return thumbnail(np.asarray(picture), SMALL, quality=75)

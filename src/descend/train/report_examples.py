"""The answers that a report shows with their pictures: the worst mistakes, each confused pair, the unsure, and each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from descend.train.evaluate import thumbnail, worst
from descend.train.record_types import Mistake, ShownAnswer

SIDE, QUALITY = 240, 80  # of a picture that can be enlarged: pixels at most, and JPEG's quality; about 10 kB
LARGE = 320  # pixels of a mistake, which is looked at more closely; about 16 kB
LOOKED_SIDE, N_LOOKED = 200, 8  # pixels, and mistakes, of the pictures that show where the network looked
SMALL = 112  # pixels: pictures that are no larger are kept as they were, enlarged crisply
N_PAIRS, PER_PAIR = 16, 3  # of classes that are taken for each other most often, and pictures of each
N_UNSURE = 12
N_OF_CLASSES, MOST_PER_CLASS = 36, 3  # pictures that show classes, and those of one class


@dataclass(frozen=True)
class Answers:
    """What was answered on pictures: names, splits and labels (n,), probabilities (n, K); take gives pictures by position.

    looked: from pictures (n, R, R, 3) uint8 and answers (n,) to where the network looked in each; None where that is not asked.
    """

    names: Sequence[str]
    splits: Sequence[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    classes: Sequence[str]
    take: Callable[[int], NDArray[np.uint8]]
    looked: Callable[[NDArray[np.uint8], NDArray[np.int64]], Sequence[NDArray[np.uint8] | None]] | None = None

    @property
    def given(self) -> NDArray[np.int64]:
        """The class that was answered, (n,) int64."""
        return self.probabilities.argmax(1)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The probability of the answer, (n,)."""
        return self.probabilities.max(1)


def mistakes(answers: Answers) -> list[Mistake]:
    """Return the worst mistakes with their pictures, the most confident first, and where the network looked in some of them."""
    positions = worst(answers.probabilities, answers.labels)
    found = [_described(answers, int(at), LARGE) for at in positions]
    if answers.looked is not None and found:
        some = positions[:N_LOOKED]
        spots = answers.looked(np.stack([answers.take(int(at)) for at in some]), answers.given[some])
        for mistake, spot in zip(found, spots, strict=False):
            if spot is not None:
                mistake["looked"] = thumbnail(spot, LOOKED_SIDE, quality=QUALITY)
    return found


def others(answers: Answers) -> list[ShownAnswer]:
    """Return the answers that show what the worst mistakes do not: pairs of classes, the unsure, and classes.

    The surest right answer of a class shows the class, also where it is unsure: a class with few right ones would be missing.
    The same answers give the same choice, whatever order the disk has them in.
    """
    typical = [*_typical(answers)]
    surest = {int(answers.labels[at]): at for at in reversed(typical)}
    known = set(worst(answers.probabilities, answers.labels).tolist())
    chosen: list[ShownAnswer] = []
    for why, positions in (("pair", _pairs(answers)), ("unsure", _unsure(answers, {*surest.values()})), ("class", typical)):
        for at in positions:
            if at not in known:
                known.add(at)
                chosen.append(ShownAnswer(**_described(answers, at, SIDE), why=why))
    return chosen


def _described(answers: Answers, at: int, side: int) -> Mistake:
    image = answers.take(at)
    small = max(image.shape[:2]) <= SMALL
    return Mistake(
        path=answers.names[at],
        split=answers.splits[at],
        label=answers.classes[int(answers.labels[at])],
        predicted=answers.classes[int(answers.given[at])],
        confidence=float(answers.confidence[at]),
        jpeg=thumbnail(image) if small else thumbnail(image, side, quality=QUALITY),
    )


def _pairs(answers: Answers) -> Iterator[int]:
    """Yield pictures of the commonest confusions, the most confident of each."""
    wrong = np.flatnonzero(answers.given != answers.labels)
    if not len(wrong):
        return
    n_classes = len(answers.classes)
    code = answers.labels[wrong] * n_classes + answers.given[wrong]
    kinds, counts = np.unique(code, return_counts=True)
    for kind in kinds[np.argsort(-counts, kind="stable")][:N_PAIRS]:
        of_it = wrong[code == kind]
        yield from map(int, of_it[np.argsort(-answers.confidence[of_it], kind="stable")][:PER_PAIR])


def _unsure(answers: Answers, elsewhere: set[int]) -> list[int]:
    """Return right answers that were given with least confidence, but for those that are shown elsewhere."""
    right = np.setdiff1d(np.flatnonzero(answers.given == answers.labels), [*elsewhere])
    return right[np.argsort(answers.confidence[right], kind="stable")][:N_UNSURE].tolist()


def _typical(answers: Answers) -> Iterator[int]:
    """Yield the surest right answers of each class; of many classes, of those that are recognized worst."""
    right = answers.given == answers.labels
    counts = np.bincount(answers.labels, minlength=len(answers.classes))
    recall = np.bincount(answers.labels[right], minlength=len(answers.classes)) / np.maximum(counts, 1)
    seen = np.flatnonzero(counts)
    each = min(MOST_PER_CLASS, max(1, N_OF_CLASSES // max(1, len(seen))))
    for label in seen[np.argsort(recall[seen], kind="stable")][:N_OF_CLASSES]:
        of_it = np.flatnonzero(right & (answers.labels == label))
        yield from map(int, of_it[np.argsort(-answers.confidence[of_it], kind="stable")][:each])

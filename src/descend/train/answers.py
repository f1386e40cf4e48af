"""What a run answers on new pictures: predictions, and the features behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANY_CLASSES, LIKELIEST = 100, 5


def n_told(n_classes: int, top: int | None = None) -> int | None:
    """Return how many of the likeliest classes a table of answers tells; None for all, in the order of the classes.

    top: as asked. Of more than 100 classes 5 by default: 15,000 answers with all of 2,000 probabilities take 72 MB.
    """
    return top if top is not None or n_classes <= MANY_CLASSES else LIKELIEST


def told_header(classes: Sequence[str], n: int | None) -> list[str]:
    """Return the columns of a table of answers that tell probabilities. n: as ``n_told`` says."""
    if n is None:
        return [f"p_{name}" for name in classes]
    return [column for rank in range(1, min(n, len(classes)) + 1) for column in (f"class_{rank}", f"p_{rank}")]


@dataclass(frozen=True)
class Predictions:
    """Answers, one row per readable picture, in the order given.

    labels: (n,) names of classes, or whole numbers or booleans where the run was trained on arrays with such labels. classes: the
    names, in the order of the columns. probabilities: (n, K) float32. names: (n,) what each row is about. problems: name ->
    reason, the pictures that could not be read. passed_over: path -> reason, files in the folders given that are no pictures, or
    pictures of a kind that is not read here, and folders that are not entered, whose path ends in a slash. doubtful: name ->
    reason, pictures that are answered, but by the run's scale and background may not look as its own did: their bits are others,
    or its background hides them. entropy, mutual_information: (n,) float32, nats, where every picture was asked more than once
    (``tta``, ``mc``), else None: all the doubt, and the part of it that comes from the passes disagreeing.
    """

    labels: NDArray[Any]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    problems: dict[str, str]
    entropy: NDArray[np.float32] | None = None
    mutual_information: NDArray[np.float32] | None = None
    passed_over: dict[str, str] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Return the parts of ``Run.stream``, one or more, as one."""
        return cls(
            np.concatenate([part.labels for part in parts]), np.concatenate([part.probabilities for part in parts]),
            parts[0].classes, tuple(name for part in parts for name in part.names),
            {name: why for part in parts for name, why in part.problems.items()},
            _joined([part.entropy for part in parts]), _joined([part.mutual_information for part in parts]),
            {name: why for part in parts for name, why in part.passed_over.items()},
            {name: why for part in parts for name, why in part.doubtful.items()},
        )  # fmt: skip


@dataclass(frozen=True)
class FeatureVectors:
    """What the network's head reads of pictures, one row per readable picture, in the order given; ``np.asarray`` gives vectors.

    vectors: (n, D) float32. names, problems, passed_over, doubtful: as in ``Predictions``.
    """

    vectors: NDArray[np.float32]
    names: tuple[str, ...]
    problems: dict[str, str]
    passed_over: dict[str, str] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, D)."""
        return self.vectors.shape

    def __len__(self) -> int:
        return len(self.vectors)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.vectors, dtype, copy=copy)


def _joined(rows: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    there = [row for row in rows if row is not None]
    return np.concatenate(there) if there else None

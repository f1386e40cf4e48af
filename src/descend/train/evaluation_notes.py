"""What a run's score on labeled pictures needs beside its answers: columns of classes, notes about the data, doubts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from descend.data.dataset import ABOUT_THE_POLICY, ABOUT_THE_SPLIT, Dataset
from descend.errors import DataError, did_you_mean
from descend.train.record_types import DataNote

if TYPE_CHECKING:
    from descend.train.inference_result import InferenceResult

_TOLD_ONE_BY_ONE = "unreadable"  # in ``Evaluation.problems``, without a bound on how many


def columns(dataset: Dataset, known: tuple[str, ...]) -> NDArray[np.int64]:
    """Return, for each class of the data, its column in the answers of a run that knows these. Raises DataError for others."""
    unknown = [name for name in dataset.classes if name not in known]
    if unknown:
        way = did_you_mean(unknown[0], known) or "Leave pictures of other classes out, or train a run with them."
        raise DataError("eval", "the data's classes must be among the run's", got=unknown[:10],
                        fix=f"The run knows {', '.join(known[:20])}{', ...' * (len(known) > 20)}. {way}")  # fmt: skip
    return np.array([known.index(name) for name in dataset.classes], np.int64)


def subject(dataset: Dataset, split: str, *, is_own: bool) -> str:
    """Return what is measured, in words: a split, of other data than the run's own by their name, or such data as a whole."""
    if is_own:
        return f"split {split}"
    return f"split {split} of {dataset.name}" if dataset.given_split else dataset.name


def notes(dataset: Dataset) -> list[DataNote]:
    """Return what there is to say of data that a run is measured on: it reads them by its own scale and background.

    How its own data were split was told when it was trained.
    """
    untold = (*ABOUT_THE_POLICY, *ABOUT_THE_SPLIT, _TOLD_ONE_BY_ONE)
    return [cast("DataNote", item.describe()) for item in dataset.problems if item.kind not in untold]


def mean_doubt(result: InferenceResult, labels: NDArray[np.int64]) -> dict[str, dict[str, float]] | None:
    """Return the mean entropy and mutual information, in nats, of right and of wrong answers; None after single passes."""
    if result.entropy is None or result.mutual_information is None:
        return None
    right = result.probabilities.argmax(1) == labels
    return {
        name: {
            "entropy": float(result.entropy[chosen].mean()),
            "mutual_information": float(result.mutual_information[chosen].mean()),
        }
        for name, chosen in (("right", right), ("wrong", ~right))
        if chosen.any()
    }

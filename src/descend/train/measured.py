"""What a run's score on labeled pictures needs beside its answers: columns of classes, notes about the data, doubts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from descend.data.dataset import ABOUT_THE_POLICY, Dataset
from descend.errors import DataError, nearest
from descend.train.record_types import DataNote

if TYPE_CHECKING:
    from descend.train.inference_result import InferenceResult

_TOLD_ONE_BY_ONE = "unreadable"  # in ``Evaluation.problems``, without a bound on how many


def columns(dataset: Dataset, known: tuple[str, ...]) -> NDArray[np.int64]:
    """Return, for each class of the data, its column in the answers of a run that knows these. Raises DataError for others."""
    unknown = [name for name in dataset.classes if name not in known]
    if unknown:
        raise DataError("eval", "the data's classes must be among the run's", got=unknown[:10],
                        fix=f"The run knows {', '.join(known[:20])}. {nearest(unknown[0], known)}")  # fmt: skip
    return np.array([known.index(name) for name in dataset.classes], np.int64)


def notes(dataset: Dataset) -> list[DataNote]:
    """Return what there is to say of data that a run is measured on: it reads them by its own scale and background."""
    told = (problem for problem in dataset.problems if problem.kind not in (*ABOUT_THE_POLICY, _TOLD_ONE_BY_ONE))
    return [{"kind": item.kind, "message": item.message, "n": item.n, "examples": [*item.examples]} for item in told]


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

"""The numbers a classifier is judged by, from scikit-learn, with the interval that the size of the split allows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from descend.stats import proportion
from descend.train.record_types import ClassScore, Score


def score(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Score:
    """Judge ``probabilities`` (n, K) against ``labels`` (n,): every metric, the log loss, ``n``, and accuracy's interval.

    The interval is Wilson's at 95 %: it says how far the accuracy could lie from this one on new pictures of the same kind.
    """
    predicted = probabilities.argmax(1)
    n_right = int((predicted == labels).sum())
    interval = proportion(n_right, len(labels))
    return Score(
        accuracy=n_right / len(labels),
        accuracy_interval=[interval.low, interval.high],
        balanced_accuracy=_balanced(labels, predicted),
        macro_f1=_macro_f1(labels, predicted),
        loss=log_loss(probabilities, labels),
        n=len(labels),
    )


def _balanced(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """The mean recall of the classes that occur; one that only occurs among the answers has no recall to average."""
    found: Any = metrics.recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)  # pyright: ignore[reportArgumentType] (the stub knows words only)
    return float(found)


def _macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    found: Any = metrics.precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)  # pyright: ignore[reportArgumentType] (the stub knows words only)
    return float(found[2])


def log_loss(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood in nats; a probability of zero counts as the smallest float32."""
    own = np.maximum(probabilities[np.arange(len(labels)), labels].astype(np.float64), np.finfo(np.float32).tiny)
    return float(-np.log(own).mean())


def per_class(probabilities: NDArray[np.float32], labels: NDArray[np.int64], classes: tuple[str, ...]) -> list[ClassScore]:
    """Return precision, recall, F1 and count of every class."""
    found: Any = metrics.precision_recall_fscore_support(
        labels,
        probabilities.argmax(1),
        labels=np.arange(len(classes)),
        zero_division=0,  # pyright: ignore[reportArgumentType] (the stub knows words only)
    )
    rows = zip(classes, *found, strict=True)
    return [{"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "n": int(n)} for name, p, r, f, n in rows]


def confusion(probabilities: NDArray[np.float32], labels: NDArray[np.int64], n_classes: int) -> list[list[int]]:
    """Return counts[true][predicted]."""
    return metrics.confusion_matrix(labels, probabilities.argmax(1), labels=np.arange(n_classes)).tolist()

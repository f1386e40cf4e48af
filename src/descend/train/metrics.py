"""The numbers a classifier is judged by, from scikit-learn, with the interval that the size of the split allows.

scikit-learn and SciPy take a second to import: what needs them imports them, so that an answer to one picture does not wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend import stats
from descend.percentages import percent
from descend.train.record_types import ClassScore, Score


def score(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    copies: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> Score:
    """Judge ``probabilities`` (n, K) against ``labels`` (n,): every metric, the log loss, ``n``, and accuracy's interval.

    The interval is Wilson's at 95%: it says how far the accuracy could lie from this one on new pictures of the same kind.
    copies: (n,) int64, equal where two rows are one picture: it counts once, in every metric, so repeating rows changes nothing.
    groups: (n,) int64, equal where pictures belong together (one patient, one video): each counts, but the interval treats what
    is in one group as one piece of evidence. Their effective number is ``sum(m)^2 / sum(m^2)`` over the sizes m of the groups.
    Source: Kish 1965, Survey Sampling, section 8.2, for wholly correlated clusters.
    """
    predicted = probabilities.argmax(1)
    weights = shares_of_copies(copies)
    accuracy = float(np.average(predicted == labels, weights=weights))
    n_independent = pieces_of_evidence(len(labels), copies, groups)
    interval = stats.proportion(round(accuracy * n_independent), n_independent)
    return Score(
        accuracy=accuracy,
        accuracy_interval=[interval.low, interval.high],
        balanced_accuracy=_balanced(labels, predicted, weights),
        macro_f1=_macro_f1(labels, predicted, weights),
        loss=log_loss(probabilities, labels, weights),
        n=len(labels),
        n_independent=n_independent,
    )


def interval_of_share(share: float, n: float, score: Score | None) -> stats.Interval:
    """Return the interval of a share of ``n`` answers to pictures of a split, of which copies and groups count once.

    score: of that split, which knows how many pictures are independent; None where all are.
    """
    distinct = independent_of(n, score)
    return stats.proportion(round(share * distinct), distinct)


def independent_of(n: float, score: Score | None) -> int:
    """Return how many of ``n`` answers to pictures of a split are independent, 1 or more; score as of ``interval_of_share``."""
    independent = 1.0 if score is None else score.get("n_independent", score["n"]) / score["n"]
    return max(1, round(independent * n))


def shares_of_copies(copies: NDArray[np.int64] | None) -> NDArray[np.float64] | None:
    """Return each row's share in its picture, (n,), or None where all pictures are distinct."""
    if copies is None:
        return None
    _, picture, counts = np.unique(copies, return_inverse=True, return_counts=True)
    return None if len(counts) == len(copies) else 1 / counts[picture]


def pieces_of_evidence(n: int, copies: NDArray[np.int64] | None, groups: NDArray[np.int64] | None) -> int:
    """Return on how many independent pictures, or groups of them, figures of n rows rest; copies and groups as of ``score``."""
    weights = shares_of_copies(copies)
    counted = np.ones(n) if weights is None else weights
    if groups is not None:
        _, group = np.unique(groups, return_inverse=True)
        counted = np.bincount(group, weights=counted)
        return max(1, round(float(counted.sum() ** 2 / (counted**2).sum())))
    return max(1, round(float(counted.sum())))


def evidence_per_row(n: int, copies: NDArray[np.int64] | None, groups: NDArray[np.int64] | None) -> NDArray[np.float64] | None:
    """Return how much each of n rows counts, (n,), so that all count as many as the pieces of evidence they rest on.

    Copies and groups as of ``score``. None where all are independent: each counts 1.
    """
    pieces, shares = pieces_of_evidence(n, copies, groups), shares_of_copies(copies)
    if pieces == n:
        return None
    counted = np.ones(n) if shares is None else shares
    return counted * (pieces / counted.sum())


def _balanced(labels: NDArray[np.int64], predicted: NDArray[np.int64], weights: NDArray[np.float64] | None) -> float:
    """The mean recall of the classes that occur; one that only occurs among the answers has no recall to average."""
    from sklearn import metrics

    options: dict[str, Any] = {"average": "macro", "sample_weight": weights, "zero_division": 0}
    return float(metrics.recall_score(labels, predicted, labels=np.unique(labels), **options))


def _macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64], weights: NDArray[np.float64] | None) -> float:
    from sklearn import metrics

    options: dict[str, Any] = {"average": "macro", "sample_weight": weights, "zero_division": 0}
    return float(metrics.f1_score(labels, predicted, **options))


def log_loss(probabilities: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float64] | None = None) -> float:
    """Return the mean negative log-likelihood in nats; a probability of zero counts as the smallest float32.

    probabilities: (n, K) float32, rows that sum to 1. labels: (n,) int64, in 0..K - 1. weights: (n,) float64, of rows; None for
    equal ones.
    """
    of_label = np.maximum(probabilities[np.arange(len(labels)), labels].astype(np.float64), np.finfo(np.float32).tiny)
    return float(np.average(-np.log(of_label), weights=weights))


def per_class(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], classes: tuple[str, ...], *,
    copies: NDArray[np.int64] | None = None,
) -> list[ClassScore]:  # fmt: skip
    """Return precision, recall and F1, in [0, 1], counts and share of every class.

    probabilities: (n, K) float32. labels: (n,) int64, places in ``classes``. copies: as of ``score``; the counts are of all rows.
    """
    from sklearn import metrics

    weights, answered = shares_of_copies(copies), probabilities.argmax(1)
    columns: Any = metrics.precision_recall_fscore_support(
        labels,
        answered,
        labels=np.arange(len(classes)),
        sample_weight=weights,
        zero_division=0,  # pyright: ignore[reportArgumentType] (the stub knows words only)
    )
    counted = np.bincount(labels, weights, minlength=len(classes))
    shares = counted / max(1.0, float(counted.sum()))
    counts = (np.bincount(column, minlength=len(classes)) for column in (labels, answered))
    return [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f1), "n": int(n), "n_answered": int(n_answered),
         "share": float(share)}
        for name, p, r, f1, n, n_answered, share in zip(classes, *columns[:3], *counts, shares, strict=True)
    ]  # fmt: skip


def told(row: ClassScore) -> dict[str, float | None]:
    """Return precision, recall and F1 of a class, each None where it is a share of nothing.

    Runs of older versions have not counted answers: of a class without pictures nothing is known there.
    """
    n_answered = row.get("n_answered", row["n"])
    of = {"precision": n_answered, "recall": row["n"], "f1": row["n"] + n_answered}
    return {name: row[name] if of[name] else None for name in ("precision", "recall", "f1")}


def only_answered(rows: Sequence[ClassScore]) -> list[str]:
    """Return the classes without a picture that were answered all the same: macro F1 counts each as 0."""
    return [row["class"] for row in rows if not row["n"] and row.get("n_answered")]


def confused(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> list[list[int]]:
    """Return [true class, answered class, pictures] for every two that occur, the true class first, as numbers.

    probabilities: (n, K) float32. labels: (n,) int64, in 0..K - 1.
    """
    pairs, counts = np.unique(np.stack([labels, probabilities.argmax(1)], 1), axis=0, return_counts=True)
    return np.column_stack([pairs, counts]).tolist()


def words_for(score: Mapping[str, Any]) -> str:
    """Return how many pictures a score is over, and how many of them are independent evidence where that is fewer."""
    independent = score["n_independent"]
    return f"{score['n']:,} pictures" + (f", {independent:,} independent" if independent < score["n"] else "")


def line(name: str, score: Score) -> str:
    """Return a score in one line. name: of what it was measured on."""
    (low, high), n = score["accuracy_interval"], score["n"]
    return (
        f"{name + ':':<11} accuracy {percent(score['accuracy'], n)} of {words_for(score)} "
        f"(95% interval {percent(low, n)} to {percent(high, n)}), "
        f"balanced {percent(score['balanced_accuracy'], n)}, macro F1 {percent(score['macro_f1'], n)}"
    )

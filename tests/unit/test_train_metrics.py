"""Metrics against sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from descend.train import evaluate, metrics

PROBS = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], np.float32)
LABELS = np.array([0, 1, 1, 1], np.int64)  # class 2 does not occur; picture 2 is wrong


def test_by_hand() -> None:
    score = metrics.score(PROBS, LABELS)
    assert score["accuracy"] == 0.75
    assert score["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert score["macro_f1"] == pytest.approx((2 * 0.5 * 1 / 1.5 + 2 * 1 * (2 / 3) / (5 / 3)) / 2)
    assert score["loss"] == pytest.approx(-np.mean(np.log([0.9, 0.7, 0.3, 0.8])), rel=1e-6)
    assert score["accuracy_interval"][0] < 0.75 < score["accuracy_interval"][1]
    assert score["n"] == 4


def test_a_probability_of_zero_is_a_large_finite_loss() -> None:
    assert math.isfinite(metrics.log_loss(np.array([[1.0, 0.0]], np.float32), np.array([1])))


def test_per_class_and_confusion() -> None:
    rows = metrics.per_class(PROBS, LABELS, ("a", "b", "c"))
    assert rows[1] == {"class": "b", "precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8), "n": 3,
                       "n_answered": 2, "share": 0.75}  # fmt: skip
    assert rows[2]["n"] == 0
    assert metrics.confused(PROBS, LABELS) == [[0, 0, 1], [1, 0, 1], [1, 1, 2]]


def test_a_share_of_nothing_is_none_and_a_class_that_was_only_answered_is_zero() -> None:
    answers = np.eye(4, dtype=np.float32)[[0, 0, 1]]  # three pictures of a, one taken for b; c and d occur in neither
    rows = metrics.per_class(answers, np.array([0, 0, 0]), ("a", "b", "c", "d"))
    told = [metrics.told(row) for row in rows]
    assert told[0] == {"precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8)}
    assert told[1] == {"precision": 0.0, "recall": None, "f1": 0.0}
    assert told[2] == {"precision": None, "recall": None, "f1": None}
    assert metrics.only_answered(rows) == ["b"]
    known = f1_score([0, 0, 0], [0, 0, 1], average=None, zero_division=0)
    assert [row["f1"] for row in told[:2]] == pytest.approx(known.tolist())
    assert metrics.score(answers, np.array([0, 0, 0]))["macro_f1"] == pytest.approx(known.mean())
    never = metrics.told({"class": "b", "precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 3, "n_answered": 0})
    assert never == {"precision": None, "recall": 0.0, "f1": 0.0}
    older = metrics.told({"class": "b", "precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 0})
    assert older == {"precision": None, "recall": None, "f1": None}


def test_copies_count_once_in_a_class_too() -> None:
    rows = np.array([0, 1, 2, 3, 2, 2, 2, 1])
    once = metrics.per_class(PROBS, LABELS, ("a", "b", "c"))
    repeated = metrics.per_class(PROBS[rows], LABELS[rows], ("a", "b", "c"), copies=rows)
    assert [row["n"] for row in repeated] == [1, 7, 0]
    for name in ("precision", "recall", "f1", "share"):
        assert [row[name] for row in repeated] == pytest.approx([row[name] for row in once])


def test_worst_mistakes_come_first() -> None:
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.55, 0.45]], np.float32)
    assert evaluate.worst(probs, np.array([1, 0, 1, 1])).tolist() == [0, 1, 3]


def test_repeating_rows_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([1, 1, 1], 40).astype(np.float32)
    labels = rng.integers(0, 3, 40)
    once = metrics.score(probs, labels, copies=np.arange(40))
    rows = np.repeat(np.arange(40), rng.integers(1, 12, 40))
    repeated = metrics.score(probs[rows], labels[rows], copies=rows)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "loss", "n_independent"):
        assert repeated[name] == pytest.approx(once[name], rel=1e-12)
    assert repeated["accuracy_interval"] == pytest.approx(once["accuracy_interval"])
    assert (once["n"], once["n_independent"], repeated["n"]) == (40, 40, len(rows))
    assert once == metrics.score(probs, labels)


def test_the_interval_counts_a_group_once() -> None:
    probs = np.repeat(np.array([[0.9, 0.1]], np.float32), 60, 0)
    labels = (np.arange(60) >= 48).astype(np.int64)  # 80 % right
    patients = metrics.score(probs, labels, groups=np.arange(60) // 6)
    ten = metrics.score(probs[::6], labels[::6])
    assert patients["n_independent"] == 10
    assert patients["accuracy"] == 0.8
    assert patients["accuracy_interval"] == ten["accuracy_interval"]
    one_large = np.minimum(np.arange(60), 10)  # 10 groups of one, one of 50
    assert metrics.score(probs, labels, groups=one_large)["n_independent"] == round(60**2 / (10 + 50**2))
    both = metrics.score(
        probs[[0, 0, 1, 59]], labels[[0, 0, 1, 59]], copies=np.array([0, 0, 1, 2]), groups=np.array([0, 0, 0, 1])
    )
    assert both["accuracy"] == pytest.approx(2 / 3)
    assert both["n_independent"] == round(3**2 / (2**2 + 1**2))

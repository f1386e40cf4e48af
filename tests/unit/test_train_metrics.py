"""Metrics against sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

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
    assert rows[1] == {"class": "b", "precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8), "n": 3}
    assert rows[2]["n"] == 0
    assert metrics.confusion(PROBS, LABELS, 3) == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]


def test_worst_mistakes_come_first() -> None:
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.55, 0.45]], np.float32)
    assert evaluate.worst(probs, np.array([1, 0, 1, 1])).tolist() == [0, 1, 3]

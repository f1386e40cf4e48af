"""Labels and outliers: confident learning by the paper, out-of-fold answers by scikit-learn, and what is made of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from tests.oracles.confident_learning import confident_joint

import descend
from descend.audit import label_errors, outliers
from descend.audit.checks import scan
from descend.audit.material import DeepLook, Material
from descend.transfer import out_of_fold

N, D, K = 180, 6, 3
LABELS = np.arange(N) % K


def features(spread: float = 1.0) -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = 4 * generator.normal(size=(K, D))
    return (centres[LABELS] + spread * generator.normal(size=(N, D))).astype(np.float32)


def test_the_confident_classes_are_those_of_the_paper() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 4, 400)
    sure = generator.random(400)[:, None] * (generator.random(400) < 0.8)[:, None]
    p = (1 - sure) * generator.dirichlet([1] * 4, size=400) + sure * np.eye(4)[labels]
    ours = label_errors.confident_class(p.astype(np.float32), labels)
    joint = confident_joint(p.astype(np.float32).tolist(), labels.tolist())
    theirs = np.full(400, -1)
    for row in joint:
        for j, members in enumerate(row):
            theirs[members] = j
    assert (ours == theirs).mean() > 0.995  # a probability at its threshold may fall to either side of it
    assert (ours == -1).any()


def test_out_of_fold_answers_are_those_of_heads_that_never_saw_the_picture() -> None:
    x, strength = features(2.0), 0.01
    units = np.arange(N) // 2  # pairs stay together
    ours = out_of_fold(x[:, None], LABELS, K, units=units, n_folds=4, strength=strength)
    assert set(ours.fold) == set(range(4))
    assert (ours.fold[::2] == ours.fold[1::2]).all()
    for fold in range(4):
        held_out = ours.fold == fold
        scaler = StandardScaler().fit(x[~held_out])
        model = LogisticRegression(C=1 / (strength * (~held_out).sum()), tol=1e-8, max_iter=2000)
        model.fit(scaler.transform(x[~held_out]), LABELS[~held_out])
        np.testing.assert_allclose(ours.probabilities[held_out], model.predict_proba(scaler.transform(x[held_out])), atol=2e-3)


def test_folds_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(descend.DataError, match="folds: needs two pictures of one class"):
        out_of_fold(features()[:K, None], LABELS[:K], K)


def _material(labels: np.ndarray, probabilities: np.ndarray, seen: np.ndarray) -> Material:
    pictures = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3)).astype(np.uint8)
    material = scan((pictures, labels), deep=False).material
    return dataclasses.replace(material, deep=DeepLook(np.arange(N), seen, probabilities, "lite0"))


def test_swapped_labels_are_found_and_named_with_the_class_that_they_rather_are() -> None:
    x, wrong = features(0.5), np.array([4, 31, 77, 120])
    labels = LABELS.copy()
    labels[wrong] = (labels[wrong] + 1) % K
    p = out_of_fold(x[:, None], labels, K).probabilities
    (finding,) = label_errors.label_errors(_material(labels, p, x))
    assert finding.severity == "finding"
    assert {row["picture"] for row in finding.table} == {f"arrays[{row}]" for row in wrong}
    assert {row["picture"]: row["rather"] for row in finding.table} == {f"arrays[{row}]": str(LABELS[row]) for row in wrong}
    (clean,) = label_errors.label_errors(_material(LABELS, out_of_fold(x[:, None], LABELS, K).probabilities, x))
    assert clean.severity == "ok"


def test_a_picture_unlike_all_others_is_an_outlier_and_its_copy_is_no_company() -> None:
    x = features(0.2)
    x[5] = x[6] = -8 * x[:3].sum(axis=0)
    units = np.arange(N)
    units[6] = 5
    scores = outliers.loneliness(x, units)
    assert set(np.argsort(-scores)[:2]) == {5, 6}
    others = np.delete(x, [5, 6], axis=0)
    unit = others / np.linalg.norm(others, axis=1, keepdims=True)
    theirs = NearestNeighbors(n_neighbors=11).fit(unit).kneighbors(unit)[0][:, 10]
    np.testing.assert_allclose(outliers.loneliness(others, np.arange(N - 2)), theirs, atol=2e-3)
    p = np.full((N, K), 1 / K, np.float32)
    (finding,) = outliers.outliers(_material(LABELS, p, x))
    assert {row["picture"] for row in finding.table} >= {"arrays[5]", "arrays[6]"}

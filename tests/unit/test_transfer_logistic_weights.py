"""A fitted head whose classes count differently, against scikit-learn's ``sample_weight``, in the fit and where it is judged."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from descend.transfer import fit_logistic
from descend.transfer.folds import folds_of

COUNTS = (60, 24, 6)
WEIGHTS = np.array([0.5, 1.25, 5.0], np.float32)  # the mean over the pictures is 1


def skewed() -> tuple[NDArray, NDArray, NDArray]:
    """Return features (90, 1, 8) of classes that overlap, their standardized columns (90, 8), and labels."""
    draw, labels = np.random.default_rng(3), np.repeat(np.arange(3), COUNTS)
    x = (draw.normal(size=(90, 8)) + draw.normal(size=(3, 8))[labels] * 0.6).astype(np.float32)
    rows = x.astype(np.float64)
    return x[:, None], (rows - rows.mean(0)) / rows.std(0), labels


def reference(z: NDArray, labels: NDArray, strength: float) -> LogisticRegression:
    model = LogisticRegression(C=1 / (strength * len(z)), solver="newton-cg", tol=1e-10, max_iter=5000)
    return model.fit(z, labels, sample_weight=WEIGHTS[labels])


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_the_solution_is_the_weighted_optimum(strength: float) -> None:
    x, z, labels = skewed()
    fit = fit_logistic(x, labels, 3, strength=strength, class_weights=WEIGHTS)
    scores = x[:, 0] @ fit.weight.T + fit.bias
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(p, reference(z, labels, strength).predict_proba(z), atol=3e-3)


def test_strengths_are_judged_by_the_weighted_loss_of_what_is_held_out() -> None:
    x, z, labels = skewed()
    fit = fit_logistic(x, labels, 3, n_folds=3, seed=4, class_weights=WEIGHTS)
    trial = fit.trials[0]
    losses = np.zeros(90)
    for fitted, held_out in folds_of(labels, None, 3, 3, 4):
        p = reference(z[fitted], labels[fitted], trial.strength).predict_proba(z[held_out])
        losses[held_out] = -WEIGHTS[labels[held_out]] * np.log(p[np.arange(len(held_out)), labels[held_out]])
    assert trial.loss == pytest.approx(losses.mean(), abs=2e-3)
    assert fit.strength == min(fit.trials, key=lambda one: one.loss).strength


def test_weights_of_one_change_no_bit() -> None:
    x, _, labels = skewed()
    plain, ones = (fit_logistic(x, labels, 3, class_weights=weights) for weights in (None, np.ones(3, np.float32)))
    assert np.array_equal(plain.weight, ones.weight)
    assert plain.trials == ones.trials

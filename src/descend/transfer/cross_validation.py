"""Out-of-fold probabilities: each picture is judged by a head that was fitted without it, its copies and its group.

Source: cross-validation, Stone 1974, JRSS B 36, 111-147.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from descend import rng
from descend.errors import DataError
from descend.transfer.logistic import Floats, fit_logistic, stratified


@dataclass(frozen=True)
class OutOfFold:
    """probabilities: (n, K) float32. fold: (n,) int64, in which each sample was held out. strengths: of each fold's penalty."""

    probabilities: Floats
    fold: NDArray[np.int64]
    strengths: tuple[float, ...]


def out_of_fold(
    features: Floats, labels: NDArray[np.int64], n_classes: int, *, units: NDArray[np.int64] | None = None, n_folds: int = 5,
    strength: float | None = None, around: float | None = None, seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> OutOfFold:  # fmt: skip
    """Fit the logistic head once for each fold, and let it judge what was held out.

    features: (n, V, D) float32. labels: (n,) int64 below K = n_classes. units: (n,), what stays in one fold. strength: of the
    penalty; None chooses it in each fold anew, by cross-validation inside what is fitted, so that nothing of the held-out samples
    enters. around: where that choice begins. progress: called with (folds done, folds in all).
    Raises DataError where no class has two samples, or units leave a fold with a single class.
    """
    n_folds = min(n_folds, int(np.bincount(labels).max()), len(labels) if units is None else len(np.unique(units)))
    if n_folds < 2:
        raise DataError("folds", "needs two pictures of one class that are not copies or of one group", got=len(labels))
    probabilities, fold = np.zeros((len(labels), n_classes), np.float32), np.zeros(len(labels), np.int64)
    strengths: list[float] = []
    folds = stratified(labels, units, n_folds, rng.integer_seed(seed, "out of fold") % 2**32)
    for number, (fitted, held_out) in enumerate(folds):
        inside = None if units is None else units[fitted]
        head = fit_logistic(
            features[fitted], labels[fitted], n_classes, units=inside, strength=strength, around=around, seed=seed
        )  # fmt: skip
        strengths.append(head.strength)
        probabilities[held_out], fold[held_out] = _answers(features[held_out], head.weight, head.bias), number
        if progress is not None:
            progress(number + 1, n_folds)
    return OutOfFold(probabilities, fold, tuple(strengths))


def _answers(features: Floats, weight: Floats, bias: Floats) -> Floats:
    """Return the probabilities of samples, averaged over their views: (m, V, D) -> (m, K)."""
    logits = features @ weight.T + bias
    odds = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (odds / odds.sum(axis=2, keepdims=True)).mean(axis=1)

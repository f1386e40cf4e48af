"""Out-of-fold probabilities: each picture is judged by a head that was fitted without it, its copies and its group.

An accuracy over all of them counts each picture once. Its interval is that of as many answers (``train.metrics.score``): it
covers further pictures, answered by heads like these. It does not cover another draw of what is fitted, for which
cross-validation has no unbiased estimate (Bengio & Grandvalet 2004, JMLR 5, 1089-1105). The heads see (K - 1) / K of the
pictures, so the figure leans to the low side.

Source: Stone 1974, JRSS B 36, 111-147; stratified: Kohavi 1995, IJCAI, 1137-1143; what is chosen is chosen inside the fold:
Varma & Simon 2006, BMC Bioinformatics 7, 91.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from descend import rng
from descend.errors import DataError, KnobError
from descend.transfer.feature_axes import Floats
from descend.transfer.folds import stratified
from descend.transfer.logistic import fit_stages


@dataclass(frozen=True)
class OutOfFold:
    """probabilities: (n, K) float32. fold: (n,) int64, in which each sample was held out, from 0.

    strengths, stages: of each fold, the penalty and the name of the features that were chosen.
    """

    probabilities: Floats
    fold: NDArray[np.int64]
    strengths: tuple[float, ...]
    stages: tuple[str, ...]


def check_folds(n_folds: int, labels: NDArray[np.int64], units: NDArray[np.int64]) -> None:
    """Raise KnobError where there are more folds than the commonest class has units: each of some folds would hold none out.

    labels: (n,) int64. units: (n,), what stays in one fold.
    """
    most = max(len(np.unique(units[labels == k])) for k in np.unique(labels))
    if n_folds > most:
        what = "independent pictures of the commonest class (copies, near copies and groups count as one)"
        raise KnobError("folds", f"must be at most {most}, the {what}", got=n_folds)


def out_of_fold(
    features: Floats, labels: NDArray[np.int64], n_classes: int, *, units: NDArray[np.int64] | None = None, n_folds: int = 5,
    strength: float | None = None, columns: Mapping[str, int] | None = None, n_inner: int = 5,
    seed: int = 0, progress: Callable[[int, int], None] | None = None,
) -> OutOfFold:  # fmt: skip
    """Fit the logistic head once for each fold, and let it judge what was held out, by its first view, the plain one.

    features: (n, V, D) float32. labels: (n,) int64 below K = n_classes. units: (n,), what stays in one fold. strength: of the
    penalty; None chooses it in each fold anew, by cross-validation inside what is fitted (n_inner folds), so that nothing of the
    held-out samples enters. columns: sets of features to choose from, in each fold anew, as in
    ``fit_stages``; None for all columns. progress: called with (samples judged, samples in all).
    Raises DataError where no class has two samples, or units leave a fold with a single class.
    """
    n_folds = min(n_folds, int(np.bincount(labels).max()), len(labels) if units is None else len(np.unique(units)))
    if n_folds < 2:
        raise DataError("folds", "needs two pictures of one class that are not copies or of one group", got=len(labels))
    probabilities, fold = np.zeros((len(labels), n_classes), np.float32), np.zeros(len(labels), np.int64)
    strengths, stages, n_judged = list[float](), list[str](), 0
    if progress is not None:
        progress(0, len(labels))
    folds = stratified(labels, units, n_folds, rng.integer_seed(seed, "out of fold") % 2**32)
    for number, (fitted, held_out) in enumerate(folds):
        if len(np.unique(labels[fitted])) < 2:
            raise DataError("folds", "must each leave two classes or more to fit on; copies or groups hold a class together",
                            got=f"fold {number + 1} of {n_folds}", fix="Ask for more folds, or leave them out.")  # fmt: skip
        best = fit_stages(
            features[fitted], labels[fitted], n_classes, columns or {"all": features.shape[2]},
            units=None if units is None else units[fitted], strength=strength, n_folds=n_inner, n_judged=1,
            seed=seed,
        )  # fmt: skip
        strengths.append(best.fit.strength)
        stages.append(best.stages)
        weight = best.fit.weight
        probabilities[held_out] = _answers(features[held_out, :1, -weight.shape[1] :], weight, best.fit.bias)
        fold[held_out], n_judged = number, n_judged + len(held_out)
        if progress is not None:
            progress(n_judged, len(labels))
    return OutOfFold(probabilities, fold, tuple(strengths), tuple(stages))


def _answers(features: Floats, weight: Floats, bias: Floats) -> Floats:
    """Return the probabilities of samples, averaged over their views: (m, V, D) -> (m, K)."""
    logits = features @ weight.T + bias
    odds = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (odds / odds.sum(axis=2, keepdims=True)).mean(axis=1)

"""Folds of cross-validation: which pictures a head is fitted to, which it is asked about, and how many folds are worth a fit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from descend import rng

HELD_OUT = 1_700
"""Pictures that decide: folds beyond those that hold out so many are left out. On 6,000 pictures of CIFAR-10 each of three folds
chose the same strength and the same stages, and on 8,500 choosing had taken 120 s of processor time."""
ONE_FOLD_FROM = 400_000  # samples x classes, from which one fold is held out: a fit takes many seconds there


def folds_of(
    labels: NDArray[np.int64], units: NDArray[np.int64] | None, n_folds: int, n_classes: int, seed: int, repeat: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (rows to fit, rows held out), int64: each class in each fold where it has as many pictures, units whole.

    labels: (n,) int64, in 0..n_classes - 1. units: (n,) int64, of pictures that stay together; None where each is one. n_folds: 2
    or more. repeat: number of the division, of several with one seed. Yields nothing where every class has a single picture, or
    one unit holds all pictures.
    """
    n_folds = n_cut(labels, units, n_folds, n_classes)
    if not n_folds:
        return
    splits = stratified(labels, units, n_folds, rng.integer_seed(seed, "logistic folds" + f"#{repeat}" * (repeat > 0)) % 2**32)
    yield from splits[: n_searched(len(labels), n_classes, n_folds)]


def n_cut(labels: NDArray[np.int64], units: NDArray[np.int64] | None, n_folds: int, n_classes: int) -> int:
    """Return into how many folds pictures are cut where ``n_folds`` are asked for, 0 where they cannot be.

    As many as the rarest class has pictures, or two, and no more than there are units: each fold holds one out, or more.
    labels: (n,) int64, in 0..n_classes - 1. units: (n,) int64, of pictures that stay together; None where each is one.
    """
    counts = np.bincount(labels, minlength=n_classes)
    n_units = len(labels) if units is None else len(np.unique(units))
    if counts.max() < 2 or n_units < 2:
        return 0
    return min(max(2, min(n_folds, int(counts[counts > 0].min()))), n_units)


def n_searched(n: int, n_classes: int, n_folds: int, strength: float | None = None) -> int:
    """Return on how many of the folds of n pictures strengths are tried: on none where it is given, or there are none."""
    if strength is not None:
        return 0
    most = 1 if n * n_classes > ONE_FOLD_FROM else math.ceil(HELD_OUT * n_folds / max(n, 1))
    return min(n_folds, most)


def stratified(
    labels: NDArray[np.int64], units: NDArray[np.int64] | None, n_folds: int, state: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return (rows to fit, rows held out), int64, of each fold, units whole.

    labels: (n,) int64. units: (n,) int64, of pictures that stay together; None where each is one. n_folds: 2 or more, and no more
    than there are units. state: of scikit-learn's shuffling.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # a second of imports: only where a head is fitted

    with warnings.catch_warnings():  # a class of one picture is on one side of every fold: all that can be done
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        if units is None or len(np.unique(units)) == len(units):
            return list(StratifiedKFold(n_folds, shuffle=True, random_state=state).split(labels, labels))
        return list(StratifiedGroupKFold(n_folds, shuffle=True, random_state=state).split(labels, labels, units))

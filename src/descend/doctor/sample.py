"""The handful of pictures that is looked at: a few of every class, the rest in proportion, the same ones for the same seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from descend import rng
from descend.data import Dataset

LEAST_PER_CLASS = 4  # training pictures, where there are as many
MOST_FOR_CLASSES = 512  # training pictures that the least of every class may add up to, before it is lowered to two
N_VAL = 32


def handful(dataset: Dataset, n: int, *, seed: int) -> Dataset:
    """Return the data set of about ``n`` training pictures and a few for validation; the test split is not looked at."""
    train = stratified(dataset, dataset.indices("train"), n, seed=seed)
    val = _shuffled(dataset, dataset.indices("val"), seed)[:N_VAL]
    return dataset.only(np.sort(np.concatenate([train, val])), why="a handful suffices for the checks")


def stratified(dataset: Dataset, rows: NDArray[np.int64], n: int, *, seed: int) -> NDArray[np.int64]:
    """Return ``n`` of the rows, (n,) int64, or a few more: some of every class first, the others as they come.

    So classes are about as common as in all rows, and none is missing.
    """
    n_classes = len(dataset.classes)
    least = max(2, min(LEAST_PER_CLASS, MOST_FOR_CLASSES // n_classes))
    order = _shuffled(dataset, rows, seed)
    rank = np.empty(len(order), np.int64)  # 0 for the first picture of its class, 1 for the second, ...
    for label in range(n_classes):
        of_class = dataset.labels[order] == label
        rank[of_class] = np.arange(of_class.sum())
    first, others = order[rank < least], order[rank >= least]
    return np.concatenate([first, others[: max(0, n - len(first))]])


def few_of_each(dataset: Dataset, rows: NDArray[np.int64], *, per_class: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return up to ``per_class`` of the rows of each class, as many classes as ``most`` pictures hold."""
    order = _shuffled(dataset, rows, seed)
    per_class = max(1, min(per_class, most // len(dataset.classes)))
    chosen = [order[dataset.labels[order] == label][:per_class] for label in range(len(dataset.classes))]
    return np.concatenate(chosen)[:most]


def _shuffled(dataset: Dataset, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    drawn = rng.uniform(seed, "doctor/handful", ids=dataset.ids[rows])[:, 0]
    return rows[np.argsort(drawn, kind="stable")]

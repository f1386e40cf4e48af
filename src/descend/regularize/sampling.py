"""Balanced sampling: rows of a skewed data set drawn so that every class comes equally often."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import ArrayLike, NDArray

from descend import rng
from descend.errors import DataError, KnobError, check_count
from descend.regularize.regularizer import Regularizer
from descend.technique import Search, technique


def sample_weights(labels: ArrayLike, *, power: float = 1.0) -> NDArray[np.float64]:
    """Return the probability of each row, proportional to 1 / n_class^power: labels (N,) whole -> (N,) float64, sum 1.

    power 1 gives every class the same share, 0 leaves the data as they are, 1/2 is the usual compromise: rare classes come
    more often, and their few pictures are not learned by heart. Raises KnobError for power outside [0, 1], DataError.
    """
    if not 0 <= power <= 1:
        raise KnobError("sample_weights", "power must be a number in [0, 1]", got=power)
    y = np.asarray(labels)
    if y.ndim != 1 or y.size == 0:
        raise DataError("sample_weights", "labels must be (N,) with N >= 1", got=y.shape)
    _, where, counts = np.unique(y, return_inverse=True, return_counts=True)
    weights = counts[where] ** -float(power)
    return weights / weights.sum()


def balanced_rows(labels: ArrayLike, n: int, *, seed: int, epoch: int, power: float = 1.0) -> NDArray[np.int64]:
    """Return ``n`` row numbers for one epoch, drawn with replacement by ``sample_weights``: labels (N,) -> (n,) int64.

    Draws are systematic: one uniform number in each of n equal slices of [0, 1), then shuffled. Every class's count is
    within one or two of its expectation, where independent draws would stray by its square root.
    A function of (seed, epoch). Raises KnobError for n < 1 or power outside [0, 1], DataError for labels that are not (N,).
    """
    y = np.asarray(labels)
    weights = sample_weights(y, power=power)
    check_count("balanced_rows", n, knob="n")
    by_class = np.argsort(y, kind="stable")  # neighbors in the sum are of one class, so that slices fall on classes
    edges = np.cumsum(weights[by_class])
    u = (np.arange(n) + rng.uniform(seed, "balanced_rows", ids=np.arange(n), epoch=epoch)[:, 0]) / n
    rows = by_class[np.minimum(np.searchsorted(edges, u * edges[-1], side="right"), y.size - 1)]
    return rows[rng.permutation(n, seed=seed, stream="balanced_rows/order", epoch=epoch)].astype(np.int64)


@technique(
    "balanced_sampling", source="Mahajan et al. 2018, arXiv:1805.00932, section 2.2: draws by 1 / n^power; power 1/2 there"
)
class BalancedSampling(Regularizer):
    """Fill each epoch with rows drawn so that rare classes come more often, see ``balanced_rows``; as many rows as there are.

        P(a picture of class k) ~ n_k**-power        n_k: the pictures of the class

    Prefer it to ``class_weights`` where a rare class would be missing from most batches. It repeats rare pictures, so add
    augmentation; and it shows each common one less than once per epoch.

    power: 1 gives every class the same share, 0 leaves the data as they are (a permutation), 1/2 is the usual compromise.
    """

    balances: ClassVar = True
    neutral: ClassVar = "power=0 visits every picture once too, but in an order of its own"

    power: Annotated[float, Ge(0), Le(1), Search(0.0, 1.0)] = 1.0

    def epoch_rows(self, labels: ArrayLike, *, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the rows of one epoch: labels (N,) whole -> (N,) int64. Raises DataError for labels that are not (N,)."""
        return balanced_rows(labels, np.asarray(labels).size, seed=seed, epoch=epoch, power=self.power)

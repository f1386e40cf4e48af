"""How the answers of several steps are weighed: the mixture of their probabilities that validation pictures find likeliest.

    maximize over w >= 0, sum w = 1:   sum_i log sum_m w_m p_m(y_i | x_i)  +  PRIOR * sum_m log w_m

The problem is concave, with one weight per member, so a hundred pictures settle it. The prior is PRIOR pictures that speak for
each member alike: on few pictures the weights stay near each other, which is what averaging wants when little is known. A member
without which the mixture is likelier is left out: the prior alone would keep a third of the answer for it. All but the first,
which cross-validation vouches for, must pay for what was fitted to these pictures for them, a weight and a temperature: without
each of them the labels must be less likely by 1 in the logarithm for either (Akaike's criterion). Without that price, 37 pictures
gave a weight to a network that was clearly worse than its head in 18% of simulated draws, with it in 2%. The first is left out
where its weight is negligible or labels are likelier without it by as much: those in whose favor that speaks were fitted to them.
In simulations answers are then right as often or more often, and lose less but where the network is far better than the head: up
to 8% more there (`benchmarks/mixture_weights.py`).
Source: linear opinion pool, Stone 1961; weights by expectation-maximization, Dempster, Laird & Rubin 1977, JRSS B 39, 1-38; price
of a fitted number: Akaike 1974, IEEE Trans. Automatic Control 19, 716-723.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Member = TypeVar("Member")

PRIOR = 5.0  # pictures
ROUNDS = 200  # of expectation-maximization; two members settle within fifty
FITTED = 2  # numbers for each member but the first: its weight, its temperature
NEGLIGIBLE = 0.1  # weight below which a member is left out: it would cost as much time as any


def weights(
    answers: Sequence[NDArray[np.float32]], labels: NDArray[np.int64], *, head_first: bool = True
) -> NDArray[np.float64]:  # fmt: skip
    """Return the weight of each member, (M,) float64, sum 1; 0 for one that adds nothing, or too little.

    answers: M arrays (n, K) of probabilities; the first is what stands where the others bring nothing. labels: (n,) int64.
    head_first: whether the first is a head that cross-validation vouches for, or one of trained networks alone.
    """
    p = np.stack([answer[np.arange(len(labels)), labels] for answer in answers]).astype(np.float64)
    p = np.maximum(p, 1e-12)
    kept = np.arange(len(answers))
    while len(kept) > 1:
        w = _settled(p[kept])
        likelihood = float(np.log(w @ p[kept]).sum())
        lost = np.array([likelihood - _likelihood(p[np.delete(kept, m)]) for m in range(len(kept))])
        lost += np.where(head_first & (kept == 0), FITTED, -FITTED)
        if w.min() < NEGLIGIBLE:
            kept = np.delete(kept, w.argmin())
        elif lost.min() < 0:
            kept = np.delete(kept, lost.argmin())
        else:
            break
    result = np.zeros(len(answers))
    result[kept] = _settled(p[kept])
    return result


def nats(answers: Sequence[NDArray[np.float32]], w: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return how unlikely a mixture makes the labels, the sum over pictures; arguments as of ``weights`` and ``mixed``."""
    p = mixed(answers, w)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(p, 1e-12)).sum())


def shared(w: NDArray[np.float64], n_more: int) -> NDArray[np.float64]:
    """Return weights (M + n_more,), with more members that no picture can judge beside the M that were weighed.

    They are further draws of all members but the first, and share with those that have a weight what these have together.
    """
    if not n_more:
        return w
    others = w[1:]
    n_alike = np.count_nonzero(others)
    each = others.sum() / (n_alike + n_more) if n_alike else 0.0
    return np.concatenate([w[:1], np.where(others > 0, each, 0.0), np.full(n_more, each)])


def _likelihood(p: NDArray[np.float64]) -> float:
    """Return the logarithm of how likely the settled mixture makes the labels: p (M, n) of its members."""
    return float(np.log(_settled(p) @ p).sum())


def _settled(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights (M,) of the likelihoods p (M, n)."""
    w = np.full(len(p), 1 / len(p))
    for _ in range(ROUNDS):
        responsible = w[:, None] * p
        responsible /= responsible.sum(0)
        w = responsible.sum(1) + PRIOR
        w /= w.sum()
    return w


def with_weight(answers: Sequence[Member], w: NDArray[np.float64]) -> tuple[list[Member], list[float]]:
    """Return the members that have a weight above 0, and their weights."""
    kept = [(answer, float(weight)) for answer, weight in zip(answers, w, strict=True) if weight > 0]
    return [answer for answer, _ in kept], [weight for _, weight in kept]


def mixed(answers: Sequence[NDArray[np.float32]], w: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weighted mean of the probabilities, (n, K) float32."""
    return np.einsum("m,mnk->nk", w, np.stack(answers)).astype(np.float32)

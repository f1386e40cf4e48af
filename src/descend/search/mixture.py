"""How the answers of several steps are weighed: the mixture of their probabilities that validation pictures find likeliest.

    maximize over w >= 0, sum w = 1:   sum_i log sum_m w_m p_m(y_i | x_i)  +  PRIOR * sum_m log w_m

The problem is concave, with one weight per member, so a hundred pictures settle it. The prior is PRIOR pictures that speak for
each member alike: on few pictures the weights stay near each other, which is what averaging wants when little is known. A member
is left out where its weight is negligible, or where labels are likelier without it by ``AGAINST`` in the logarithm: the prior
alone would keep a third of the answer for one that goes astray. Less does not count against it: two answers that pictures do not
tell apart are better together than either, and where nearly all are right, pictures tell very little. Beside a rule that asked
evidence in favor (Akaike's price of a fitted number) the answer loses less in 42 of 56 simulated cases, by up to half, and more
in eight: networks three times as wrong as the head, up to 35% with 37 pictures, and once one that is a little worse
(`benchmarks/mixture_weights.py`).
Source: linear opinion pool, Stone 1961; weights by expectation-maximization, Dempster, Laird & Rubin 1977, JRSS B 39, 1-38.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Member = TypeVar("Member")

PRIOR = 5.0  # pictures
ROUNDS = 200  # of expectation-maximization; two members settle within fifty
AGAINST = 1.0  # in the logarithm of how likely labels are
NEGLIGIBLE = 0.1  # weight below which a member is left out: it would cost as much time as any


Counts = NDArray[np.float64] | None
"""How much each picture counts, (n,): less where it is a copy, or one of a group. None: each counts 1."""


def weights(answers: Sequence[NDArray[np.float32]], labels: NDArray[np.int64], counts: Counts = None) -> NDArray[np.float64]:
    """Return the weight of each member, (M,) float64, sum 1; 0 for one that is left out.

    answers: M arrays (n, K) of probabilities; the first stands alone where no label judges. labels: (n,) int64.
    """
    if not len(labels):
        return np.eye(len(answers))[0]
    p = np.stack([answer[np.arange(len(labels)), labels] for answer in answers]).astype(np.float64)
    p = np.maximum(p, 1e-12)
    kept = np.arange(len(answers))
    while len(kept) > 1:
        w = _settled(p[kept], counts)
        likelihood = _sum(np.log(w @ p[kept]), counts)
        gained = np.array([_likelihood(p[np.delete(kept, m)], counts) - likelihood for m in range(len(kept))])
        if w.min() < NEGLIGIBLE:
            kept = np.delete(kept, w.argmin())
        elif gained.max() > AGAINST:
            kept = np.delete(kept, gained.argmax())
        else:
            break
    result = np.zeros(len(answers))
    result[kept] = _settled(p[kept], counts)
    return result


def nats(
    answers: Sequence[NDArray[np.float32]], w: NDArray[np.float64], labels: NDArray[np.int64], counts: Counts = None
) -> float:  # fmt: skip
    """Return how unlikely a mixture makes the labels, the sum over pictures; arguments as of ``weights`` and ``mixed``."""
    p = mixed(answers, w)[np.arange(len(labels)), labels]
    return -_sum(np.log(np.maximum(p, 1e-12)), counts)


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


def _likelihood(p: NDArray[np.float64], counts: Counts) -> float:
    """Return the logarithm of how likely the settled mixture makes the labels: p (M, n) of its members."""
    return _sum(np.log(_settled(p, counts) @ p), counts)


def _sum(values: NDArray[np.float64], counts: Counts) -> float:
    return float(values.sum() if counts is None else values @ counts)


def _settled(p: NDArray[np.float64], counts: Counts = None) -> NDArray[np.float64]:
    """Return the weights (M,) of the likelihoods p (M, n)."""
    w = np.full(len(p), 1 / len(p))
    for _ in range(ROUNDS):
        responsible = w[:, None] * p
        responsible /= responsible.sum(0)
        w = (responsible.sum(1) if counts is None else responsible @ counts) + PRIOR
        w /= w.sum()
    return w


def with_weight(answers: Sequence[Member], w: NDArray[np.float64]) -> tuple[list[Member], list[float]]:
    """Return the members that have a weight above 0, and their weights."""
    kept = [(answer, float(weight)) for answer, weight in zip(answers, w, strict=True) if weight > 0]
    return [answer for answer, _ in kept], [weight for _, weight in kept]


def mixed(answers: Sequence[NDArray[np.float32]], w: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weighted mean of the probabilities, (n, K) float32."""
    return np.einsum("m,mnk->nk", w, np.stack(answers)).astype(np.float32)

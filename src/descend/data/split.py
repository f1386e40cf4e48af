"""Who is trained on, who is selected on, who is tested on: stratified, with copies and groups kept together.

Pictures with the same bytes, or of the same group, or linked through a chain of both, form a *unit*; a unit goes to one side
as a whole. Units with several pictures are placed first, largest first, each where its classes lack most; single pictures then
fill up every class's quota, so without groups and copies the quotas are met exactly. The order among equals is a function of
(seed, content), so neither file names nor the order of files matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from descend import rng
from descend.data.manifest import UNASSIGNED

TRAIN, VAL, TEST = 0, 1, 2
SHARE = 0.15  # of validation, and of test
GIVEN_TEST = 1 / 2
"""Of the pictures that there is time to look at, that a given test split may take before it is cut: who gives one wants it
answered. With room for 2,600 of 4,317 blurred flowers, a third left a fifth of the 1,079 test pictures unanswered."""


def assign(
    labels: NDArray[np.int64],
    digests: NDArray[np.uint8],
    groups: NDArray[np.int64] | None,
    given: NDArray[np.int8],
    *,
    seed: int,
) -> NDArray[np.int8]:
    """Return the split of each picture: (N,) int8, 0 train, 1 val, 2 test.

    labels: (N,). digests: (N, 16) uint8. groups: (N,) or None. given: (N,), -1 where no split was given, for all or for none.
    Without given splits: 70% train, 15% val, 15% test. Given splits stay; only a missing val is taken out of train.
    """
    splits = given.copy()
    if (given == UNASSIGNED).all():
        pool, parts = np.arange(len(labels)), (TRAIN, VAL, TEST)
    elif (given == VAL).any():
        return splits
    else:
        pool, parts = np.flatnonzero(given == TRAIN), (TRAIN, VAL)
    if len(pool):
        units = linked(digests[pool], None if groups is None else groups[pool])
        splits[pool] = _place(labels[pool], units, _turn(digests[pool], units, seed), len(parts))
    return splits


def nested_order(labels: NDArray[np.int64], draw: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return an order of N pictures whose every beginning holds all classes in their shares: (N,) int64.

    labels: (N,), or other strata. draw: (N,), by which those of one class stand. Copies and pictures of one group are not kept
    together.
    """
    place, first = np.empty(len(labels)), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranked = members[np.lexsort((members, draw[members]))]
        place[ranked] = (np.arange(len(ranked)) + 0.5) / len(ranked)
        first[ranked[0]] = True  # every class has a picture in even the smallest part
    return np.lexsort((np.arange(len(labels)), place, ~first))


def room_for_test(room: float, n_test: float, n_others: float) -> float:
    """Return how much of the room for some of the pictures a given test split takes: all of it, up to a share of the room.

    Where a half is less than test has, but all others fit beside more of it, it takes what they leave.
    """
    return min(n_test, max(GIVEN_TEST * room, room - n_others))


def linked(digests: NDArray[np.uint8], groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Number the units of N pictures, linked by equal bytes, a group, or a chain of both: (N, 16) uint8 -> (N,) int64."""
    _, copies = np.unique(digests, axis=0, return_inverse=True)
    copies = copies.reshape(-1)
    if groups is None:
        return copies
    if not len(copies):
        return copies.astype(np.int64)
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    _, groups = np.unique(groups, return_inverse=True)
    n_copies, size = int(copies.max()) + 1, int(copies.max() + groups.max()) + 2
    links = coo_matrix((np.ones(len(copies), np.int8), (copies, n_copies + groups)), shape=(size, size))
    _, component = connected_components(links, directed=False)
    return component[copies].astype(np.int64)


def sample_ids(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the sample id of each picture, the first 8 bytes of its digest: (N, 16) uint8 -> (N,) int64."""
    return np.ascontiguousarray(digests[:, :8]).view("<i8").reshape(-1).astype(np.int64)


def _turn(digests: NDArray[np.uint8], units: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return each unit's place in the random order, (U,) int64: it depends on the contents of the unit and on nothing else."""
    first = np.full(int(units.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, units, sample_ids(digests))
    words = rng.bits(seed, "split", ids=first, n=2)
    turn = np.empty(len(first), np.int64)
    turn[np.lexsort((first, words[:, 1], words[:, 0]))] = np.arange(len(first))
    return turn


def _quotas(labels: NDArray[np.int64], n_parts: int) -> NDArray[np.int64]:
    """Return how many pictures of each class each part should get: (K, P).

    Shares are rounded along the running sum over classes, so the totals are right too (rounding 1.5 up in each of 100 classes
    of ten would give validation a fifth); test runs from the other end, lest one class pays for both. A class of two or more has
    one for validation, of three or more one for test.
    """
    n = np.bincount(labels)
    quotas = np.zeros((len(n), n_parts), np.int64)
    for part, way in zip(range(1, n_parts), (1, -1), strict=False):
        running = np.floor(np.cumsum(n[::way]) * SHARE + 0.5).astype(np.int64)
        quotas[:, part] = np.maximum(np.diff(running, prepend=0)[::way], n > part)
    quotas[:, TRAIN] = n - quotas[:, 1:].sum(axis=1)
    return quotas


def _place(labels: NDArray[np.int64], units: NDArray[np.int64], turn: NDArray[np.int64], n_parts: int) -> NDArray[np.int8]:
    quotas = _quotas(labels, n_parts)
    counts = np.zeros_like(quotas)
    part_of = np.zeros(len(turn), np.int8)
    sizes = np.bincount(units)
    rows_by_unit = np.argsort(units, kind="stable")
    starts = np.cumsum(sizes) - sizes
    large = np.flatnonzero(sizes > 1)
    for unit in large[np.lexsort((turn[large], -sizes[large]))]:
        content = np.bincount(labels[rows_by_unit[starts[unit] : starts[unit] + sizes[unit]]], minlength=len(quotas))
        lack = content @ ((quotas - counts) / np.maximum(quotas, 1))
        part_of[unit] = np.argmax(lack)  # a tie goes to train
        counts[:, part_of[unit]] += content
    singles = np.flatnonzero(sizes == 1)
    singles = singles[np.argsort(turn[singles])]
    classes = labels[rows_by_unit[starts[singles]]]
    for label in np.unique(classes):
        queue = singles[classes == label]
        left = len(queue) - (counts[label, TRAIN] == 0)  # train comes first
        end = 0
        for part in range(1, n_parts):
            n = max(0, min(quotas[label, part] - counts[label, part], left))
            part_of[queue[end : end + n]] = part
            end, left = end + n, left - n
    return part_of[units]

"""Which pictures of one data set another holds: with the same bytes, or saved again, resized, mirrored, turned or cropped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from descend.data.dataset import Dataset
from descend.data.loading import seeks_crops, seeks_near
from descend.data.near_copies import are_told_by_bytes, near_copies
from descend.data.pool import n_threads
from descend.data.signatures import Pictures, Signatures, signatures
from descend.files import CacheFolder


def n_shared(
    judged: Dataset, rows: NDArray[np.int64], own: Dataset, *, near_up_to: int | None, threads: int | None
) -> tuple[int, int | None]:
    """Count rows, (n,) int64, whose bytes stand in ``own``'s training or validation, and others that are near copies of such.

    near_up_to: as for ``load``, of the pictures of both; where they are too many the second is None. threads: that decode
    pictures and compare them.
    """
    known = np.sort(np.concatenate([own.indices("train"), own.indices("val")]))
    _, picture = np.unique(np.concatenate([own.digests[known], judged.digests[rows]]), axis=0, return_inverse=True)
    picture = picture.reshape(-1)
    same = np.isin(picture[len(known) :], picture[: len(known)])
    pairs = _pairs(judged, rows, own, known, near_up_to, n_threads(threads))
    if pairs is None:
        return int(same.sum()), None
    pairs = picture[pairs]
    trained = np.isin(pairs, picture[: len(known)])
    alike = np.isin(picture[len(known) :], pairs[:, ::-1][trained]) & ~same  # the other one of each pair, not a chain of such
    return int(same.sum()), int(alike.sum())


def _pairs(
    judged: Dataset, rows: NDArray[np.int64], own: Dataset, known: NDArray[np.int64], up_to: int | None, threads: int
) -> NDArray[np.int64] | None:
    """Return (P, 2) near copies among the known pictures and those that are judged, as places in both, one after the other."""
    if judged.fingerprint == own.fingerprint:  # loading has sought them among all
        place = np.full(len(own), -1)
        place[rows], place[known] = len(known) + np.arange(len(rows)), np.arange(len(known))
        pairs = place[own.near.pairs]
        return pairs[(pairs >= 0).all(axis=1)] if seeks_near(own.names, own.sizes, up_to) else None
    names = [dataset.names[int(row)] for dataset, part in ((own, known), (judged, rows)) for row in part]
    sizes = np.concatenate([own.sizes[known], judged.sizes[rows]])
    if not seeks_near(names, sizes, up_to):
        return None
    if are_told_by_bytes(sizes, own.pictures, judged.pictures):
        return np.zeros((0, 2), np.int64)
    looks = [
        Pictures(dataset.root, dataset.names, dataset.digests, own.policy, dataset.pictures, dataset.opaque)
        for dataset in (own, judged)
    ]
    seen = [signatures(pictures, threads=threads, cache=CacheFolder()).rows for pictures in looks]

    def squashed(at: int, side: int) -> NDArray[np.uint8]:
        return looks[0].squashed(int(known[at]), side) if at < len(known) else looks[1].squashed(int(rows[at - len(known)]), side)

    found = near_copies(
        Signatures(np.concatenate([seen[0][known], seen[1][rows]]), {}),
        np.concatenate([own.digests[known], judged.digests[rows]]), sizes, squashed, with_crops=seeks_crops(sizes, up_to),
        threads=threads,
    )  # fmt: skip
    return found.pairs

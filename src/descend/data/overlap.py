"""Which pictures of one data set another holds: with the same bytes, or saved again, resized, mirrored, turned or cropped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from descend.data.dataset import Dataset
from descend.data.loading import CROPS_SHARE
from descend.data.near_copies import chained, near_copies
from descend.data.pool import n_threads
from descend.data.signatures import Pictures, Signatures, signatures
from descend.files import CacheFolder


def n_shared(
    judged: Dataset, rows: NDArray[np.int64], own: Dataset, *, near_up_to: int | None, threads: int | None
) -> tuple[int, int]:
    """Count rows, (n,) int64, whose bytes stand in ``own``'s training or validation, and others that are near copies of such.

    near_up_to: as for ``load``; it bounds the pictures of both. threads: that decode what has not been looked at before.
    """
    known = np.sort(np.concatenate([own.indices("train"), own.indices("val")]))
    parts = ((own, known), (judged, rows))
    digests = np.concatenate([dataset.digests[part] for dataset, part in parts])
    _, picture = np.unique(digests, axis=0, return_inverse=True)
    picture = picture.reshape(-1)
    same = np.isin(picture[len(known) :], picture[: len(known)])
    if near_up_to is not None and len(digests) > near_up_to:
        return int(same.sum()), 0
    looks = [_pictures(dataset, part) for dataset, part in parts]
    seen = [signatures(pictures, threads=n_threads(threads), cache=CacheFolder()) for pictures in looks]

    def squashed(at: int, side: int) -> NDArray[np.uint8]:
        return looks[0].squashed(at, side) if at < len(known) else looks[1].squashed(at - len(known), side)

    found = near_copies(
        Signatures(np.concatenate([each.rows for each in seen]), {}), digests,
        np.concatenate([dataset.sizes[part] for dataset, part in parts]), squashed,
        with_crops=near_up_to is None or len(digests) <= CROPS_SHARE * near_up_to,
    )  # fmt: skip
    family = chained(len(digests), picture[found.pairs])[picture]
    alike = np.isin(family[len(known) :], family[: len(known)]) & ~same
    return int(same.sum()), int(alike.sum())


def _pictures(dataset: Dataset, rows: NDArray[np.int64]) -> Pictures:
    held = None if dataset.pictures is None else dataset.pictures[rows]
    return Pictures(dataset.root, [dataset.names[int(row)] for row in rows], dataset.digests[rows], dataset.policy, held)

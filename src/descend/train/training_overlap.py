"""What a run knows already of pictures that it is measured on: by its own data, or by the list of them in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from descend.data import Dataset
from descend.data.overlap import n_shared
from descend.train import folder, pictures


class Familiar(NamedTuple):
    """What is known of pictures.

    n_same: those that the run was trained or selected on; None where neither its data nor their list are at hand. n_near: near
    copies of such; None without the data. shows_test: whether pictures of the run's own test split are among them.
    """

    n_same: int | None
    n_near: int | None
    shows_test: bool


def familiar(
    dataset: Dataset, rows: NDArray[np.int64], own: Dataset | None, run: Path, *, near_up_to: int | None, threads: int | None
) -> Familiar:  # fmt: skip
    """Return what a run knows of rows (n,) of a data set.

    own: what it was trained on, split as in training; None where that has changed, or is not where it was: then the list in the
    run folder tells, by the pictures' bytes. near_up_to, threads: as in ``n_shared``. Raises RunError for a list that is damaged.
    """
    judged = _digests(dataset, rows)
    if own is not None:
        n_same, n_near = n_shared(dataset, rows, own, near_up_to=near_up_to, threads=threads)
        return Familiar(n_same, n_near, bool({*_digests(own, own.indices("test"))} & {*judged}))
    if not (run / folder.PICTURES).exists():
        return Familiar(None, None, False)
    seen = pictures.digests(run, "train") | pictures.digests(run, "val")
    return Familiar(sum(digest in seen for digest in judged), None, bool(pictures.digests(run, "test") & {*judged}))


def _digests(dataset: Dataset, rows: NDArray[np.int64]) -> list[str]:
    return [digest.tobytes().hex() for digest in dataset.digests[rows]]

"""Features of a frozen network for benchmarks that fit heads themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from descend.data import Dataset, decode_resized
from descend.transfer import Engine

_AT_ONCE = 64  # pictures


def frozen_features(dataset: Dataset, rows: NDArray[np.int64], engine: Engine, side: int) -> NDArray[np.float32]:
    """Return the features of some pictures in views of a side, (n, D)."""
    parts = (rows[at : at + _AT_ONCE] for at in range(0, len(rows), _AT_ONCE))
    return np.concatenate(
        [
            engine(np.stack([decode_resized(dataset.source(int(row)), side, policy=dataset.policy) for row in part]))
            for part in parts
        ]
    )

"""What looking at pictures costs, counted in small ones, so that a budget can bound it before any is opened or decoded.

It is counted from sizes alone, not from a clock: a run that is repeated looks at the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from descend.data.manifest import Manifest

OPENED_BYTES = 200_000  # of a file that counts as one
JPEG_MP, OTHER_MP = 1 / 4, 1 / 30
"""Megapixels that count as one where a picture is decoded to a small one: 12 of a JPEG take 60 ms of processor time, and 2 of a
PNG 100, where small pictures take 0.7 of two threads with all that is done to them."""


def of_opening(manifest: Manifest) -> NDArray[np.float64]:
    """Return what reading each picture of a manifest counts, (N,), 1 or more; pictures in memory or in shards are small."""
    if manifest.root is None or manifest.pictures is not None:
        return np.ones(len(manifest.names))
    return np.array([max(1.0, _n_bytes(manifest, row) / OPENED_BYTES) for row in range(len(manifest.names))])


def of_decoding(names: Sequence[str], sizes: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return what decoding each picture counts, (N,), 1 or more. sizes: (N, 2), pixels as stored."""
    jpeg = np.array([name.lower().endswith((".jpg", ".jpeg")) for name in names], np.bool_)
    megapixels = sizes.prod(1, dtype=np.float64) / 1e6
    return np.maximum(1.0, megapixels / np.where(jpeg, JPEG_MP, OTHER_MP))


def _n_bytes(manifest: Manifest, row: int) -> int:
    assert manifest.root is not None  # of pictures in files
    try:
        return (manifest.root / manifest.names[row]).stat().st_size
    except OSError:  # opening it will say why
        return 0

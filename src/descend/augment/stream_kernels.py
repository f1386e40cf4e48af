"""Random numbers of a stream, compiled: NumPy needs a hundred calls for one draw, which small pictures and small batches feel."""

from __future__ import annotations

import numpy as np

from descend import rng
from descend.compiled import LEAN, helper, kernel

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
philox = helper(rng.philox_rounds, **LEAN)


@kernel(**LEAN)
def fill_uniform(ids, k0, k1, out):
    """Write the uniform numbers of ``rng.uniform`` for sample ids (B,) uint64 under a key: out (n, B) float64."""
    for block in range((len(out) + 3) // 4):
        for b in range(ids.size):
            words = philox(np.uint64(block), np.uint64(0), ids[b] & _LOW, ids[b] >> _HALF, k0, k1)
            for k in range(min(4, len(out) - 4 * block)):
                out[4 * block + k, b] = (float(words[k]) + 0.5) * 2.0**-32

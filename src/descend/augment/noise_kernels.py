"""Gaussian noise for kernels: numbers of a counter-based generator, so that no pixel waits for another's."""

from __future__ import annotations

import math

import numpy as np

from descend import rng
from descend.compiled import helper

_F = np.float32
_philox = helper(rng.philox_rounds)


@helper
def add_noise(values, sigma, identity, k0, k1):
    """Add Gaussian noise to flat levels, in place; see ``apply.noisy`` for which number goes where."""
    low, high = identity & np.uint64(0xFFFFFFFF), identity >> np.uint64(32)
    for block in range((values.size + 3) // 4):
        a, b, c, d = _philox(np.uint64(block), np.uint64(0), low, high, k0, k1)
        for pair in range(2):
            first, second = (a, b) if pair == 0 else (c, d)
            radius = sigma * math.sqrt(-2 * math.log((float(first) + 0.5) * 2.0**-32))
            angle = 2 * math.pi * (float(second) + 0.5) * 2.0**-32
            at = 4 * block + 2 * pair
            if at < values.size:
                values[at] += _F(radius * math.cos(angle))
            if at + 1 < values.size:
                values[at + 1] += _F(radius * math.sin(angle))

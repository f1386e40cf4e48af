"""Gaussian noise for kernels: numbers of a counter-based generator, so that no pixel waits for another's."""

from __future__ import annotations

import math

import numpy as np

from descend import rng
from descend.compiled import helper

_F = np.float32
_philox = helper(rng.philox_rounds)


@helper
def normals(block, identity, k0, k1):
    """Return four standard normal numbers of a sample; see ``apply.noisy``."""
    low, high = identity & np.uint64(0xFFFFFFFF), identity >> np.uint64(32)
    a, b, c, d = _philox(np.uint64(block), np.uint64(0), low, high, k0, k1)
    radius, angle = math.sqrt(-2 * math.log((float(a) + 0.5) * 2.0**-32)), 2 * math.pi * (float(b) + 0.5) * 2.0**-32
    other, turn = math.sqrt(-2 * math.log((float(c) + 0.5) * 2.0**-32)), 2 * math.pi * (float(d) + 0.5) * 2.0**-32
    return radius * math.cos(angle), radius * math.sin(angle), other * math.cos(turn), other * math.sin(turn)


@helper
def add_noise(values, sigma, identity, k0, k1):
    """Add Gaussian noise to flat levels, in place; see ``apply.noisy`` for which number goes where."""
    for block in range((values.size + 3) // 4):
        numbers = normals(block, identity, k0, k1)
        for k in range(min(4, values.size - 4 * block)):
            values[4 * block + k] += _F(sigma * numbers[k])


@helper
def fill_noise(values, start, stop, mean, std, gain, bias, identity, k0, k1):
    """Write noise of a mean and a standard deviation (3,), in levels, to ``values[start:stop]`` of a finished image."""
    for block in range(start // 4, (stop + 3) // 4):
        numbers = normals(block, identity, k0, k1)
        for at in range(max(start, 4 * block), min(stop, 4 * block + 4)):
            c = at % 3
            values[at] = (mean[c] + std[c] * _F(numbers[at - 4 * block])) * gain[c] + bias[c]

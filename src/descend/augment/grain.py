"""Gaussian noise, compiled."""

from __future__ import annotations

import math

import numpy as np

from descend.compiled import helper

_F = np.float32


@helper
def philox(c0, c1, c2, c3, k0, k1):
    """Encrypt one counter of four 32-bit words, held in uint64; see ``rng.philox4x32``."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        left, right = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (right >> half) ^ c1 ^ k0, right & low, (left >> half) ^ c3 ^ k1, left & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@helper
def add_noise(values, sigma, identity, k0, k1):
    """Add Gaussian noise to flat levels, in place; see ``apply.noisy`` for which number goes where."""
    low, high = identity & np.uint64(0xFFFFFFFF), identity >> np.uint64(32)
    for block in range((values.size + 3) // 4):
        a, b, c, d = philox(np.uint64(block), np.uint64(0), low, high, k0, k1)
        for pair in range(2):
            first, second = (a, b) if pair == 0 else (c, d)
            radius = sigma * math.sqrt(-2 * math.log((float(first) + 0.5) * 2.0**-32))
            angle = 2 * math.pi * (float(second) + 0.5) * 2.0**-32
            at = 4 * block + 2 * pair
            if at < values.size:
                values[at] += _F(radius * math.cos(angle))
            if at + 1 < values.size:
                values[at + 1] += _F(radius * math.sin(angle))

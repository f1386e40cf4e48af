"""Textbook forms of the regularizers, written from the papers in plain NumPy and Python; nothing of descend is imported."""

from __future__ import annotations

import itertools
import math

import numpy as np


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cross_entropy(logits, soft, *, smoothing, weights, focal):
    """The sum of the samples' losses, one copy at a time, over the number of samples.

    A class weight says how many times a sample of that class counts. So it belongs to the sample, before the sample's target is
    smoothed: a sample that counts w times is w copies of it, whose targets are all smoothed alike. A mixed sample is so many
    parts of each class, each of which is such copies of the mixed picture with that class as its target.
    """
    p = softmax(np.asarray(logits, np.float64))
    n, k = p.shape
    loss = 0.0
    for i in range(n):
        for own in range(k):
            count = soft[i][own] * weights[own]
            for j in range(k):
                q = (1 - smoothing) * (j == own) + smoothing / k
                loss -= count * q * (1 - p[i, j]) ** focal * math.log(p[i, j])
    return loss / n


def effective_number_weights(counts, beta):
    """Cui et al. 2019, equation 2, term by term; scaled so that the mean over all samples is 1. E_n = sum of beta^i, i < n."""
    inverse = [1 / sum(beta**i for i in range(n)) for n in counts]
    scale = sum(counts) / sum(n * w for n, w in zip(counts, inverse, strict=True))
    return np.array([scale * w for w in inverse])


def sparse_sigmoid_gradient(x, w, b, target, strength):
    """Ng 2011, section 3: value and weight gradient of the penalty for one layer of sigmoids, x (B, I), w (J, I), b (J,)."""
    h = 1 / (1 + np.exp(-(x @ w.T + b)))
    rate = h.mean(0)
    value = strength * sum(target * math.log(target / r) + (1 - target) * math.log((1 - target) / (1 - r)) for r in rate)
    delta = strength * (-target / rate + (1 - target) / (1 - rate)) * h * (1 - h) / len(x)
    return value, delta.T @ x


def soft_threshold(w, amount):
    """The minimizer over v of (v - w)^2 / 2 + amount |v|."""
    return np.sign(w) * np.maximum(np.abs(w) - amount, 0)


def elastic_prox(w, l1, l2):
    """The minimizer over v of (v - w)^2 / 2 + l1 |v| + l2 v^2 / 2, found by search on a fine grid around its bracket."""
    low, high = -abs(w) - 1e-9, abs(w) + 1e-9
    for _ in range(60):
        grid = np.linspace(low, high, 101)
        best = grid[np.argmin((grid - w) ** 2 / 2 + l1 * np.abs(grid) + l2 * grid**2 / 2)]
        width = (high - low) / 50
        low, high = best - width, best + width
    return best


def masks(n, p):
    """Every mask of n units with its probability under drop probability p."""
    for mask in itertools.product((0, 1), repeat=n):
        kept = sum(mask)
        yield np.array(mask, np.float64), (1 - p) ** kept * p ** (n - kept)


def drop_block(x, starts, size):
    """DropBlock of one sample (C, H, W), square by square: ``starts`` (C, H - size + 1, W - size + 1) of 0 and 1."""
    mask = np.ones_like(x)
    for c, i, j in zip(*np.nonzero(starts), strict=True):
        mask[c, i : i + size, j : j + size] = 0
    return x * mask * mask.size / max(mask.sum(), 1)


def ghost_batch_norm(x, groups, eps):
    """Normalize each group of samples (B, C, H, W) by its own mean and variance."""
    out, start = np.empty_like(x), 0
    for size in groups:
        part = x[start : start + size]
        mean, var = part.mean((0, 2, 3), keepdims=True), part.var((0, 2, 3), keepdims=True)
        out[start : start + size] = (part - mean) / np.sqrt(var + eps)
        start += size
    return out

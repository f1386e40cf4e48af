"""Textbook forms of the wrappers, in NumPy, from the papers; they import nothing of descend.

Each takes one array ``p``, ``gradient(t, p)``, the number of steps, ``inner`` as (name, knobs) and its own knobs, and returns the
point with which it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Gradient = Callable[[int, Array], Array]
Stepper = Callable[[Array, Array], Array]
Inner = tuple[str, dict[str, Any]]


def stepper(inner: Inner) -> Stepper:
    """Return a function that makes one step after the other: (p, g) -> p."""
    name, k = inner
    state: dict[str, Any] = {"t": 0, "m": 0.0, "v": 0.0}

    def adamw(p: Array, g: Array) -> Array:
        state["t"] += 1
        state["m"] = k["beta1"] * state["m"] + (1 - k["beta1"]) * g
        state["v"] = k["beta2"] * state["v"] + (1 - k["beta2"]) * g**2
        m_hat, v_hat = state["m"] / (1 - k["beta1"] ** state["t"]), state["v"] / (1 - k["beta2"] ** state["t"])
        return p - k["lr"] * (m_hat / (np.sqrt(v_hat) + k["eps"]) + k["weight_decay"] * p)

    def momentum(p: Array, g: Array) -> Array:
        state["v"] = k["momentum"] * state["v"] + g + k["weight_decay"] * p
        return p - k["lr"] * state["v"]

    return {"adamw": adamw, "momentum": momentum}[name]


def ema(p: Array, gradient: Gradient, steps: int, *, inner: Inner, decay: float, warmup: bool) -> Array:
    step, points, keeps = stepper(inner), [], []
    for t in range(1, steps + 1):
        p = step(p, gradient(t, p))
        points.append(p)
        keeps.append(0.0 if t == 1 else min(decay, 1 - 1 / t ** (2 / 3)) if warmup else decay)
    # the recursion, unrolled: point i weighs (1 - keep_i) times the keeps of all later steps
    weights = [(1 - keeps[i]) * float(np.prod(keeps[i + 1 :])) for i in range(steps)]
    return np.sum([weight * point for weight, point in zip(weights, points, strict=True)], axis=0)


def swa(p: Array, gradient: Gradient, steps: int, *, inner: Inner, begin: int, every: int) -> Array:
    step, samples = stepper(inner), []
    for t in range(1, steps + 1):
        p = step(p, gradient(t, p))
        if t in range(begin, steps + 1, every):
            samples.append(p)
    return np.mean(samples, axis=0) if samples else p


def lookahead(p: Array, gradient: Gradient, steps: int, *, inner: Inner, k: int, alpha: float) -> Array:
    step, phi, t = stepper(inner), p, 0
    while t < steps:
        theta = phi
        for _ in range(min(k, steps - t)):
            t += 1
            theta = step(theta, gradient(t, theta))
        if t % k:
            return theta
        phi = phi + alpha * (theta - phi)
    return phi


def sam(p: Array, gradient: Gradient, steps: int, *, inner: Inner, rho: float, adaptive: bool) -> Array:
    step = stepper(inner)
    for t in range(1, steps + 1):
        g = gradient(t, p)
        normalizer = np.abs(p) if adaptive else np.ones_like(p)
        epsilon = rho * normalizer**2 * g / np.sqrt(((normalizer * g) ** 2).sum())
        p = step(p, gradient(t, p + epsilon))
    return p

"""Textbook forms of the optimizer rules, in NumPy, from the papers; they import nothing of descend.

Each takes one array ``p``, ``gradient(t, p)`` for t = 1, 2, ..., the number of steps and the knobs, and returns the final array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Gradient = Callable[[int, Array], Array]


def sgd(p: Array, gradient: Gradient, steps: int, *, lr: float, weight_decay: float) -> Array:
    for t in range(1, steps + 1):
        p = p - lr * (gradient(t, p) + weight_decay * p)
    return p


def momentum(p: Array, gradient: Gradient, steps: int, *, lr: float, momentum: float, weight_decay: float, form: str) -> Array:
    v = np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p) + weight_decay * p
        if form == "lr_inside":
            v = momentum * v + lr * g
            p = p - v
        else:
            v = momentum * v + g
            p = p - lr * v
    return p


def nesterov(p: Array, gradient: Gradient, steps: int, *, lr: float, momentum: float, weight_decay: float, form: str) -> Array:
    def of_penalized_loss(t: int, at: Array) -> Array:  # f(at) + weight_decay / 2 * |at|^2
        return gradient(t, at) + weight_decay * at

    v = np.zeros_like(p)
    for t in range(1, steps + 1):
        if form == "lookahead":  # eqs. (3) and (4) as they stand: their velocity holds the rate and points downhill
            v = momentum * v - lr * of_penalized_loss(t, p + momentum * v)
            p = p + v
        else:  # torch.optim.SGD(nesterov=True)
            g = of_penalized_loss(t, p)
            v = momentum * v + g
            p = p - lr * (g + momentum * v)
    return p


def adagrad(
    p: Array, gradient: Gradient, steps: int, *, lr: float, eps: float, start: float, lr_decay: float, weight_decay: float
) -> Array:
    total = np.full_like(p, start)
    for t in range(1, steps + 1):
        g = gradient(t, p) + weight_decay * p
        total = total + g**2
        p = p - lr / (1 + lr_decay * (t - 1)) * g / (np.sqrt(total) + eps)
    return p


def rmsprop(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    v, m, b = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p) + k["weight_decay"] * p
        v = k["beta"] * v + (1 - k["beta"]) * g**2
        m = k["beta"] * m + (1 - k["beta"]) * g
        size = v - m**2 if k["centered"] else v
        root = np.sqrt(size + k["eps"]) if k["eps_place"] == "inside" else np.sqrt(size) + k["eps"]
        b = k["momentum"] * b + g / root
        p = p - k["lr"] * b
    return p


def _adam_direction(g: Array, m: Array, v: Array, t: int, k: dict[str, Any], debias: bool) -> tuple[Array, Array, Array]:
    m = k["beta1"] * m + (1 - k["beta1"]) * g
    v = k["beta2"] * v + (1 - k["beta2"]) * g**2
    m_hat = m / (1 - k["beta1"] ** t) if debias else m
    v_hat = v / (1 - k["beta2"] ** t) if debias else v
    return m_hat / (np.sqrt(v_hat) + k["eps"]), m, v


def adam(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, steps + 1):
        u, m, v = _adam_direction(gradient(t, p) + k["weight_decay"] * p, m, v, t, k, k["debias"])
        p = p - k["lr"] * u
    return p


def adamw(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, steps + 1):
        u, m, v = _adam_direction(gradient(t, p), m, v, t, k, True)
        p = p - k["lr"] * (u + k["weight_decay"] * p)
    return p

"""Textbook forms of the later optimizer rules, in NumPy, from the papers; they import nothing of descend.

Each takes one array ``p``, ``gradient(t, p)`` for t = 1, 2, ..., the number of steps and the knobs, and returns the final array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Gradient = Callable[[int, Array], Array]


def adadelta(p: Array, gradient: Gradient, steps: int, *, lr: float, beta: float, eps: float, weight_decay: float) -> Array:
    squares, moves = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p) + weight_decay * p
        squares = beta * squares + (1 - beta) * g**2
        move = -np.sqrt(moves + eps) / np.sqrt(squares + eps) * g
        moves = beta * moves + (1 - beta) * move**2
        p = p + lr * move
    return p


def amsgrad(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    m, v, top = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p) + k["weight_decay"] * p
        m = k["beta1"] * m + (1 - k["beta1"]) * g
        v = k["beta2"] * v + (1 - k["beta2"]) * g**2
        top = np.maximum(top, v)
        p = p - k["lr"] * m / (1 - k["beta1"] ** t) / (np.sqrt(top / (1 - k["beta2"] ** t)) + k["eps"])
    return p


def adamax(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    m, u = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p) + k["weight_decay"] * p
        m = k["beta1"] * m + (1 - k["beta1"]) * g
        u = np.maximum(k["beta2"] * u, np.abs(g) + k["eps"])
        p = p - k["lr"] / (1 - k["beta1"] ** t) * m / u
    return p


def nadam(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    m, v = np.zeros_like(p), np.zeros_like(p)
    mu = [k["beta1"] * (1 - 0.5 * 0.96 ** (t * k["momentum_decay"])) for t in range(steps + 2)]
    for t in range(1, steps + 1):
        g = gradient(t, p) + k["weight_decay"] * p
        m = k["beta1"] * m + (1 - k["beta1"]) * g
        v = k["beta2"] * v + (1 - k["beta2"]) * g**2
        m_hat = mu[t + 1] * m / (1 - np.prod(mu[1 : t + 2])) + (1 - mu[t]) * g / (1 - np.prod(mu[1 : t + 1]))
        p = p - k["lr"] * m_hat / (np.sqrt(v / (1 - k["beta2"] ** t)) + k["eps"])
    return p


def radam(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    m, v = np.zeros_like(p), np.zeros_like(p)
    rho_infinity = 2 / (1 - k["beta2"]) - 1
    for t in range(1, steps + 1):
        g = gradient(t, p) + k["weight_decay"] * p
        m = k["beta1"] * m + (1 - k["beta1"]) * g
        v = k["beta2"] * v + (1 - k["beta2"]) * g**2
        m_hat = m / (1 - k["beta1"] ** t)
        rho = rho_infinity - 2 * t * k["beta2"] ** t / (1 - k["beta2"] ** t)
        if rho > 5:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_infinity / ((rho_infinity - 4) * (rho_infinity - 2) * rho))
            p = p - k["lr"] * r * m_hat * np.sqrt(1 - k["beta2"] ** t) / (np.sqrt(v) + k["eps"])
        else:
            p = p - k["lr"] * m_hat
    return p


def adabelief(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    m, s = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p)
        m = k["beta1"] * m + (1 - k["beta1"]) * g
        s = k["beta2"] * s + (1 - k["beta2"]) * (g - m) ** 2 + k["eps"]
        m_hat, s_hat = m / (1 - k["beta1"] ** t), s / (1 - k["beta2"] ** t)
        p = p - k["lr"] * (m_hat / (np.sqrt(s_hat) + k["eps"]) + k["weight_decay"] * p)
    return p


def adan(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    m, n, v = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    last: Array | None = None
    b1, b2, b3 = k["beta1"], k["beta2"], k["beta3"]
    for t in range(1, steps + 1):
        g = gradient(t, p)
        change = np.zeros_like(g) if last is None else g - last
        m = b1 * m + (1 - b1) * g
        n = b2 * n + (1 - b2) * change
        v = b3 * v + (1 - b3) * (g + b2 * change) ** 2
        root = np.sqrt(v / (1 - b3**t)) + k["eps"]
        p = p - k["lr"] * ((m / (1 - b1**t) + b2 * n / (1 - b2**t)) / root + k["weight_decay"] * p)
        last = g
    return p


def signsgd(p: Array, gradient: Gradient, steps: int, *, lr: float, momentum: float, weight_decay: float) -> Array:
    m = np.zeros_like(p)
    for t in range(1, steps + 1):
        m = momentum * m + (1 - momentum) * gradient(t, p)
        p = p - lr * (np.sign(m) + weight_decay * p)
    return p


def lion(p: Array, gradient: Gradient, steps: int, *, lr: float, beta1: float, beta2: float, weight_decay: float) -> Array:
    m = np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p)
        p = p - lr * (np.sign(beta1 * m + (1 - beta1) * g) + weight_decay * p)
        m = beta2 * m + (1 - beta2) * g
    return p

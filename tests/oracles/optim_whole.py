"""Textbook forms of the rules that look at whole tensors or average weights, in NumPy; they import nothing of descend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Gradient = Callable[[int, Array], Array]


def lars(p: Array, gradient: Gradient, steps: int, *, lr: float, momentum: float, weight_decay: float, eta: float) -> Array:
    v = np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p)
        w_norm, g_norm = np.sqrt((p**2).sum()), np.sqrt((g**2).sum())
        local = eta * w_norm / (g_norm + weight_decay * w_norm)
        v = momentum * v + lr * local * (g + weight_decay * p)
        p = p - v
    return p


def lamb(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p)
        m = k["beta1"] * m + (1 - k["beta1"]) * g
        v = k["beta2"] * v + (1 - k["beta2"]) * g**2
        r = m / (1 - k["beta1"] ** t) / (np.sqrt(v / (1 - k["beta2"] ** t)) + k["eps"])
        u = r + k["weight_decay"] * p
        p_norm, u_norm = np.sqrt((p**2).sum()), np.sqrt((u**2).sum())
        p = p - k["lr"] * (p_norm / u_norm if p_norm and u_norm else 1.0) * u  # the exception: the authors' code
    return p


def adafactor(p: Array, gradient: Gradient, steps: int, **k: Any) -> Array:
    def rms(x: Array) -> float:
        return float(np.sqrt((x**2).mean()))

    r, c, v = np.zeros(1), np.zeros(1), np.zeros(1)
    for t in range(1, steps + 1):
        g = gradient(t, p)
        beta2 = 1 - t ** -k["power"]
        rho = min(k["lr"], 1 / np.sqrt(t))
        alpha = max(k["floor"], rms(p)) * rho
        squares = g**2 + k["eps"]
        if p.ndim >= 2:
            r = beta2 * r + (1 - beta2) * squares.sum(-1)
            c = beta2 * c + (1 - beta2) * squares.sum(-2)
            moment = r[..., :, None] * c[..., None, :] / r.sum(-1)[..., None, None]
        else:
            moment = v = beta2 * v + (1 - beta2) * squares
        u = g / np.sqrt(moment)
        u = u / max(1.0, rms(u) / k["clip"])
        p = (p * (1 - k["lr"] * k["weight_decay"]) - alpha * u).reshape(p.shape)
    return p


def muon(
    p: Array, gradient: Gradient, steps: int, *, lr: float, momentum: float, weight_decay: float, nesterov: bool, n_steps: int
) -> Array:
    m = np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(t, p)
        m = momentum * m + (1 - momentum) * g
        u = momentum * m + (1 - momentum) * g if nesterov else m
        rows = p.shape[0] if p.ndim > 1 else max(p.size, 1)
        x = u.reshape(rows, -1)
        # the iteration acts on singular values alone, so it may be done on them
        left, values, right = np.linalg.svd(x, full_matrices=False)
        values = values / (np.sqrt((x**2).sum()) + 1e-7)
        for _ in range(n_steps):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        o = (left * values) @ right
        scale = np.sqrt(max(1.0, x.shape[0] / x.shape[1]))
        p = p - lr * (scale * o.reshape(p.shape) + weight_decay * p)
    return p


def schedule_free_sgd(p: Array, gradient: Gradient, steps: int, *, lr: float, beta: float, weight_decay: float) -> Array:
    x = z = p
    for t in range(1, steps + 1):
        y = (1 - beta) * z + beta * x
        z = z - lr * (gradient(t, y) + weight_decay * y)
        x = (1 - 1 / t) * x + z / t
    return x


def schedule_free_adamw(p: Array, gradient: Gradient, steps: int, *, form: str, **k: Any) -> Array:
    return (_schedule_free_adamw if form == "paper" else _schedulefree_1_4)(p, gradient, steps, k)


def _schedulefree_1_4(p: Array, gradient: Gradient, steps: int, k: dict[str, Any]) -> Array:
    """AdamW of the authors' package since version 1.3, at a constant rate: the mean is then the plain mean of all z."""
    points, squares = [p], []
    for t in range(1, steps + 1):
        z, x = points[-1], np.mean(points[1:] or points, axis=0)
        y = z + k["beta"] * (x - z)
        g = gradient(t, y)
        squares.append(g**2)
        powers = k["beta2"] ** np.arange(t)[::-1].reshape(-1, *[1] * p.ndim)  # Adam's average, unrolled: newest weighs most
        size = np.sqrt((powers * squares).sum(0) / powers.sum(0)) + k["eps"]
        points.append(z - k["lr"] * (g / size + k["weight_decay"] * y))
    return np.mean(points[1:], axis=0)


def _schedule_free_adamw(p: Array, gradient: Gradient, steps: int, k: dict[str, Any]) -> Array:
    x = z = p
    v, total = np.zeros_like(p), 0.0
    for t in range(1, steps + 1):
        y = (1 - k["beta"]) * z + k["beta"] * x
        g = gradient(t, y)
        v = k["beta2"] * v + (1 - k["beta2"]) * g**2
        rate = k["lr"] * np.sqrt(1 - k["beta2"] ** t)
        z = z - rate * g / (np.sqrt(v) + k["eps"]) - rate * k["weight_decay"] * y
        total += rate**2
        c = rate**2 / total
        x = (1 - c) * x + c * z
    return x

"""The vocabulary in which every optimizer rule is written.

A rule's ``direction`` uses ``+ - * /``, ``abs`` and the functions below, on every kind of number: Python floats and
NumPy arrays (``landscape``), one torch tensor (rules that look at whole matrices), a ``Stack`` of torch tensors
(``tensors``), or a machine register (the compiled kernels). Nothing here knows about training; a type that can do an
operation in one pass offers it as a method of the same name.

Everything that is not per element is a number computed on the host by ``Rule.coefficients`` in float64. That is also
why ``ema`` takes both shares of the average: ``1 - 0.999`` in float32 is wrong by 1.3e-5, the same difference taken on the host
and then rounded is wrong by 3e-8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Share = tuple[float, float]


def share(beta: float) -> Share:
    """Return how much an average with memory ``beta`` keeps of the old and takes of the new: ``(beta, 1 - beta)``."""
    return beta, 1 - beta


def ema(old: Any, new: Any, mix: Share) -> Any:
    """Return the exponential moving average ``keep * old + take * new``."""
    keep, take = mix
    return add_scaled(old * keep, new, take)


def add_scaled(a: Any, b: Any, k: float) -> Any:
    """Return ``a + k * b``, in one pass where their type can."""
    return a.add_scaled(b, k) if hasattr(a, "add_scaled") else a + b * k


def sqrt(x: Any) -> Any:
    """Return the square root of every element."""
    return x.sqrt() if hasattr(x, "sqrt") else np.sqrt(x)


def sign(x: Any) -> Any:
    """Return -1, 0 or 1 for every element."""
    return x.sign() if hasattr(x, "sign") else np.sign(x)


def norm(x: Any) -> Any:
    """Return the Euclidean norm of a whole tensor."""
    return x.norm() if hasattr(x, "norm") else np.sqrt(np.sum(np.square(x)))


def trust(weight: Any, update: Any) -> Any:
    """Return ``weight / update``, two norms, or 1 where either is 0: how much longer the update of a longer weight may be."""
    return weight / update if weight > 0 and update > 0 else 1.0


def positive(x: Any) -> Any:
    """Return 0 for negative elements, the others as they are."""
    return x.clamp(min=0) if hasattr(x, "clamp") else np.maximum(x, 0)


def maximum(a: Any, b: Any) -> Any:
    """Return the larger of two elements; both of the same type."""
    return a.maximum(b) if hasattr(a, "maximum") else np.maximum(a, b)

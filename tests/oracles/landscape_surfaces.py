"""Every test surface from its formula, in plain numbers: imports nothing of ours.

A function bears the name of its surface; it takes a point (a list of coordinates) and the surface's knobs, and returns the loss.
Gradients need no formula here: finite differences of these losses judge them.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence


def ravine(x: Sequence[float], condition: float, n_dims: int, angle: float) -> float:
    """Goodfellow, Bengio & Courville 2016, section 8.2.1: curvature times distance squared, in axes turned by ``angle``."""
    back = complex(x[0], x[-1]) * cmath.exp(-1j * math.radians(angle))
    y = [back.real, *x[1:-1], back.imag]
    curvatures = [condition ** (k / (n_dims - 1) - 0.5) for k in range(n_dims)]
    return sum(h * d**2 / 2 for h, d in zip(curvatures, y, strict=True))


def bowl(x: Sequence[float], n_dims: int) -> float:
    """Charbonnier et al. 1994: the pseudo-Huber loss of every coordinate."""
    return sum(math.sqrt(1 + d**2) - 1 for d in x)


def rosenbrock(x: Sequence[float], steepness: float) -> float:
    """Rosenbrock 1960."""
    return (1 - x[0]) ** 2 + steepness * (x[1] - x[0] ** 2) ** 2


def beale(x: Sequence[float]) -> float:
    """Beale 1958."""
    a, b = x
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def rastrigin(x: Sequence[float], ruggedness: float, n_dims: int) -> float:
    """Muehlenbein, Schomisch & Born 1991, (F6)."""
    return ruggedness * n_dims + sum(d**2 - ruggedness * math.cos(2 * math.pi * d) for d in x)


def saddle(x: Sequence[float], sharpness: float) -> float:
    """A parabola across, a double well along."""
    return x[0] ** 2 / 2 + sharpness * (1 - x[1] ** 2) ** 2 / 4


def plateau(x: Sequence[float], width: float) -> float:
    """A parabolic slope up to 0, a well of half-width 1/2 at ``width``, a parabola across."""
    far = (x[0] - width) ** 2
    return (x[0] ** 2 if x[0] < 0 else 0.0) + far / (far + 0.25) + x[1] ** 2 / 2


def local_minimum(x: Sequence[float], ridge: float) -> float:
    """The integral of 4 (a + 1)(a - ridge)(a - 1) from the deep minimum at 1, by Gauss' three points, exact for a cubic."""
    a, half = x[0], (x[0] - 1) / 2
    nodes = [(-math.sqrt(0.6), 5 / 9), (0.0, 8 / 9), (math.sqrt(0.6), 5 / 9)]
    slopes = [(weight, (a + 1) / 2 + half * node) for node, weight in nodes]
    return half * sum(weight * 4 * (t + 1) * (t - ridge) * (t - 1) for weight, t in slopes) + x[1] ** 2 / 2

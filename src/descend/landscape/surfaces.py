"""Surfaces without a way to go wrong for good, and the classics: ravine, bowl, Rosenbrock, Beale, Rastrigin."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le

from descend.landscape.surface import Dimension, Floats, Surface, fixed
from descend.technique import Search, technique


@technique("ravine", source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 8.2.1; Polyak 1964, section 3")
class Ravine(Surface):
    """A quadratic valley, steep across and flat along: the ill-conditioned problem in its purest form.

    Prefer it for zigzag and for what momentum buys; plain descent needs steps in proportion to the condition number, momentum
    to its root. Rules that scale each coordinate undo the ravine where it lies along an axis: turn it by ``angle`` before
    believing them.

        loss = sum(h * y * y) / 2,   y: x turned back by angle,   h: log-spaced from 1 / sqrt(condition) to sqrt(condition)

    condition: largest over smallest curvature. n_dims: number of parameters. angle: degrees, counter-clockwise, in the plane of
    the first (flattest) and last (steepest) coordinate.
    """

    condition: Annotated[float, Ge(1), Le(1e12), Search(1.0, 1e4, log=True)] = 100.0
    n_dims: Dimension = 2
    angle: Annotated[float, Ge(-90), Le(90), Search(0.0, 45.0)] = 0.0

    def curvatures(self) -> Floats:
        """Return the eigenvalues of the Hessian, rising: (D,) float64."""
        return _log_spaced(self.condition, self.n_dims)

    def _turned(self, x: Any, sense: int) -> Floats:
        x = np.asarray(x, np.float64)
        angle = sense * math.radians(self.angle)
        cos, sin = math.cos(angle), math.sin(angle)
        turned = x.copy()
        turned[..., 0] = cos * x[..., 0] - sin * x[..., -1]
        turned[..., -1] = sin * x[..., 0] + cos * x[..., -1]
        return turned

    def loss(self, x: Any) -> Floats:
        """Return half the curvature-weighted squares."""
        y = self._turned(x, -1)
        return (self.curvatures() * y * y).sum(-1) / 2

    def gradient(self, x: Any) -> Floats:
        """Return curvature times distance, turned."""
        return self._turned(self.curvatures() * self._turned(x, -1), 1)

    def start(self) -> tuple[float, ...]:
        """Return a point far up the valley and beside its floor."""
        inside = np.ones(self.n_dims)
        inside[0] = -4.0
        return tuple(self._turned(inside, 1).tolist())

    def minimum(self) -> tuple[float, ...]:
        """Return the origin."""
        return (0.0,) * self.n_dims

    def window(self) -> tuple[float, float, float, float]:
        """Return the valley from its start to a little beyond the minimum."""
        return (-4.8, 1.6, -1.9, 1.9) if abs(self.angle) < 5 else (-4.8, 1.6, -4.0, 2.4)


@lru_cache(maxsize=8)
def _log_spaced(condition: float, n_dims: int) -> Floats:
    """Return ``n_dims`` numbers around 1 whose extremes have the ratio ``condition``; kept, because every step asks for them."""
    return fixed(np.geomspace(1 / math.sqrt(condition), math.sqrt(condition), n_dims))


@technique("bowl", source="Charbonnier et al. 1994 (the pseudo-Huber loss), summed over coordinates")
class Bowl(Surface):
    """A convex bowl: round at the bottom, slopes of 1 far out, nowhere anything to trip over.

    Prefer it to see a rule at its best; AdaGrad's guarantees hold here.

        loss = sum(sqrt(1 + x * x) - 1)
    """

    n_dims: Dimension = 2

    def loss(self, x: Any) -> Floats:
        """Return the summed pseudo-Huber loss."""
        return (np.hypot(1.0, x) - 1).sum(-1)

    def gradient(self, x: Any) -> Floats:
        """Return slopes between -1 and 1."""
        return np.asarray(x) / np.hypot(1.0, x)

    def start(self) -> tuple[float, ...]:
        """Return a point on the slope."""
        return (-3.0, *(1.5,) * (self.n_dims - 1))

    def minimum(self) -> tuple[float, ...]:
        """Return the origin."""
        return (0.0,) * self.n_dims

    def window(self) -> tuple[float, float, float, float]:
        """Return the bowl."""
        return -3.6, 1.6, -1.6, 2.2


@technique("rosenbrock", source="Rosenbrock 1960, An automatic method for finding the greatest or least value of a function")
class Rosenbrock(Surface):
    """A curved ravine with a nearly flat floor: quick to find, slow to follow.

    Prefer it to see whether a rule can turn while it is fast.

        loss = (1 - x0)**2 + steepness * (x1 - x0**2)**2        minimum (1, 1)
    """

    steepness: Annotated[float, Gt(0), Search(1.0, 1e3, log=True)] = 100.0

    def loss(self, x: Any) -> Floats:
        """Return the two squares."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        return (1 - a) ** 2 + self.steepness * (b - a * a) ** 2

    def gradient(self, x: Any) -> Floats:
        """Return the two partial derivatives."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        off = b - a * a
        return np.stack([-2 * (1 - a) - 4 * self.steepness * off * a, 2 * self.steepness * off], -1)

    def start(self) -> tuple[float, ...]:
        """Return the usual start, on the far side of the bend."""
        return -1.2, 1.0

    def minimum(self) -> tuple[float, ...]:
        """Return (1, 1)."""
        return 1.0, 1.0

    def window(self) -> tuple[float, float, float, float]:
        """Return the bend."""
        return -1.9, 1.7, -0.7, 2.3


@technique("beale", source="Beale 1958, On an iterative method for finding a local minimum, Princeton report 25")
class Beale(Surface):
    """Flat in the middle, steep at the corners: gradients that differ by orders of magnitude on one picture.

    Prefer it to see what a rule makes of changing scale; rates that suit the middle explode at the corners.

        loss = (1.5 - x + x y)**2 + (2.25 - x + x y**2)**2 + (2.625 - x + x y**3)**2        minimum (3, 0.5)
    """

    def loss(self, x: Any) -> Floats:
        """Return the three squares."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        return np.sum([(c - a + a * b**k) ** 2 for k, c in _BEALE], axis=0)

    def gradient(self, x: Any) -> Floats:
        """Return the two partial derivatives."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        terms = [(k, c - a + a * b**k) for k, c in _BEALE]
        by_a = np.sum([2 * term * (b**k - 1) for k, term in terms], axis=0)
        by_b = np.sum([2 * term * k * a * b ** (k - 1) for k, term in terms], axis=0)
        return np.stack([by_a, by_b], -1)

    def start(self) -> tuple[float, ...]:
        """Return the usual start."""
        return 1.0, 1.0

    def minimum(self) -> tuple[float, ...]:
        """Return (3, 0.5)."""
        return 3.0, 0.5

    def window(self) -> tuple[float, float, float, float]:
        """Return the flat middle and the foot of two corners."""
        return -0.4, 4.2, -1.2, 1.6


_BEALE = ((1, 1.5), (2, 2.25), (3, 2.625))


@technique("rastrigin", source="Rastrigin 1974; in any dimension: Muehlenbein, Schomisch & Born 1991, eq. (F6)")
class Rastrigin(Surface):
    """A bowl covered with dents: nearly every walk ends in the wrong one.

    Prefer it to see that descent, of any kind, is local. Arrived means in the deepest dent: all others lie higher than 0.99.

        loss = sum(x * x + ruggedness * (1 - cos(2 pi x)))
    """

    ruggedness: Annotated[float, Gt(0), Search(0.1, 20.0, log=True)] = 10.0
    n_dims: Dimension = 2

    def loss(self, x: Any) -> Floats:
        """Return the bowl and its dents."""
        x = np.asarray(x, np.float64)
        return (x * x + self.ruggedness * (1 - np.cos(2 * np.pi * x))).sum(-1)

    def gradient(self, x: Any) -> Floats:
        """Return the slope of the bowl and of the dents."""
        x = np.asarray(x, np.float64)
        return 2 * x + 2 * np.pi * self.ruggedness * np.sin(2 * np.pi * x)

    def start(self) -> tuple[float, ...]:
        """Return a point two dents away."""
        return (-2.35, *(1.7,) * (self.n_dims - 1))

    def minimum(self) -> tuple[float, ...]:
        """Return the origin."""
        return (0.0,) * self.n_dims

    def target(self) -> float:
        """Return a loss that only the deepest dent reaches, at the default ruggedness."""
        return 0.5

    def window(self) -> tuple[float, float, float, float]:
        """Return the dents around start and minimum."""
        return -3.0, 1.6, -1.5, 2.4

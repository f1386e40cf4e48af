"""Surfaces with a place where a walk may stay for good: a saddle, a plateau, a local minimum."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from descend.landscape.surface import Floats, Surface
from descend.technique import Search, technique


@technique("saddle", source="Dauphin et al. 2014, arXiv:1406.2572 (saddles rather than minima); a double well, Landau 1937")
class Saddle(Surface):
    """Two valleys and the pass between them, on whose ridge the walk begins, one millionth beside the line.

    Prefer it to see how long a rule rests where the gradient is nearly zero. A sharp saddle is left quickly, a blunt one slowly.

        loss = x0**2 / 2 + sharpness * (x1**2 - 1)**2 / 4        saddle (0, 0), minima (0, 1) and (0, -1)

    sharpness: how strongly the surface curves down at the saddle; it curves up with 1. At the default SGD is still on the ridge
    after 200 steps at any rate that does not diverge; momentum and Adam have left.
    """

    sharpness: Annotated[float, Gt(0), Search(1e-3, 10.0, log=True)] = 0.03

    def loss(self, x: Any) -> Floats:
        """Return the parabola across and the double well along."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        return a * a / 2 + self.sharpness * (b * b - 1) ** 2 / 4

    def gradient(self, x: Any) -> Floats:
        """Return the two partial derivatives."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        return np.stack([a, self.sharpness * b * (b * b - 1)], -1)

    def start(self) -> tuple[float, ...]:
        """Return a point on the ridge; on the line itself no noiseless rule would ever leave."""
        return -1.5, 1e-6

    def minimum(self) -> tuple[float, ...]:
        """Return one of the two minima."""
        return 0.0, 1.0

    def window(self) -> tuple[float, float, float, float]:
        """Return the pass with both valleys."""
        return -1.8, 1.2, -1.5, 1.5

    def trap(self) -> str:
        """Return the saddle."""
        return "the saddle"

    def escaped(self, x: Any) -> NDArray[np.bool_]:
        """Return whether ``x`` is half-way down to a minimum, or further."""
        return np.abs(np.asarray(x)[..., 1]) > 0.5


@technique(
    "plateau", source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 8.2.3 (flat regions); descend: this form"
)
class Plateau(Surface):
    """A slope, a plain of ``width`` on which gradients nearly vanish, and a well at its far end.

    Prefer it to see speed spent on friction, and accumulated gradients that nobody forgets.

        loss = slope**2 + d**2 / (well**2 + d**2) + x1**2 / 2,   slope = max(0, -x0),   d = x0 - width,   well = 1/2

    The slope ends at x0 = 0 (slope and gradient are continuous there); at distance d from the well its pull is about
    2 well**2 / d**3.
    """

    width: Annotated[float, Ge(1), Le(1e3), Search(2.0, 20.0)] = 6.0

    def loss(self, x: Any) -> Floats:
        """Return the slope, the well and the parabola across."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        d = a - self.width
        return np.minimum(a, 0) ** 2 + d * d / (_WELL**2 + d * d) + b * b / 2

    def gradient(self, x: Any) -> Floats:
        """Return the two partial derivatives."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        d = a - self.width
        return np.stack([2 * np.minimum(a, 0) + 2 * d * _WELL**2 / (_WELL**2 + d * d) ** 2, b], -1)

    def start(self) -> tuple[float, ...]:
        """Return a point up the slope."""
        return -2.0, 0.7

    def minimum(self) -> tuple[float, ...]:
        """Return the bottom of the well."""
        return self.width, 0.0

    def target(self) -> float:
        """Return a loss that only the well reaches."""
        return 0.01

    def window(self) -> tuple[float, float, float, float]:
        """Return slope, plain and well."""
        return -2.4, self.width + 1.6, -1.6, 1.6

    def trap(self) -> str:
        """Return the plateau."""
        return "the plateau"

    def escaped(self, x: Any) -> NDArray[np.bool_]:
        """Return whether ``x`` is in the well; what flew over it rests on another plain."""
        return np.abs(np.asarray(x)[..., 0] - self.width) < _WELL


_WELL = 0.5


@technique("local_minimum", source="descend: the quartic with minima at -1 and 1 and its ridge where the knob says")
class LocalMinimum(Surface):
    """A shallow dent before the deep one: the walk comes down a slope and has to climb ``ridge`` to get out.

    Prefer it to see what speed is good for. The nearer the ridge to -1, the shallower the local minimum; at 0 both are equally
    deep.

        d loss / d x0 = 4 (x0 + 1) (x0 - ridge) (x0 - 1)       across: x1**2 / 2       minimum (1, 0), local minimum (-1, 0)
    """

    ridge: Annotated[float, Gt(-1), Lt(0), Search(-0.9, -0.05)] = -0.5

    def _profile(self, a: Any) -> Floats:
        b = self.ridge
        return a**4 - 4 * b * a**3 / 3 - 2 * a**2 + 4 * b * a

    def loss(self, x: Any) -> Floats:
        """Return the quartic above its deepest point, and the parabola across."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        return self._profile(a) - self._profile(1.0) + b * b / 2

    def gradient(self, x: Any) -> Floats:
        """Return the two partial derivatives."""
        a, b = np.moveaxis(np.asarray(x, np.float64), -1, 0)
        return np.stack([4 * (a + 1) * (a - self.ridge) * (a - 1), b], -1)

    def start(self) -> tuple[float, ...]:
        """Return a point up the slope before the local minimum."""
        return -1.7, 0.8

    def minimum(self) -> tuple[float, ...]:
        """Return the deep one."""
        return 1.0, 0.0

    def target(self) -> float:
        """Return a loss that only the deep minimum reaches."""
        return 0.01

    def window(self) -> tuple[float, float, float, float]:
        """Return both minima and the slope."""
        return -2.0, 1.8, -1.3, 1.3

    def trap(self) -> str:
        """Return the local minimum."""
        return "the local minimum"

    def escaped(self, x: Any) -> NDArray[np.bool_]:
        """Return whether ``x`` is beyond the ridge."""
        return np.asarray(x)[..., 0] > self.ridge

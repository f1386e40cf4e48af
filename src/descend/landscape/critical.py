"""How critical points of a random surface divide into minima, saddles and maxima.

The model: a stationary, isotropic Gaussian random field in n dimensions. At a point where the gradient vanishes its Hessian is,
up to scale, the symmetric matrix ``G + z I``: G from the Gaussian orthogonal ensemble (off the diagonal variance 1, on it 2), z
one standard normal number that all diagonal entries share. Critical points are not points: by the Kac-Rice formula they are as
dense as ``|det H|`` is large, so each matrix drawn counts with that weight. The loss of a network is no Gaussian field; this says
what to expect of a surface about which nothing else is known.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import ndtri

from descend import rng
from descend.errors import check_count
from descend.landscape.surface import Floats


@dataclasses.dataclass(frozen=True)
class CriticalPoints:
    """A weighted sample of Hessians at critical points.

    n_down: (S,) number of falling directions of each sample, 0 (minimum) to n_dims (maximum). weights: (S,) float64, their
    density.
    """

    n_dims: int
    n_down: Floats
    weights: Floats

    def share(self, n_down: int) -> float:
        """Return the share of critical points with ``n_down`` falling directions."""
        return float(self.weights[self.n_down == n_down].sum() / self.weights.sum())

    @property
    def saddles(self) -> float:
        """The share that is neither minimum nor maximum."""
        between = (self.n_down > 0) & (self.n_down < self.n_dims)
        return float(self.weights[between].sum() / self.weights.sum())


def critical_points(n_dims: int, n_samples: int, *, seed: int = 0) -> CriticalPoints:
    """Draw Hessians at critical points of the random field in ``n_dims`` dimensions; the module's text states the model.

    Exact results to hold it to: no saddles in one dimension, half of all critical points in two (Euler's characteristic).
    Costs n_samples eigenvalue problems of n_dims. Raises KnobError unless both are whole numbers >= 1.
    Source: Bray & Dean 2007, Phys. Rev. Lett. 98, 150201, eq. (8) onwards; Adler & Taylor 2007, Random Fields and Geometry, ch.
    11.
    """
    for name, value in (("n_dims", n_dims), ("n_samples", n_samples)):
        check_count("critical_points", value, knob=name)
    drawn = ndtri(rng.uniform(seed, f"landscape/hessian/{n_dims}", ids=np.arange(n_samples), n=n_dims * n_dims + 1))
    square = drawn[:, 1:].reshape(-1, n_dims, n_dims)
    hessian = (square + square.swapaxes(1, 2)) / np.sqrt(2) + drawn[:, 0, None, None] * np.eye(n_dims)
    eigenvalues = np.linalg.eigvalsh(hessian)
    logs = np.log(np.abs(eigenvalues)).sum(1)
    return CriticalPoints(n_dims, (eigenvalues < 0).sum(1), np.exp(logs - logs.max()))

"""A line with autocorrelated noise, from the textbook and by covariance matrices: imports nothing of ours.

Generalized least squares (Aitken 1936): b = (X' V^-1 X)^-1 X' V^-1 y, s^2 = e' V^-1 e / (n - 2), s.e.(b) = s sqrt of the diagonal
of (X' V^-1 X)^-1, Student's t with n - 2 degrees; V holds rho^|i - j|. With intercept, slope and variance integrated out under
the usual prior (1 / sigma), rho has the density |V|^-1/2 |X' V^-1 X|^-1/2 (e' V^-1 e)^-(n - 2)/2 times its own prior, here
Jeffreys' 1 / sqrt(1 - rho^2) on [0, 1): uniform in arcsin(rho). Zellner & Tiao 1964; Zellner 1971, section 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import integrate, stats


def generalized(y: Sequence[float], beta0: float, rho: float) -> tuple[float, float, float]:
    """Return the slope of ``y`` on 0, 1, ..., the p value of "the slope is beta0 or less", and the log density of ``rho``."""
    n = len(y)
    covariance = np.array([[rho ** abs(i - j) for j in range(n)] for i in range(n)])
    design = np.array([[1.0, i] for i in range(n)])
    inverse = np.linalg.inv(covariance)
    information = design.T @ inverse @ design
    coefficients = np.linalg.solve(information, design.T @ inverse @ np.array(y))
    residual = np.array(y) - design @ coefficients
    squares = float(residual @ inverse @ residual)
    error = math.sqrt(squares / (n - 2) * np.linalg.inv(information)[1, 1])
    p = float(stats.t.sf((coefficients[1] - beta0) / error, n - 2))
    density = -(np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1] + (n - 2) * math.log(squares)) / 2
    return float(coefficients[1]), p, float(density)


def averaged(y: Sequence[float], beta0: float, correlations: Sequence[float]) -> tuple[float, float, float]:
    """Return slope, p value and correlation, averaged over ``correlations`` by their density."""
    slopes, ps, logs = zip(*(generalized(y, beta0, rho) for rho in correlations), strict=True)
    weights = [math.exp(log - max(logs)) for log in logs]
    slope, p, rho = (float(np.average(values, weights=weights)) for values in (slopes, ps, correlations))
    return slope, p, rho


def integrated(y: Sequence[float], beta0: float) -> float:
    """Return the p value with the correlation integrated out, by adaptive quadrature over its arc sine."""
    _, _, reference = generalized(y, beta0, 0.5)

    def weighted(angle: float, of_p: bool) -> float:
        _, p, log = generalized(y, beta0, math.sin(angle))
        return math.exp(log - reference) * (p if of_p else 1.0)

    end = math.pi / 2 - 1e-3
    total, mass = (integrate.quad(weighted, 0, end, args=(of_p,), epsabs=0, epsrel=1e-4, limit=200)[0] for of_p in (True, False))
    return total / mass

"""Student's one-sided test of a slope, from the textbook and in plain sums: imports nothing of ours.

Draper & Smith 1998, Applied Regression Analysis, section 1.4: t = (b - beta0) / s.e.(b), s.e.(b) = s / sqrt(Sxx),
s^2 = sum of squared residuals / (n - 2); the p value for slopes greater than beta0 is the upper tail of t with n - 2 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats


def slope_above(y: Sequence[float], beta0: float) -> tuple[float, float]:
    """Return the least-squares slope of ``y`` on 0, 1, ... and the p value of "the slope is beta0 or less"."""
    n = len(y)
    mean_x, mean_y = (n - 1) / 2, sum(y) / n
    sxx = sum((x - mean_x) ** 2 for x in range(n))
    slope = sum((x - mean_x) * (value - mean_y) for x, value in enumerate(y)) / sxx
    squares = sum((value - mean_y - slope * (x - mean_x)) ** 2 for x, value in enumerate(y))
    error = math.sqrt(squares / (n - 2) / sxx)
    return slope, float(stats.t.sf((slope - beta0) / error, n - 2))

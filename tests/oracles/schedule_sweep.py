"""The two questions of the range test in plain sums over lists: imports nothing of ours.

The Gaussian mean is SciPy's definition (weights up to four standard deviations, the ends repeated); the share of orders that fall
as far is counted over *all* orders, which a short row allows.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence


def gaussian_mean(values: Sequence[float], width: float) -> list[float]:
    """Return the Gaussian mean of ``values`` over neighbors, the first and last value repeated beyond the ends."""
    reach = int(4 * width + 0.5)
    weights = [math.exp(-(k**2) / (2 * width**2)) for k in range(-reach, reach + 1)]
    padded = [values[0]] * reach + list(values) + [values[-1]] * reach
    windows = (padded[at : at + 2 * reach + 1] for at in range(len(values)))
    return [sum(w * v for w, v in zip(weights, window, strict=True)) / sum(weights) for window in windows]


def largest_fall(values: Sequence[float], width: float) -> float:
    """Return the largest fall of the smoothed ``values`` from anywhere to anywhere later."""
    smooth = gaussian_mean(values, width)
    return max(early - late for at, early in enumerate(smooth) for late in smooth[at:])


def share_of_orders(losses: Sequence[float], width: float) -> float:
    """Return the share of all orders of distinct ``losses`` whose ranks fall as far as those in their own order."""
    ranks = [1.0 + sum(other < loss for other in losses) for loss in losses]
    seen = largest_fall(ranks, width)
    orders = list(itertools.permutations(ranks))
    return sum(largest_fall(order, width) >= seen - 1e-9 for order in orders) / len(orders)


def clear_rise(losses: Sequence[float], window: int) -> int:
    """Return where a window first lies above an earlier one: by 6 standard errors, a quarter of the fall, 5 % of the loss."""
    middle = [statistics.median(losses[at : at + window]) for at in range(len(losses) - window + 1)]
    off = [abs(b - (a + c) / 2) for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)]
    for now in range(window, len(middle)):
        before = middle[: now - window + 1]
        low = max(at for at, value in enumerate(before) if value == min(before))
        noise = [value * math.sqrt(2 / 3) / 0.6745 for value in off[: low + window - 1]]
        spread = max(statistics.median(noise), statistics.median(noise[-3 * window :]))
        bars = 6 * spread * math.sqrt(math.pi / window), 0.25 * (max(before[: low + 1]) - before[low]), 0.05 * before[low]
        if middle[now] - before[low] > max(bars):
            return now
    return len(losses)

"""How often does the interval of ``descend sensitivity`` hold the true width? 95 % is what it promises.

Claims: ``descend.comparison.width_of`` holds it in 90 % or more of 400 draws wherever chance moves the means of two rates against
each other by 0.6 points or less; above that it may not, and the command says so. Beside it: Student's t over the widths of each
seed's own curve. A world has a true curve over 11 rates, seeds that move the whole curve (``common``) and each rate by itself
(``own``), both as standard deviations of the accuracy.

    python benchmarks/width_coverage.py --draws 400
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.comparison import width_of
from descend.stats import mean, proportion
from harness import interval, save

CLAIM = "width_of holds the true width in 90 % of draws or more where chance moves two rates' means by 0.6 points or less"
RATES = tuple(float(rate) for rate in np.geomspace(1e-5, 1, 11))
OFF = np.abs(np.log10(RATES) + 2.25)
CURVES = {
    "parabola": 0.97 - 0.02 * OFF**2,
    "plateau": 0.97 - 0.15 * np.clip(OFF - 1.2, 0, None),
    "roof": 0.97 - 0.03 * OFF,
}
NOISE = ((0.005, 0.002), (0.003, 0.006), (0.01, 0.01))
N_SEEDS = (2, 3, 5, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    options = parser.parse_args()
    rows = [
        row(name, curve, noise, n_seeds, options.draws)
        for (name, curve), noise, n_seeds in itertools.product(CURVES.items(), NOISE, N_SEEDS)
    ]
    save("width_coverage", CLAIM, {"draws": options.draws, "rows": rows})


def row(name: str, curve: NDArray[np.float64], noise: tuple[float, float], n_seeds: int, n_draws: int) -> dict[str, Any]:
    """Return one world: the true width, what was estimated, and how often two intervals hold it."""
    draw = np.random.default_rng(0)
    truth = width_of(RATES, curve[None]).decades.mean
    held = own_held = 0
    estimates: list[float] = []
    for _ in range(n_draws):
        accuracy = curve + noise[0] * draw.normal(size=(n_seeds, 1)) + noise[1] * draw.normal(size=(n_seeds, len(RATES)))
        width = width_of(RATES, accuracy)
        estimates.append(width.decades.mean)
        held += width.decades.low <= truth <= width.decades.high
        each = mean([width_of(RATES, one[None]).decades.mean for one in accuracy])
        own_held += each.low <= truth <= each.high
    return {
        "curve": name, "common": noise[0], "own": noise[1], "n_seeds": n_seeds,
        "chance": noise[1] * (2 / n_seeds) ** 0.5, "true_decades": truth, "mean_decades": float(np.mean(estimates)),
        "coverage": interval(proportion(held, n_draws)), "coverage_of_own_widths": interval(proportion(own_held, n_draws)),
    }  # fmt: skip


if __name__ == "__main__":
    main()

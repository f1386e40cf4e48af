"""Study 1: which of SGD, momentum, Nesterov, AdaGrad, RMSProp and Adam wins at equal tuning, and whether Adam is first.

    python benchmarks/study_optimizers.py            about four minutes on one quiet core; goes on where it was stopped
    python docs/studies/build.py                     then fills the page and draws the sensitivity pictures

Each rule has six rates, 0.6 decades apart, in a range of its own, and all else alike: a cosine from the rate to zero, the
same epochs and batches. The rate with the best mean validation accuracy of two seeds goes on to five others; the test split is
read there, once a run. The same tuning runs are the sensitivity curves. Scaled down: digits (1,097 pictures of 8 x 8, a small
convolutional network with batch norm, 6 epochs), 4,000 CIFAR-10 pictures, halved to 16 x 16 (the same network, 3 epochs), and
hands that show digits (a linear head on frozen features, 10 epochs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from descend.comparison import Curve, grid
from descend.technique import build
from small_study import Runs, Seeds, Way, carry_out, judged

RATES = {
    "sgd": (3e-3, 3.0), "momentum": (1e-3, 1.0), "nesterov": (1e-3, 1.0), "adagrad": (1e-3, 1.0),
    "rmsprop": (1e-4, 1e-1), "adam": (1e-3, 1.0),
}  # fmt: skip
N_RATES = 6
SETS: dict[str, dict[str, Any]] = {
    "digits": {"net": "conv norm", "width": 8, "epochs": 6, "n_train": 1097},
    "cifar": {"net": "conv norm", "width": 8, "epochs": 3, "n_train": 4000},
    "signs": {"net": "linear", "epochs": 10, "n_train": 1262},
}
SEEDS = Seeds(tuning=(100, 101))
PAIRS = [("adam", other) for other in RATES if other != "adam"]


def rates(name: str) -> tuple[float, ...]:
    """Return the rates that a rule may choose from."""
    from descend.optim import Rule

    low, high = RATES[name]
    return grid(build(name, Rule), n_rates=N_RATES, low=low, high=high)


def arms(data: str, n_rates: int = N_RATES) -> dict[str, list[Way]]:
    """Return each rule's ways on a data set."""
    return {name: [Way(data=data, optimizer=f"{name}(lr={lr})", **SETS[data]) for lr in rates(name)[:n_rates]] for name in RATES}


def part(data: str) -> Callable[[Runs, bool], dict[str, Any]]:
    """Return what measures one data set."""

    def measure(runs: Runs, quick: bool) -> dict[str, Any]:
        seeds = Seeds((100,), (0, 1)) if quick else SEEDS
        ways = arms(data, 2 if quick else N_RATES)
        found = judged(runs, ways, PAIRS, seeds)
        curves = {}
        for name, scores in found["tuning"].items():
            accuracy = np.array(list(scores.values())).T
            curves[name] = Curve(name, rates(name)[: len(ways[name])], accuracy, 0, None).facts()
        return found | {"curves": curves}

    return measure


CLAIM = "no figure is claimed: six rules at equal tuning on three data sets, Adam against each"

if __name__ == "__main__":
    carry_out("study_optimizers", CLAIM, {data: part(data) for data in SETS}, __doc__)

"""Study 2: "look without decay first, then add it": decay from the start against ``watch()``, under momentum and under Adam.

    python benchmarks/study_watch.py                 about two minutes on one quiet core; goes on where it was stopped

Three arms for each rule: a constant rate, decay from the start (``cosine()``), and ``watch()``, which holds the rate until a test
says that the validation loss has stopped falling. Each has three rates, half a decade apart; the best on a tuning seed goes on to
five others, where test is read once a run. 60 epochs, so that ``watch()`` can decide by its own test rather than at its latest
point. Scaled down: 1,000 MNIST digits and a perceptron, 500 digits of 8 x 8 pixels, shifted by up to a pixel, and a small
convolutional network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from small_study import Runs, Seeds, Way, carry_out, judged

SCHEDULES = ("constant()", "cosine()", "watch()")
RATES = {"momentum": (0.01, 0.03, 0.1), "adam": (0.0003, 0.001, 0.003)}
SETS: dict[str, dict[str, Any]] = {
    "mnist": {"net": "dense", "width": 64, "epochs": 60, "n_train": 1000},
    "digits": {"net": "conv norm", "width": 8, "epochs": 60, "n_train": 500, "augment": ("pad_crop(padding=1)",)},
}
SEEDS = Seeds()
PAIRS = [("watch()", "cosine()"), ("watch()", "constant()"), ("cosine()", "constant()")]


def arms(data: str, rule: str, n_rates: int) -> dict[str, list[Way]]:
    """Return each schedule's ways."""
    return {schedule: [Way(data=data, optimizer=f"{rule}(lr={lr})", schedule=schedule, **SETS[data])
                       for lr in RATES[rule][-n_rates:]] for schedule in SCHEDULES}  # fmt: skip


def part(data: str, rule: str) -> Callable[[Runs, bool], dict[str, Any]]:
    """Return what measures one rule on one data set."""

    def measure(runs: Runs, quick: bool) -> dict[str, Any]:
        seeds = Seeds((100,), (0, 1)) if quick else SEEDS
        found = judged(runs, arms(data, rule, 1 if quick else len(RATES[rule])), PAIRS, seeds)
        way = Way(**found["arms"]["watch()"]["setting"])
        decided = [runs.run(way, seed).get("decisions", []) for seed in seeds.reporting]
        own = sum(bool(each) and each[-1][2].startswith("progress has stopped") for each in decided)
        return found | {"decisions": decided, "decided by its own test": own}

    return measure


CLAIM = "no figure is claimed: decay from the start against watching first, under two rules on two data sets"

if __name__ == "__main__":
    PARTS = {f"{data}, {rule}": part(data, rule) for data in SETS for rule in RATES}
    carry_out("study_watch", CLAIM, PARTS, __doc__)

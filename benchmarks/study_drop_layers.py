"""Study 6: whether "hardly anyone uses it" is deserved of DropConnect and stochastic depth, beside dropout.

    python benchmarks/study_drop_layers.py           about three minutes on one quiet core; goes on where it was stopped

Each arm chooses, by validation accuracy on a tuning seed, among four settings: four rates of momentum without, two rates times
two strengths with. The best goes on to five other seeds, where test is read once a run; the cost is the processor's time of
those. Scaled down: a perceptron with two hidden layers of 128 (dropout of the units, DropConnect of the weights of both) on 200
and 3,000 MNIST digits; a residual network of three blocks with batch norm (dropout and DropConnect of the head, stochastic depth
of the blocks) on 500 CIFAR-10 pictures, halved to 16 x 16. Three blocks are few for stochastic depth, which was made
for a hundred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from descend.stats import mean
from harness import interval
from small_study import Runs, Seeds, Way, carry_out, judged

RATES, FEW_RATES, P = (0.01, 0.03, 0.1, 0.3), (0.03, 0.1), (0.2, 0.5)
EPOCHS = {"mnist": {200: 60, 3000: 8}, "cifar": {500: 10}}
SEEDS = Seeds()
TECHNIQUES = {
    "mnist": {"dropout": "drop", "dropconnect": "dropconnect"},
    "cifar": {"dropout": "dropout(p={p})", "dropconnect": "dropconnect(p={p})", "stochastic depth": "stochastic_depth(last={p})"},
}


def arms(data: str, n_train: int) -> dict[str, list[Way]]:
    """Return each technique's ways, and those without any."""
    same: dict[str, Any] = {"data": data, "n_train": n_train, "epochs": EPOCHS[data][n_train], "batch": 50}
    same |= {"net": "dense", "width": 128} if data == "mnist" else {"net": "resnet", "width": 8}
    found = {"none": [Way(optimizer=f"momentum(lr={lr})", **same) for lr in RATES]}
    for name, text in TECHNIQUES[data].items():
        knobs: list[dict[str, Any]] = [{text: p} if data == "mnist" else {"regularizers": (text.format(p=p),)} for p in P]
        found[name] = [Way(optimizer=f"momentum(lr={lr})", **knob, **same) for lr in FEW_RATES for knob in knobs]
    return found


def part(data: str, n_train: int) -> Callable[[Runs, bool], dict[str, Any]]:
    """Return what measures the techniques with so many pictures to train on."""

    def measure(runs: Runs, quick: bool) -> dict[str, Any]:
        ways = {arm: each[:1] if quick else each for arm, each in arms(data, n_train).items()}
        seeds = Seeds((100,), (0, 1)) if quick else SEEDS
        pairs = [(name, "none") for name in TECHNIQUES[data]]
        pairs += [(name, "dropout") for name in TECHNIQUES[data] if name != "dropout"]
        found = judged(runs, ways, pairs, seeds)
        chosen = {arm: Way(**row["setting"]) for arm, row in found["arms"].items()}
        for arm, row in found["arms"].items():  # seed by seed, next to each other in time
            both = [(runs.run(chosen[arm], seed), runs.run(chosen["none"], seed)) for seed in seeds.reporting]
            ratios = [own["cpu_s"] / none["cpu_s"] for own, none in both if "cpu_s" in own and "cpu_s" in none]
            row["time over none"] = interval(mean(ratios)) if arm != "none" and len(ratios) > 1 else None
        return found

    return measure


CLAIM = "no figure is claimed: what dropout, DropConnect and stochastic depth bring at tuned strengths, and what they cost"

if __name__ == "__main__":
    PARTS = {f"{data}, {n}": part(data, n) for data, sizes in EPOCHS.items() for n in sizes}
    carry_out("study_drop_layers", CLAIM, PARTS, __doc__)

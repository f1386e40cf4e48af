"""Study 3: whether dropout is no longer needed with batch norm: none, batch norm, dropout and both, with much data and little.

    python benchmarks/study_norm_dropout.py          about three minutes on one quiet core; goes on where it was stopped

Each arm chooses, by validation accuracy on a tuning seed, among four settings: four rates of momentum without dropout, two rates
times two probabilities with it (0.2 and 0.5). The best goes on to five other seeds, where test is read once a run. Scaled down: a
perceptron with two hidden layers of 128 (dropout of both) on 200 and 3,000 MNIST digits, and a convolutional network of three
layers (dropout before the head) on 500 CIFAR-10 pictures, halved to 16 x 16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from small_study import Runs, Seeds, Way, carry_out, judged

RATES, FEW_RATES, P = (0.01, 0.03, 0.1, 0.3), (0.03, 0.1), (0.2, 0.5)
EPOCHS = {"mnist": {200: 60, 3000: 8}, "cifar": {500: 12}}
SEEDS = Seeds()
PAIRS = [("batch norm", "none"), ("dropout", "none"), ("both", "batch norm"), ("both", "dropout")]


def _ways(data: str, n_train: int, norm: str, dropout: bool) -> list[Way]:
    same: dict[str, Any] = {"data": data, "n_train": n_train, "epochs": EPOCHS[data][n_train],
                            "width": 128 if data == "mnist" else 8, "batch": 50,
                            "net": f"{'dense' if data == 'mnist' else 'conv'}{norm}"}  # fmt: skip
    if not dropout:
        return [Way(optimizer=f"momentum(lr={lr})", **same) for lr in RATES]
    if data == "mnist":
        return [Way(optimizer=f"momentum(lr={lr})", drop=p, **same) for lr in FEW_RATES for p in P]
    return [Way(optimizer=f"momentum(lr={lr})", regularizers=(f"dropout(p={p})",), **same) for lr in FEW_RATES for p in P]


def part(data: str, n_train: int) -> Callable[[Runs, bool], dict[str, Any]]:
    """Return what measures the four arms with so many pictures to train on."""

    def measure(runs: Runs, quick: bool) -> dict[str, Any]:
        arms = {"none": _ways(data, n_train, "", False), "batch norm": _ways(data, n_train, " norm", False),
                "dropout": _ways(data, n_train, "", True), "both": _ways(data, n_train, " norm", True)}  # fmt: skip
        if quick:
            arms = {arm: ways[:1] for arm, ways in arms.items()}
        return judged(runs, arms, PAIRS, Seeds((100,), (0, 1)) if quick else SEEDS)

    return measure


CLAIM = "no figure is claimed: what dropout adds to batch norm, with much data and with little"

if __name__ == "__main__":
    PARTS = {f"{data}, {n}": part(data, n) for data, sizes in EPOCHS.items() for n in sizes}
    carry_out("study_norm_dropout", CLAIM, PARTS, __doc__)

"""How much of the fitted head the training of late stages should start from: all of it, a fifth, or nearly nothing.

    python benchmarks/training_starts.py                 hands, blurred flowers, CIFAR-10; goes on where it was stopped
    python benchmarks/training_starts.py flowers5 --seeds 1

Steps are given, so that no clock decides: features of 224 px, then the stages after ``block1`` trained at 96 px from that head
times a share. Accuracy and loss are of the trained network alone, on test: no temperature, no mixture. A seed draws the split,
the order and the augmentation; sizes of test splits and steps stand in the result.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import descend
from descend.search import finetune
from descend.search.rungs import peak_lr
from descend.search.steps import FeatureStep, FineTuneStep, text
from descend.stats import proportion
from harness import go_on, interval
from splits import split
from trained_alone import trained_alone

SHARES = {"the whole head": 1.0, "a fifth of it": finetune.HEAD_SHARE, "a thousandth of it": 0.001}
STEPS = {"sign-digits": 308, "flowers5": 324, "cifar10": 266}


def row_of(name: str, share: float, seed: int, work: Path) -> dict[str, Any]:
    """Return what a network that starts from a share of its head answers right."""
    training = FineTuneStep(size=96, freeze_to="block1", lr=peak_lr(STEPS[name]), n_steps=STEPS[name], mirrored=True)
    steps = [text(FeatureStep(size=224)), text(training)]
    with tempfile.TemporaryDirectory() as out, trained_alone() as found, patch.object(finetune, "HEAD_SHARE", share):
        descend.fit(split(name, seed, work), transfer="auto", steps=steps, seed=seed, out=Path(out) / "run")
    (alone,) = found
    n_right, n_test = int(alone.right.sum()), len(alone.labels)
    told = interval(proportion(n_right, n_test))
    return {"accuracy": n_right / n_test, "interval": told, "loss": alone.loss, "n_test": n_test, "n_steps": STEPS[name]}


def main(sets: Sequence[str], n_seeds: int, work: Path) -> None:
    """Run what is missing, and save after every run."""
    claim = "a training of late stages that starts from a fifth of its head ends better than one that starts from all of it"
    jobs = [
        (f"{name} seed {seed} {way}", partial(row_of, name, share, seed, work))
        for name in sets
        for seed in range(n_seeds)
        for way, share in SHARES.items()
    ]
    go_on("training_starts", claim, jobs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(STEPS)}; default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "descend-anytime")
    args = parser.parse_args()
    main(args.sets or tuple(STEPS), args.seeds, args.work)

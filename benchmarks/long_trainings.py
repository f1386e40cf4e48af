"""What a search should do with much time: 15 passes over training pictures, with and without TrivialAugment, or two trainings.

    python benchmarks/long_trainings.py                  hands, blurred flowers, CIFAR-10; goes on where it was stopped
    python benchmarks/long_trainings.py flowers5

Steps are given, so that no clock decides: features of 224 px, with the mirror image, and of 288 px; then the stages after the
early ones trained at 128 px: ``once`` for 15 passes; ``distorted`` the same with TrivialAugment; ``twice`` two trainings of half
as many passes, the second on validation pictures too. Accuracy and loss are of the test split; intervals are Wilson's over its
pictures. One seed, which draws split, order and augmentation.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from descend.data import load
from descend.search.rungs import peak_lr
from descend.search.steps import FeatureStep, FineTuneStep, text
from few_pictures import found_by
from harness import go_on
from splits import split

SETS = ("sign-digits", "flowers5", "cifar10")
WAYS = ("once", "distorted", "twice")
PASSES, BATCH_SIZE = 15, 32


def steps_of(way: str, folder: Path) -> list[str]:
    """Return the steps of one way."""
    n_train = len(load(folder).indices("train"))
    looks = [FeatureStep(size=224), FeatureStep(size=224, mirrored=True), FeatureStep(size=288, mirrored=True)]

    def trained(passes: float, **more: Any) -> FineTuneStep:
        n_steps = round(passes * n_train / BATCH_SIZE)
        lr = peak_lr(n_steps)
        return FineTuneStep(size=128, freeze_to="block1", lr=lr, n_steps=n_steps, mirrored=True, **more)

    trainings = {
        "once": [trained(PASSES)],
        "distorted": [trained(PASSES, distorted=True)],
        "twice": [trained(PASSES / 2), trained(PASSES / 2, draw=1, with_val=True)],
    }
    return [text(step) for step in [*looks, *trainings[way]]]


def row_of(name: str, way: str, work: Path) -> dict[str, Any]:
    """Return what a search by the steps of one way reaches on test."""
    folder = split(name, 0, work)
    return found_by(steps_of(way, folder), folder)


def main(sets: Sequence[str], work: Path) -> None:
    """Run what is missing, and save after every run."""
    claim = "TrivialAugment helps a training of 15 passes; two of half the length are worth as much as one"
    jobs = [(f"{name} {way}", partial(row_of, name, way, work)) for name in sets for way in WAYS]
    go_on("long_trainings", claim, jobs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}; default all")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "descend-long-trainings")
    args = parser.parse_args()
    main(args.sets or SETS, args.work)

"""How few pictures are enough for which way to train: the course's table of data size against similarity, answered.

    python benchmarks/data_size.py                          5 and 10 per class of every set, every way: 35 processor minutes
    python benchmarks/data_size.py --sizes 5 10 20 50 0     the whole table: 3.7 processor hours
    python benchmarks/data_size.py hymenoptera --sizes 5 10 --ways features finetune
    python docs/studies/build.py                            then fills the table and draws the picture

Sets, by how near they stand to ImageNet: ``hymenoptera`` (ants and bees are two of its classes, seen in its own photographs),
``flowers5`` (blurred photographs of flowers, one class of ImageNet among them), ``sign-digits`` (photographs of hands), the
enlarged 8x8 scans of ``digits`` (far). 5, 10, 20, 50 pictures per class and all (0), the smaller ones part of the larger
ones, drawn by the seed; validation is taken out of them by descend. The test pictures are the same for every size, at most 100 a
class, kept apart first. What the results hold is not run again.

Ways: the three forms of transfer (``features``: extracted once; ``head``: the backbone frozen, augmented pictures; ``finetune``),
``auto`` with a budget of one minute, and ``scratch``. Each run is a process of its own with an empty cache. Scaled down: one seed
by default, and with all pictures fine-tuning sees 128 px on ants and bees and on flowers, training from scratch 128 px on the
first and 64 px on the others. Intervals are Wilson's over the test pictures; they do not cover other draws of the training
pictures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from descend.stats import proportion
from harness import go_on, interval
from methods import Answer, descend
from splits import KNOWN, link, making, source

SETS = ("hymenoptera", "flowers5", "sign-digits", "digits")
SIZES = (5, 10)  # pictures per class to learn from, by default: with more, training from scratch takes most of the time
N_TEST = 100  # per class, at most
SIDE = 96  # of the enlarged digits
BUDGET = "1m"  # of auto; the others take what they take

WAYS = ("features", "head", "finetune", "auto", "scratch")
ALL_SIZES = {  # px, where all pictures would take too long in their own
    "hymenoptera": {"finetune": 128, "scratch": 128},
    "flowers5": {"finetune": 128, "scratch": 64},
    "sign-digits": {"scratch": 64},
    "digits": {"scratch": 64},
}


def answer(way: str, name: str, n: int, seed: int, work: Path) -> Answer:
    """Train one way on one part, as a command of its own."""
    settings = ["--transfer", way] + ["--budget", "BUDGET"] * (way == "auto")
    if n == 0 and way in ALL_SIZES.get(name, {}):
        settings += ["--size", str(ALL_SIZES[name][way])]
    return descend(settings, complete=way != "auto")(part(name, n, seed, work), BUDGET, seed)


def pictures_of(name: str, work: Path) -> Path:
    """Return a folder of class folders, or of ``train/`` and ``val/`` around them."""
    if name in KNOWN:
        return source(name, work)
    folder = work / "digits"
    if not folder.is_dir():
        digits = load_digits()
        with making(folder) as begun:
            for row, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
                image = Image.fromarray((pixels * 255 / 16).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                (begun / str(label)).mkdir(parents=True, exist_ok=True)
                image.save(begun / str(label) / f"{row:04d}.png")
    return folder


def part(name: str, n: int, seed: int, work: Path) -> Path:
    """Return a folder of links, ``train/`` with ``n`` pictures per class (0: all) and ``test/``; made where it is not there."""
    target = work / f"{name}-{n}-{seed}"
    if target.is_dir():
        return target
    root, rng = pictures_of(name, work), np.random.default_rng(seed)
    given = (root / "train").is_dir()
    with making(target) as begun:
        for label in sorted(path.name for path in (root / "train" if given else root).iterdir() if path.is_dir()):
            if given:
                test, train = sorted((root / "val" / label).iterdir()), sorted((root / "train" / label).iterdir())
            else:
                pictures = sorted((root / label).iterdir())
                apart = np.random.default_rng(0).permutation(len(pictures))  # the test is the same for every seed
                n_test = min(N_TEST, len(pictures) // 4)
                test, train = [pictures[i] for i in apart[:n_test]], [pictures[i] for i in apart[n_test:]]
            order = rng.permutation(len(train))
            for word, chosen in (("train", [train[i] for i in order[: n or None]]), ("test", test[:N_TEST])):
                link(chosen, begun / word / label)
    return target


def row_of(name: str, n: int, way: str, seed: int, work: Path) -> dict[str, Any]:
    """Return what is kept of an answer: accuracy with its interval, or why there is none; wall time and all cores' seconds."""
    before = os.times()
    found, after = answer(way, name, n, seed, work), os.times()
    processor_s = after.children_user + after.children_system - before.children_user - before.children_system
    took = {"wall_s": found["wall_s"], "processor_s": round(processor_s, 1)}
    if "no_answer" in found:
        return {"no_answer": found["no_answer"], **took}
    right = list(found["right"].values())
    told = interval(proportion(sum(right), len(right)))
    return {"accuracy": found["accuracy"], "interval": told, "n_test": len(right), **took}


def main(sets: Sequence[str], sizes: Sequence[int], ways: Sequence[str], seeds: int, work: Path) -> None:
    """Run what is missing, small sets first, and save after every run."""
    claim = "which way to train is best at which number of pictures, near to ImageNet and far from it"
    grid = [(seed, n, name, way) for seed in range(seeds) for n in sizes for name in sets for way in ways]
    jobs = [(f"{name} {n or 'all'} {way} {seed}", partial(row_of, name, n, way, seed, work)) for seed, n, name, way in grid]
    go_on("data_size", claim, jobs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}; default all")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="pictures per class; 0 for all")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "descend-data-size")
    args = parser.parse_args()
    main(args.sets or SETS, args.sizes, args.ways, args.seeds, args.work)

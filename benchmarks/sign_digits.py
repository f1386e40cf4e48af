"""Fine-tuning against features on photographs of hands that show digits: test accuracy, paired seeds.

    python benchmarks/sign_digits.py [--seeds 3]

Claims: finetune's mean of 3 seeds is at least 98 % test accuracy and beats features. Both at their defaults; each seed has its
own split, the same for both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from descend import api
from descend.comparison import paired_seeds
from harness import data, interval, save


def measure(transfer: str, root: Path, epochs: dict[str, list[float]]) -> Callable[[int], float]:
    """Return a function that trains by ``transfer`` with a seed and returns the test accuracy; training times are noted."""

    def run(seed: int) -> float:
        with tempfile.TemporaryDirectory() as out:
            made = api.fit(root, transfer=transfer, seed=seed, out=Path(out) / "run")
            assert made.record.test is not None
            epochs.setdefault(transfer, []).append(made.record.wall_s["train"])
            return made.record.test["accuracy"]

    return run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    root, train_s = data("sign-digits"), dict[str, list[float]]()
    runs = paired_seeds(
        {name: measure(name, root, train_s) for name in ("features", "finetune")}, seeds,
        report=lambda name, seed, score: print(f"{name} seed {seed}: {score:.4f}", file=sys.stderr, flush=True),
    )  # fmt: skip
    result = {
        "test_accuracy": {name: interval(runs.mean(name)) for name in runs.scores},
        "difference": interval(runs.difference("finetune", "features")),
        "verdict": runs.verdict("finetune", "features"), "each": runs.scores, "wall_s": runs.wall_s, "train_s": train_s,
    }  # fmt: skip
    save("sign_digits", "finetune >= 0.98 mean test accuracy of 3 seeds, and above features", result)


if __name__ == "__main__":
    main()

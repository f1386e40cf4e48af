"""``descend fit digits``: test accuracy over 10 seeds (each with its own split) and the wall time of the whole command.

    python benchmarks/digits.py

Claims: mean of 10 seeds at least 98.5 %, the default seed at least 98 %, under 60 s on 2 cores after the installation.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

from descend.stats import mean
from harness import interval, save, spread

SEEDS = 10


def main() -> None:
    accuracies, walls = [], []
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "descend.cli",
                "fit",
                "digits",
                "--seed",
                str(seed),
                "--json",
                "--out",
                f"{folder}/run",
            ]
            started = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            walls.append(time.perf_counter() - started)
        accuracies.append(json.loads(done.stdout.splitlines()[-1])["test"]["accuracy"])
        print(f"seed {seed}: {accuracies[-1]:.4f} in {walls[-1]:.1f} s", file=sys.stderr, flush=True)
    result = {
        "test_accuracy": interval(mean(accuracies)),
        "default_seed": accuracies[0],
        "each": accuracies,
        "wall_s": spread(walls),
    }
    save("digits", "mean >= 0.985 over 10 seeds, default seed >= 0.98, whole command < 60 s", result)


if __name__ == "__main__":
    main()

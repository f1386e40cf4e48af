"""Two processes of one thread, started by torchrun, against one process of two threads: pictures per second of training.

    python benchmarks/data_parallel.py [--rounds 3]

Claim: two processes of one thread train at 0.9 of the speed of one process of two threads, or faster, from scratch (synchronized
batch norms, pictures of 32 px) and fine-tuning (frozen ones, 96 px). The first epoch warms up and is not counted; validation is.
Each figure is told in wall time and in CPU time (of all processes together), for other work on the machine changes the one more
than the other: a ratio of CPU times says what several processes cost, not how well they wait for each other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

EPOCHS, N_CLASSES = 3, 5
CASES: dict[str, dict[str, Any]] = {
    "scratch": {"n": 1200, "side": 32, "transfer": "scratch", "backbone": "resnet9(width=24)", "batch_size": 64,
                "augment": ["pad_crop(padding=4)", "flip()"]},
    "finetune": {"n": 400, "side": 96, "transfer": "finetune", "size": 96, "engine": "torch", "batch_size": 32,
                 "augment": ["random_resized_crop()", "flip()"]},
}  # fmt: skip
WAYS = {"one process, two threads": (1, 2), "two processes, one thread": (2, 1)}


class Clock:
    """A listener that notes when the first epoch ended and when the last did: pictures, wall time, CPU time of its process."""

    def __init__(self) -> None:
        self.first: tuple[int, float, float] | None = None
        self.last = 0, 0.0, 0.0

    def say(self, text: str) -> None:
        """Drop the line."""

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Note the time, once an epoch has been validated (``note``), and at each later news."""
        del total
        if stage == "training" and note:
            self.last = done, time.perf_counter(), time.process_time()
            self.first = self.first or self.last


def work(case: str, threads: int, out: Path) -> None:
    """Train one case in this process, and those that torchrun has started with it; write down what the clock has seen."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch loads
    import descend
    from descend.train.distributed import processes
    from descend.train.world import are_several

    settings = dict(CASES[case])
    n, side = settings.pop("n"), settings.pop("side")
    rng, labels = np.random.default_rng(0), np.arange(n) % N_CLASSES
    images = rng.integers(0, 150, (n, side, side, 3), dtype=np.uint8) + (20 * labels[:, None, None, None]).astype(np.uint8)
    clock = Clock()
    with processes() if are_several(os.environ) else nullcontext():
        descend.fit((images, labels), out=out / "run", progress=clock, report=False, epochs=EPOCHS, threads=threads, **settings)
    assert clock.first is not None
    (done, wall, cpu), (until, ended, spent) = clock.first, clock.last
    seen = {"n": until - done, "wall_s": ended - wall, "cpu_s": spent - cpu}
    (out / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(seen), encoding="utf-8")


def timed(case: str, n_processes: int, threads: int) -> dict[str, float]:
    """Return pictures per second of wall time, and CPU milliseconds per picture, of one training in processes of its own."""
    with tempfile.TemporaryDirectory() as folder:
        start = [sys.executable]
        if n_processes > 1:
            start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes)]
        subprocess.run([*start, __file__, "--work", case, "--threads", str(threads), "--out", folder], check=True)
        seen = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("?.json"))]
    assert len(seen) == n_processes
    return {
        "pictures_per_s": seen[0]["n"] / seen[0]["wall_s"],
        "cpu_ms_per_picture": sum(each["cpu_s"] for each in seen) / seen[0]["n"] * 1e3,
    }


def measured(case: str, rounds: int) -> dict[str, Any]:
    """Return both ways of a case, interleaved in turning order, and their ratios: above 1 the processes win."""
    from harness import spread

    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for turn in range(rounds):
        for way in [*WAYS] if turn % 2 else [*WAYS][::-1]:
            runs[way].append(timed(case, *WAYS[way]))
            print(case, way, runs[way][-1], flush=True)
    one, two = ({name: [run[name] for run in runs[way]] for name in runs[way][0]} for way in WAYS)
    return {
        **{way: {name: spread([run[name] for run in each]) for name in each[0]} for way, each in runs.items()},
        "speed_ratio": median(two["pictures_per_s"]) / median(one["pictures_per_s"]),
        "cpu_ratio": median(one["cpu_ms_per_picture"]) / median(two["cpu_ms_per_picture"]),
    }


def main() -> None:
    """Measure every case, and save the result; or, as a process of one measurement, train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", choices=CASES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.work is not None:
        work(given.work, given.threads, given.out)
        return
    from harness import save

    claim = "two processes of one thread train at 0.9 of the speed of one process of two threads, or faster"
    save("data_parallel", claim, {case: measured(case, given.rounds) for case in CASES}, rounds=given.rounds)


if __name__ == "__main__":
    main()

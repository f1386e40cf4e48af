"""What compiles at the first use on a machine: processor seconds of a first call with nothing in the cache, imports apart.

    python benchmarks/first_use.py

Claims: crops and flips take 7 s, all transforms 14; a search may train when its process that compiles has taken 13 s; an
optimizer's first step takes less than half a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from descend.search.warm_up import AUGMENT, KIND
from harness import save, spread

ROUNDS = 2
AUGMENTED = """
import time
import numpy as np
from descend.augment import Pipeline
from descend.augment import kernels
pipe, images = Pipeline({specs}, size=32), np.zeros((2, 48, 48, 3), np.uint8)
began = time.process_time()
pipe(images, ids=[0, 1], epoch=0)
print(time.process_time() - began)
"""
STEPPED = """
import time
import torch
from descend.optim import Optimizer
weight = torch.nn.Parameter(torch.zeros(500_000))
weight.grad = torch.zeros(500_000)
optimizer = Optimizer([weight], "{rule}")
began = time.process_time()
optimizer.step()
print(time.process_time() - began)
"""
USES = {
    "crops and flips": AUGMENTED.format(specs=["random_resized_crop()", "flip()"]),
    "all transforms": AUGMENTED.format(
        specs=["random_resized_crop()", "flip()", "rotate()", "color_jitter()", "random_erasing()"]
    ),
    "a step of sgd": STEPPED.format(rule="sgd"),
    "a step of adamw": STEPPED.format(rule="adamw"),
}


def first(script: str, folder: Path) -> tuple[float, float]:
    """Return the processor seconds of the first use with an empty cache, and of the first one in a process after it."""
    env = {**os.environ, "DESCEND_CACHE": str(folder)}
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env) for _ in range(2)]
    never, before = (json.loads(run.stdout) for run in runs)
    return never, before


def warm_up(folder: Path) -> dict[str, float]:
    """Return the processor seconds after which the process of a search has compiled what each of its parts is for."""
    command = [sys.executable, "-m", "descend.search.warm_up", "bfloat16"]
    process = subprocess.Popen(command, env={**os.environ, "DESCEND_CACHE": str(folder)})
    found: dict[str, float] = {}
    while len(found) < len(AUGMENT) and process.poll() is None:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        used_s = (int(fields[11]) + int(fields[12])) / 100
        done = [what for what in AUGMENT if [*(folder / KIND).glob(f"{what}-*")]]
        found |= {what: used_s for what in done if what not in found}
        time.sleep(0.05)
    process.kill()
    process.wait()
    return found


def main() -> None:
    walls: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, script in USES.items():
            with tempfile.TemporaryDirectory() as folder:
                never, before = first(script, Path(folder))
            walls.setdefault(f"{name}, never compiled, s", []).append(never)
            walls.setdefault(f"{name}, compiled before, s", []).append(before)
        with tempfile.TemporaryDirectory() as folder:
            for what, used_s in warm_up(Path(folder)).items():
                walls.setdefault(f"process of a search, {what}, s", []).append(used_s)
    claim = (
        "crops and flips compile for 7 s of processor time, all transforms for 14, what a search trains with for 13; "
        "a first step for 0.5"
    )
    save("first_use", claim, {name: spread(values) for name, values in walls.items()})


if __name__ == "__main__":
    main()

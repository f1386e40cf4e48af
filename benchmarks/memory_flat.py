"""Private memory, open files and threads of a process stay flat over epochs, over runs and over a loader's workers.

    python benchmarks/memory_flat.py --epochs 40 --runs 12

Claim: from a tenth of the epochs on, the private memory of a process that trains grows by less than 1 MiB per ten epochs, and
from the third run in one process on by less than 2 MiB per run; the number of its open files and threads stays the same. That
no process outlives a run is measured by ``kills.py``.

Private memory is what Linux's ``smaps_rollup`` calls private (clean and dirty); files in its cache are not. Slopes are
least-squares fits. A DataLoader whose data set our pipeline augments (``pipe.wrap``) is read for as many epochs, by 0 and by 2
workers, whose memory counts too, in a process that does nothing else.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import interrupted
from descend.progress import Silent
from descend.train.recipe import Transfer

MIB = 2**20
WORKERS = (0, 2)
MODES: tuple[Transfer, ...] = ("scratch", "head", "finetune")


def private_bytes(process: int) -> int:
    """Return the private memory of a process, in bytes; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def measured(processes: Callable[[], list[int]]) -> dict[str, int]:
    """Return private memory, open files and threads of processes, summed."""
    gc.collect()
    alive = [process for process in processes() if Path(f"/proc/{process}/fd").exists()]
    return {
        "private": sum(map(private_bytes, alive)),
        "files": sum(len(list(Path(f"/proc/{process}/fd").iterdir())) for process in alive),
        "threads": sum(len(list(Path(f"/proc/{process}/task").iterdir())) for process in alive),
    }


def told(samples: list[dict[str, int]], skip: int) -> dict[str, Any]:
    """Return the growth of samples: the slope of memory in MiB per sample, and by how much files and threads grew."""
    kept = samples[skip:]
    slope = np.polyfit(np.arange(len(kept)), [sample["private"] / MIB for sample in kept], 1)[0]
    return {
        "n": len(samples),
        "private_mib": [round(samples[0]["private"] / MIB, 1), round(samples[-1]["private"] / MIB, 1)],
        "growth_mib": round(float(slope), 3),
        "files": [kept[0]["files"], kept[-1]["files"]],
        "threads": [kept[0]["threads"], kept[-1]["threads"]],
    }


class Sampler(Silent):
    """A listener that samples this process whenever so many epochs are further than at the last sample."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.samples = epochs, list[dict[str, int]]()

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Sample where an epoch of training has ended."""
        del note
        if stage == "training" and done * self.epochs // total > len(self.samples):
            self.samples.append(measured(lambda: [os.getpid()]))


def over_epochs(pictures: Path, mode: Transfer, epochs: int, place: Path) -> dict[str, Any]:
    """Train for many epochs in this process, sampled after each."""
    import descend

    sampler = Sampler(epochs)
    settings: dict[str, dict[str, Any]] = {
        "scratch": {"backbone": "smallcnn(width=8)", "size": 32, "augment": ["flip", "mixup"], "regularize": ["dropout(p=0.2)"]},
        "head": {"size": 64, "engine": "torch", "augment": ["flip"], "optimizer": "adam(lr=0.01)"},
        "finetune": {"size": 32, "augment": ["flip"]},
    }
    descend.fit(pictures, transfer=mode, epochs=epochs, batch_size=8, out=place / mode, progress=sampler, **settings[mode])
    return told(sampler.samples, max(2, len(sampler.samples) // 10))


def over_runs(pictures: Path, runs: int, place: Path) -> dict[str, Any]:
    """Make many runs, and predict with each, in one process."""
    import descend

    samples = list[dict[str, int]]()
    for number in range(runs):
        run = descend.fit(pictures, transfer="scratch", backbone="smallcnn(width=8)", size=32, epochs=1, augment=["flip"],
                          out=place / f"run {number}")  # fmt: skip
        run.predict(pictures)
        samples.append(measured(lambda: [os.getpid()]))
    return told(samples, 2)


def over_workers(n_workers: int, epochs: int) -> dict[str, Any]:
    """Read a wrapped data set for many epochs by a DataLoader's workers."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from descend.augment import Pipeline

    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    pipe = Pipeline(["flip()", "rotate(degrees=10)"], size=32)
    wrapped = pipe.wrap(TensorDataset(images, torch.zeros(64, dtype=torch.long)))
    samples = list[dict[str, int]]()
    loader = DataLoader(wrapped, batch_size=16, num_workers=n_workers, persistent_workers=bool(n_workers))
    for epoch in range(epochs):
        wrapped.set_epoch(epoch)
        for _ in loader:
            pass
        samples.append(measured(_family))
    del loader
    return told(samples, max(2, epochs // 10))


def _family() -> list[int]:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
    return [os.getpid(), *map(int, children)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40, metavar="N")
    parser.add_argument("--runs", type=int, default=12, metavar="N")
    options = parser.parse_args()
    interrupted.preload()
    from harness import data, save

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pictures = interrupted.pictures(data("hymenoptera"), place / "pictures", 16)
        result: dict[str, Any] = {}
        result["epochs"] = {mode: over_epochs(pictures, mode, options.epochs, place) for mode in MODES}
        print(result["epochs"], flush=True)
        result["runs"] = over_runs(pictures, options.runs, place)
        spawn = multiprocessing.get_context("spawn")
        result["workers"] = {}
        for (
            n
        ) in WORKERS:  # in a process of its own, whose pages are few: those that workers come to own are told apart from growth
            with ProcessPoolExecutor(1, mp_context=spawn) as alone:
                result["workers"][str(n)] = alone.submit(over_workers, n, options.epochs).result()
    result["wall_s"] = round(time.perf_counter() - started)
    save("memory_flat", "private memory, open files and threads stay flat over epochs, runs and workers", result)


if __name__ == "__main__":
    main()

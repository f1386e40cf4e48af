"""Private memory, open files and threads of a process stay flat over epochs, over runs and over a loader's workers.

    python benchmarks/memory_flat.py --epochs 40 --runs 12

Claim: from a tenth of the epochs on, the private memory of a process that trains grows by less than 1 MiB per ten epochs, and
from the third run in one process on by less than 2 MiB per run; the number of its open files and threads stays the same. That
no process outlives a run is measured by ``kills.py``.

Private memory is what Linux's ``smaps_rollup`` calls private and dirty. Clean pages are those of files, of libraries above all,
and are called private as long as no other process has the same library: they would tell when a neighbor ends. Slopes are
least-squares fits.

A DataLoader whose data set our pipeline augments (``pipe.wrap``) is read for as many epochs, by 0 and by 2 workers, whose memory
counts too, in a process that does nothing else. Then 2 workers are forked from the process that had trained all of those before.
They begin with its pages, which are shared until one side writes to them (a count of references, a collection of garbage), and
are private from then on. What such workers hold (``resident``, their ``VmRSS``) tells that from growth; half-way each
collects its garbage once, which makes most of what can become private so at once.
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
    """Return the private memory of a process that is not of files, in bytes; 0 where it has ended."""
    return _told_by_linux(process, "smaps_rollup", "Private_Dirty")


def resident_bytes(process: int) -> int:
    """Return the memory that a process holds, shared or not, in bytes; 0 where it has ended."""
    return _told_by_linux(process, "status", "VmRSS")


def _told_by_linux(process: int, file: str, field: str) -> int:
    """Return a field of a process's file, which is in KiB, in bytes."""
    try:
        lines = Path(f"/proc/{process}/{file}").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measured(processes: Callable[[], list[int]]) -> dict[str, int]:
    """Return private and resident memory, open files and threads of processes, summed."""
    gc.collect()
    alive = [process for process in processes() if Path(f"/proc/{process}/fd").exists()]
    return {
        "private": sum(map(private_bytes, alive)),
        "resident": sum(map(resident_bytes, alive)),
        "files": sum(len(list(Path(f"/proc/{process}/fd").iterdir())) for process in alive),
        "threads": sum(len(list(Path(f"/proc/{process}/task").iterdir())) for process in alive),
    }


def told(samples: list[dict[str, int]], skip: int) -> dict[str, Any]:
    """Return the growth of samples: the slopes of memory in MiB per sample, and by how much files and threads grew."""
    kept = samples[skip:]
    slope = {
        name: round(float(np.polyfit(np.arange(len(kept)), [sample[name] / MIB for sample in kept], 1)[0]), 3)
        for name in ("private", "resident")
    }
    return {
        "n": len(samples),
        "private_mib": [round(samples[0]["private"] / MIB, 1), round(samples[-1]["private"] / MIB, 1)],
        "resident_mib": [round(samples[0]["resident"] / MIB, 1), round(samples[-1]["resident"] / MIB, 1)],
        "growth_mib": slope["private"],
        "growth_resident_mib": slope["resident"],
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


class Collecting:
    """A data set that collects garbage, in whichever process reads it, once the counter of epochs has come to ``at``."""

    def __init__(self, dataset: Any, at: int) -> None:
        import torch

        self.dataset, self.at, self.collected = dataset, at, False
        self.epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if int(self.epoch) >= self.at and not self.collected:
            self.collected = True
            gc.collect()
        return self.dataset[index]


def over_workers(n_workers: int, epochs: int, forked: bool = False) -> dict[str, Any]:
    """Read a wrapped data set for many epochs by a DataLoader's workers.

    forked: only the workers are sampled, the private memory of the last sample before they collect their garbage is told too.
    """
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from descend.augment import Pipeline

    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    pipe = Pipeline(["flip()", "rotate(degrees=10)"], size=32)
    read: Any = Collecting(TensorDataset(images, torch.zeros(64, dtype=torch.long)), epochs // 2 if forked else epochs)
    wrapped = pipe.wrap(read)
    samples = list[dict[str, int]]()
    before = set(_family())
    method = "fork" if forked else None
    loader = DataLoader(
        wrapped, batch_size=16, num_workers=n_workers, persistent_workers=bool(n_workers), multiprocessing_context=method
    )
    for epoch in range(epochs):
        wrapped.set_epoch(epoch)
        read.epoch.fill_(epoch)
        for _ in loader:
            pass
        samples.append(measured(lambda: [process for process in _family() if not forked or process not in before]))
    del loader
    result = told(samples, max(2, epochs // 10))
    if forked:
        result["private_before_collection_mib"] = round(samples[epochs // 2 - 1]["private"] / MIB, 1)
    return result


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
        for n in WORKERS:  # in a process of its own, whose pages are few: those that workers come to own are no growth
            with ProcessPoolExecutor(1, mp_context=spawn) as alone:
                result["workers"][str(n)] = alone.submit(over_workers, n, options.epochs).result()
    result["workers"]["2, forked from the process that trained"] = over_workers(2, options.epochs, forked=True)
    result["wall_s"] = round(time.perf_counter() - started)
    save("memory_flat", "private memory, open files and threads stay flat over epochs, runs and workers", result)


if __name__ == "__main__":
    main()

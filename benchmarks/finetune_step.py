"""A step that fine-tunes late stages of Lite0: descend's quick form of the network against bare torch, channels last.

    python benchmarks/finetune_step.py
    python benchmarks/finetune_step.py --accuracy sign-digits --seeds 3

Claim: at least 1.5 times the pictures per second of bare torch at equal accuracy. Both train the stages after ``block1`` of
the same network with the same frozen norms on the same batch of 32; bare torch: plain modules, channels last, fused AdamW. Rounds
are interleaved; processor time is told beside wall time, since other work on the machine moves the latter more.

``--accuracy``: the network that a search trains, alone, after equal steps in float32 by bare torch's modules, in float32 and in
bfloat16 by the quick form: test accuracy per seed, and the intervals of the differences.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch loads

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from descend import api
from descend.comparison import PairedRuns
from descend.models import Classifier, Lite0
from descend.optim import Optimizer
from descend.search import finetune
from descend.search.rungs import peak_lr
from descend.transfer import FineTuning, quick_training
from harness import interval, save, spread
from splits import split
from trained_alone import trained_alone

SIZES, BATCH, ROUNDS, FREEZE_TO = (128, 160, 224), 32, 12, "block1"
STEPS, SIZE = 450, 128
Step = Callable[[], None]


def network() -> Classifier:
    body = Lite0(pretrained=True).build(0)
    body.tap(body.late_stages)
    classifier = Classifier(body, nn.Linear(body.n_features, 10))
    FineTuning(classifier, freeze_to=FREEZE_TO, norm="eval").thaw()
    return classifier.to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue] (missing in torch's stub)


def stepping(x: Tensor, labels: Tensor, dtype: torch.dtype | None) -> Step:
    """Return a step on a batch: of the quick form in ``dtype`` with our optimizer, or for None of bare torch."""
    module: nn.Module = network()
    moving = [p for p in module.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(moving, lr=1e-5, fused=True) if dtype is None else Optimizer(moving, "adamw(lr=1e-5)")
    if dtype is not None:
        module = quick_training(module, x[:1], dtype)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(module(x), labels).backward()
        optimizer.step()

    return step


def steps_timed(size: int) -> dict[str, Any]:
    """Return milliseconds of a step at a size, and how many times as fast ours is, by processor time."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, size, size, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10
    kinds = {"torch": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
    steps = {name: stepping(x, labels, dtype) for name, dtype in kinds.items()}
    walls, cpus = ({name: list[float]() for name in steps} for _ in range(2))
    for round_ in range(ROUNDS + 2):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if round_ >= 2:  # the first compile, and touch their memory
                walls[name].append(1e3 * (time.perf_counter() - wall))
                cpus[name].append(1e3 * (time.process_time() - cpu))
    ratios = {name: spread([a / b for a, b in zip(cpus["torch"], cpus[name], strict=True)]) for name in ("float32", "bfloat16")}
    times = {name: {key: spread(ms) for key, ms in each.items()} for name, each in (("wall_ms", walls), ("cpu_ms", cpus))}
    return times | {"times_as_fast": ratios}


def right(name: str, seed: int, precision: str, *, plain: bool, work: Path) -> tuple[Any, dict[str, Any]]:
    """Return which test pictures the trained network alone answers right, and what the training took."""
    took: dict[str, Any] = {}
    trained = finetune._train

    def timed(*args: Any) -> None:
        began = time.process_time()
        trained(*args)
        took["train_cpu_s"] = round(time.process_time() - began, 1)

    step = (
        f'finetune(size={SIZE}, freeze_to="{FREEZE_TO}", lr={peak_lr(STEPS)}, n_steps={STEPS}, batch_size={BATCH}, '
        f'mirrored=True, precision="{precision}")'
    )
    with ExitStack() as patches:
        folder = Path(patches.enter_context(tempfile.TemporaryDirectory()))
        found = patches.enter_context(trained_alone())
        patches.enter_context(patch.object(finetune, "_train", timed))
        if plain:
            patches.enter_context(patch.object(finetune, "quick_training", lambda *given: given[0]))
        api.fit(split(name, seed, work), transfer="auto", out=folder / "run", seed=seed, steps=["features(size=224)", step])
    return found[0].right, took


def accuracy(name: str, n_seeds: int, work: Path) -> dict[str, Any]:
    kinds = {"torch": ("float32", True), "float32": ("float32", False), "bfloat16": ("bfloat16", False)}
    rights: dict[str, list[Any]] = {kind: [] for kind in kinds}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for seed in range(n_seeds):
        for kind, (precision, plain) in kinds.items():
            marks, costs = right(name, seed, precision, plain=plain, work=work)
            rights[kind].append(marks)
            taken[kind].append(costs["train_cpu_s"])
            print(f"{name} seed {seed} {kind}: {marks.mean():.2%}, {costs['train_cpu_s']} s of processor time", flush=True)
    scores = {kind: [float(np.mean(marks)) for marks in each] for kind, each in rights.items()}
    items = {kind: np.stack(each).astype(np.float64) for kind, each in rights.items()}  # all splits are of one size
    runs = PairedRuns(tuple(range(n_seeds)), scores, items=items)
    return {
        "accuracy": scores,
        "train_cpu_s": {kind: spread(values) for kind, values in taken.items()},
        "above_torch": {
            kind: interval(runs.difference(kind, "torch")) for kind in ("float32", "bfloat16")
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "descend-finetune-step")
    given = parser.parse_args()
    result: dict[str, Any] = {"steps": {f"{size} px": steps_timed(size) for size in SIZES}}
    for size, found in result["steps"].items():
        ratios = {name: round(each["median"], 2) for name, each in found["times_as_fast"].items()}
        print(f"{size}: times as fast as torch: {ratios}", flush=True)
    result["trained"] = {name: accuracy(name, given.seeds, given.work) for name in given.accuracy}
    save("finetune_step", "a fine-tuning step takes at most 1 / 1.5 of bare torch's time, at equal accuracy", result)


if __name__ == "__main__":
    main()

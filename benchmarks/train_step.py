"""What our training loop costs over a bare torch loop that does the same work, step by step.

    python benchmarks/train_step.py

Claim: our step within max(3 %, 1 ms) of the bare loop's (20 interleaved pairs). Same module, stored pictures and augmentation
pipeline; the bare loop indexes an array, uses torch.optim.AdamW and torch's cross-entropy, and keeps no books. Ours adds the rate
schedule, coordinates for random layers, the finite-gradient check, metrics of the epoch and a listener.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch loads

import copy
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from descend.augment import Pipeline
from descend.data import Batches, decoded, load
from descend.models import Classifier, ResNet9
from descend.optim import Optimizer, parameter_groups
from descend.regularize import CrossEntropy
from descend.schedule import Cosine
from descend.train.batch_sources import FeatureSource, ImageSource
from descend.train.loop import Position, Task, train_loop
from descend.transfer import Linear
from harness import save, spread

PAIRS, EPOCHS, N, BATCH = 20, 1, 384, 64


class Quiet:
    """A watcher that does nothing."""

    def after_step(self, at: Position) -> None:
        """Nothing."""

    def after_epoch(self, at: Position, rate: float) -> bool:
        """Nothing; go on."""
        del at, rate
        return True


def pictures() -> Batches:
    rng = np.random.default_rng(0)
    dataset = load((rng.integers(0, 256, (N * 2, 32, 32, 3), dtype=np.uint8), np.arange(N * 2) % 10))
    return Batches(decoded(dataset, 32), dataset.indices("train")[:N], batch_size=BATCH)


def ours(task: Task) -> None:
    train_loop(task, Position(), Quiet(), lambda: False)


def prepared(module: nn.Module, source: ImageSource | FeatureSource) -> Task:
    optimizer = Optimizer(parameter_groups(module), "adamw(lr=0.001)")
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return Task(module, source, optimizer, Cosine(), CrossEntropy(), EPOCHS)


def bare(module: nn.Module, inputs: Callable[[np.ndarray], torch.Tensor], labels: torch.Tensor, batch: int) -> Callable[[], None]:
    groups = [{k: v for k, v in group.items() if k in ("params", "weight_decay")} for group in parameter_groups(module)]
    optimizer = torch.optim.AdamW(groups, lr=0.001, fused=True)

    def epoch() -> None:
        module.train()
        order = np.random.permutation(len(labels))
        for at in range(0, len(order), batch):
            rows = order[at : at + batch]
            loss = nn.functional.cross_entropy(module(inputs(rows)), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch


def scratch_case(batches: Batches) -> tuple[Callable[[], None], Callable[[], None], int]:
    body = ResNet9(width=16).build(0)
    net = Classifier(body, Linear().build(body.n_features, 10, 0)).to(memory_format=torch.channels_last)
    specs = ["pad_crop(padding=4)", "flip()"]
    mean, std = (body.mean[0], body.mean[1], body.mean[2]), (body.std[0], body.std[1], body.std[2])
    source = ImageSource(batches, Pipeline(specs, size=32, mean=mean, std=std), 10, torch.device("cpu"))
    pipe, rows, stored = Pipeline(specs, size=32, mean=mean, std=std), batches.indices, batches.decoded
    ids, labels = stored.dataset.ids[rows], torch.from_numpy(stored.dataset.labels[rows])
    peer = bare(copy.deepcopy(net), lambda at: pipe(stored.take(rows[at]), ids=ids[at], epoch=0), labels, BATCH)
    task = prepared(net, source)
    return lambda: ours(task), peer, source.n_steps


def features_case(batches: Batches) -> tuple[Callable[[], None], Callable[[], None], int]:
    head = Linear().build(1280, 10, 0)
    vectors = np.random.default_rng(0).random((N, 1, 1280), np.float32)
    place = np.full(len(batches.decoded.dataset), -1, np.int64)
    place[batches.indices] = np.arange(N)
    labels = torch.from_numpy(batches.decoded.dataset.labels[batches.indices])
    peer = bare(copy.deepcopy(head), lambda at: torch.from_numpy(vectors[at, 0]), labels, BATCH)
    source = FeatureSource(batches, vectors, place, torch.device("cpu"))
    task = prepared(head, source)
    return lambda: ours(task), peer, source.n_steps


def compare(case: tuple[Callable[[], None], Callable[[], None], int], repeats: int) -> dict[str, object]:
    mine, peer, n_steps = case
    walls: dict[str, list[float]] = {"ours": [], "bare": []}
    for turn in range(PAIRS + 1):
        pair = [("ours", mine), ("bare", peer)]
        for name, run in pair if turn % 2 else pair[::-1]:
            started = time.perf_counter()
            for _ in range(repeats):
                run()
            if turn:  # the first pair warms up
                walls[name].append((time.perf_counter() - started) / (n_steps * repeats) * 1e3)
    differences = [a - b for a, b in zip(walls["ours"], walls["bare"], strict=True)]
    ratios = [a / b for a, b in zip(walls["ours"], walls["bare"], strict=True)]
    allowed = max(0.03 * statistics.median(walls["bare"]), 1.0)
    timings = {"ours_ms": spread(walls["ours"]), "bare_ms": spread(walls["bare"]), "ratio": spread(ratios)}
    gap = spread(differences)
    return timings | {"difference_ms": gap, "allowed_ms": allowed, "holds": gap["median"] <= allowed}


def main() -> None:
    batches = pictures()
    result = {
        "resnet9 on 32 px pictures": compare(scratch_case(batches), 1),
        "linear head on features": compare(features_case(batches), 5),
    }
    save("train_step", "our step is within max(3 %, 1 ms) of a bare torch loop's, 20 interleaved pairs", result)


if __name__ == "__main__":
    main()

"""Replica of Huang et al. 2016: the expected depth of stochastic depth, the time it saves, and what it does to the error.

    python benchmarks/replica_depth.py [--only depth time error]

Published: with drop probabilities that rise linearly to 0.5, L residual blocks have an expected depth of (3 L - 1) / 4, and
training takes about 25 % less time; CIFAR-10 errors of a ResNet-110 fall from 6.41 % to 5.25 % (500 epochs, 50,000 pictures).
Claim to replicate: the depth exactly and by counting, and a step that takes up to a quarter less time where blocks are
skipped per batch. The parts stand alone: ``--only time`` measures that part anew and keeps the others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from descend import rng
from descend.models.small import BasicBlock, ConvNormReLU, GlobalPool
from descend.regularize import StochasticDepth, StochasticDepthInBlocks, expected_depth, linear_decay
from descend.stats import mean
from harness import HERE, environment, interval, save, spread
from mnist5k import K, Protocol, Setting, options, replicate, say

LAST = 0.5
SKIPPING = StochasticDepthInBlocks(last=LAST, per="batch", mode="classic")
PUBLISHED = {"time_saved": 0.25, "error": {"none": 6.41, "stochastic depth": 5.25}}


def resnet(n: int, width: int, c_in: int, seed: int) -> nn.Sequential:
    """Return He et al.'s ResNet for small pictures with 3 n residual blocks: 6 n + 2 layers."""

    def stage(c_before: int, c: int, stride: int) -> list[nn.Module]:
        return [BasicBlock(c_before, c, stride=stride), *(BasicBlock(c, c) for _ in range(n - 1))]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.integer_seed(seed, "init"))
        model = nn.Sequential(ConvNormReLU(c_in, width), *stage(width, width, 1), *stage(width, 2 * width, 2),
                              *stage(2 * width, 4 * width, 2), GlobalPool("mean"), nn.Linear(4 * width, K))  # fmt: skip
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def depth_part(quick: bool) -> dict[str, Any]:
    """Count the blocks that a training step keeps, against the formula."""
    rows = []
    for n in (3,) if quick else (3, 9, 18):
        n_blocks = 3 * n
        model = SKIPPING.install(resnet(n, 1, 1, seed=0), 0).train()
        layers = [layer for layer in model.modules() if isinstance(layer, StochasticDepth)]
        kept = []
        for step in range(50 if quick else 2000):
            with rng.context(0, step, [0]):
                kept.append(sum(not layer.skips() for layer in layers))
        exact = expected_depth(linear_decay(LAST, n_blocks))
        rows.append({"blocks": n_blocks, "(3L - 1) / 4": (3 * n_blocks - 1) / 4, "exact": exact, "counted": interval(mean(kept))})
        say(f"depth: {rows[-1]}")
    return {"rows": rows}


def stepper(model: nn.Module, batch: int, side: int) -> Callable[[int], None]:
    """Return a function that takes the training step of a number."""
    model = model.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (torch's stub lacks the overload)
    x = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    y = torch.arange(batch) % K
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step(n: int) -> None:
        with rng.context(0, n, np.arange(batch)):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def time_part(quick: bool) -> dict[str, Any]:
    """Time training steps of a ResNet-110 with and without skipping, in rotating order."""
    n, width, batch, side, rounds, steps = (1, 2, 4, 8, 4, 1) if quick else (18, 8, 32, 32, 24, 3)
    runs = {"without": stepper(resnet(n, width, 3, 0), batch, side),
            "skipping": stepper(SKIPPING.install(resnet(n, width, 3, 0), 0), batch, side)}  # fmt: skip
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    ms: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in runs} for clock in clocks}
    for turn in range(-1, rounds):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            began = {clock: read() for clock, read in clocks.items()}
            for k in range(steps):
                runs[name](max(turn, 0) * steps + k)
            if turn >= 0:  # the first round warms up
                for clock, read in clocks.items():
                    ms[clock][name].append((read() - began[clock]) / steps * 1e3)
    n_blocks = 3 * n
    found: dict[str, Any] = {
        "network": f"ResNet-{6 * n + 2}, width {width}, batch {batch}, {side} pixels, {torch.get_num_threads()} thread(s)",
        "rounds": rounds, "steps_per_round": steps, "blocks_skipped_expected": 1 - (3 * n_blocks - 1) / (4 * n_blocks),
    }  # fmt: skip
    for clock, taken in ms.items():
        saved = [1 - a / b for a, b in zip(taken["skipping"], taken["without"], strict=True)]
        found[clock] = {"time_saved": interval(mean(saved)), "time_saved_spread": spread(saved)} | {
            f"{name}_ms": spread(values) for name, values in taken.items()
        }
    say(f"time saved: {found['wall']['time_saved']} wall, {found['cpu']['time_saved']} processor")
    return found


def small_resnet(setting: Setting, width: int, seed: int) -> nn.Module:
    """Return a ResNet-20 for flat digits, pooled to 14 x 14 pixels; the setting's regularizers are installed later."""
    del setting
    return nn.Sequential(nn.Unflatten(1, (1, 28, 28)), nn.AvgPool2d(2), *resnet(3, width, 1, seed))


def error_part(protocol: Protocol) -> dict[str, Any]:
    """Train a ResNet-20 on MNIST-5k with and without stochastic depth, on paired seeds."""
    rates = (0.01, 0.03)
    arms = {"none": [Setting(lr=lr) for lr in rates],
            "stochastic depth": [Setting(lr=lr, regularizers=(str(SKIPPING),)) for lr in rates]}  # fmt: skip
    found = replicate(arms, protocol, make=small_resnet)
    return found.result({"stochastic depth": "none"})


def main() -> None:
    given, protocol = options(
        __doc__, Protocol(epochs=10, batch=50, width=8, n_settings=2, seeds=tuple(range(5))), ("depth", "time", "error")
    )
    parts = {"depth": partial(depth_part, given.quick), "time": partial(time_part, given.quick),
             "error": partial(error_part, protocol)}  # fmt: skip
    path = HERE / "results" / "replica_depth.json"
    result = json.loads(path.read_text(encoding="utf-8"))["result"] if path.exists() and not given.quick else {}
    for name in given.only:
        result[name] = parts[name]() | {"measured_on": environment()}
    if not given.quick:
        save("replica_depth", "expected depth (3 L - 1) / 4; skipping per batch saves up to a quarter of a step's time", result,
             published={"source": "Huang et al. 2016, arXiv:1603.09382, sections 3 and 4"} | PUBLISHED)  # fmt: skip


if __name__ == "__main__":
    main()

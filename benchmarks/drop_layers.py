"""What our drop layers cost in a small CNN's training step, against torch.nn's and timm's in the same place.

Claim: at most 3 % more than the peer. Every round times one step of ours, of the peer and of the network without drop
layers, in rotating order; the figure is the median over rounds of the ratio within a round. Processor time is used beside
wall time, because other work on the machine disturbs it less. A drop layer is a percent of the step, less than the rounds
differ by: so the layers are timed alone as well, forward and backward, and their difference told as a share of the step.

    python benchmarks/drop_layers.py --rounds 40 --threads 1
    python benchmarks/drop_layers.py --quick                    a smoke test, writes nothing
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend import rng
from descend.models import Classifier, ResNet20, SmallCNN
from descend.regularize import DropBlock, Dropout, StochasticDepthInBlocks
from descend.regularize.feature_maps import stages_of
from descend.regularize.install import drop_input, drop_output
from descend.regularize.residual_blocks import residual_blocks

BATCH, K = 64, 10
Build = Callable[[], nn.Module]
Step = Callable[[int], None]


def small_cnn(after_stages: Callable[[str], nn.Module] | None = None, before_head: nn.Module | None = None) -> nn.Module:
    backbone = SmallCNN(width=32).build(0)
    model = Classifier(backbone, nn.Linear(backbone.n_features, K))
    for name, stage in stages_of(model) if after_stages else []:
        drop_output(stage, after_stages(name))
    if before_head is not None:
        drop_input(model.head, before_head)
    return model


def resnet20(drop: Callable[[float], nn.Module] | None = None, *, per: str = "none") -> nn.Module:
    backbone = ResNet20(width=16).build(0)
    model = Classifier(backbone, nn.Linear(backbone.n_features, K))
    if per != "none":
        return StochasticDepthInBlocks(last=0.5, per=per).install(model, 0)
    for n, (_, block, family) in enumerate(residual_blocks(model) if drop else []):
        drop_output(block.get_submodule(family.ends(block)[0]), drop(0.5 * (n + 1) / 9))
    return model


CASES: dict[str, tuple[Build, Build, Build]] = {  # ours, the peer, without
    "dropout before the head": (
        lambda: small_cnn(before_head=Dropout(0.5)),
        lambda: small_cnn(before_head=nn.Dropout(0.5)),
        small_cnn,
    ),
    "dropout after every stage": (
        lambda: small_cnn(lambda name: Dropout(0.2, stream=name)),
        lambda: small_cnn(lambda _: nn.Dropout(0.2)),
        small_cnn,
    ),
    "spatial dropout after every stage": (
        lambda: small_cnn(lambda name: Dropout(0.2, stream=name, kind="channel")),
        lambda: small_cnn(lambda _: nn.Dropout2d(0.2)),
        small_cnn,
    ),
    "DropBlock after every stage": (
        lambda: small_cnn(lambda name: DropBlock(0.1, size=3, stream=name)),
        lambda: small_cnn(lambda _: timm.layers.DropBlock2d(0.1, block_size=3, couple_channels=False)),
        small_cnn,
    ),
    "stochastic depth per sample": (
        lambda: resnet20(per="sample"),
        lambda: resnet20(lambda p: timm.layers.DropPath(p)),
        resnet20,
    ),
    "stochastic depth per batch": (
        lambda: resnet20(per="batch"),
        lambda: resnet20(lambda p: timm.layers.DropPath(p)),
        resnet20,
    ),
}


def stepper(model: nn.Module, side: int) -> Step:
    model = model.train().to(memory_format=torch.channels_last)
    x: Tensor = torch.randn(BATCH, 3, side, side).contiguous(memory_format=torch.channels_last)
    y = torch.arange(BATCH) % K
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    ids = np.arange(BATCH) * 7919

    def step(n: int) -> None:
        with rng.context(0, n, ids):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure(case: tuple[Build, Build, Build], rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """Time the three in rotating order; return medians (ms a step) and the ratios with their quartiles."""
    side = 28 if case[2] is small_cnn else 32
    runs = dict(zip(("ours", "peer", "without"), (stepper(build(), side) for build in case), strict=True))
    seen: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in runs} for clock in ("wall", "cpu")}
    names = list(runs)
    for n in range(-2, rounds):
        for name in names[n % 3 :] + names[: n % 3]:
            wall, cpu = time.perf_counter(), time.process_time()
            for k in range(steps):
                runs[name](steps * n + k)
            if n >= 0:  # the first rounds warm up
                seen["cpu"][name].append((time.process_time() - cpu) / steps * 1e3)
                seen["wall"][name].append((time.perf_counter() - wall) / steps * 1e3)
    return {clock: summary({name: np.array(ms) for name, ms in taken.items()}) for clock, taken in seen.items()}


def summary(ms: dict[str, np.ndarray]) -> dict[str, float]:
    ratio, added = ms["ours"] / ms["peer"], ms["ours"] / ms["without"]
    low, mid, high = np.percentile(ratio, [25, 50, 75])
    medians = {f"{name}_ms": round(float(np.median(values)), 3) for name, values in ms.items()}
    return medians | {"ratio_of_minima": round(float(ms["ours"].min() / ms["peer"].min()), 4),
                      "ratio_to_peer": round(float(mid), 4), "ratio_quartile_low": round(float(low), 4),
                      "ratio_quartile_high": round(float(high), 4),
                      "ratio_to_without": round(float(np.median(added)), 4)}  # fmt: skip


MAPS = ((32, 28), (64, 14), (128, 7))  # channels and side after each stage of the small CNN
ALONE: dict[str, tuple[Build, Build]] = {
    "dropout after every stage": (lambda: Dropout(0.2), lambda: nn.Dropout(0.2)),
    "spatial dropout after every stage": (lambda: Dropout(0.2, kind="channel"), lambda: nn.Dropout2d(0.2)),
}


def alone(pair: tuple[Build, Build], rounds: int) -> dict[str, float]:
    """Time the layers of all stages alone, forward and backward, in turn; return the sums of the least times (ms)."""
    least = {"ours_ms": 0.0, "peer_ms": 0.0}
    for channels, side in MAPS:
        x = torch.randn(BATCH, channels, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
        slope = torch.randn_like(x)
        taken: dict[str, list[float]] = {name: [] for name in least}
        for n in range(rounds):
            for name, layer in zip(least, (build() for build in pair), strict=True):
                with rng.context(0, n, np.arange(BATCH)):
                    start = time.process_time()
                    torch.autograd.grad(layer(x), x, slope)
                    taken[name].append((time.process_time() - start) * 1e3)
        least = {name: least[name] + min(taken[name]) for name in least}
    return {name: round(ms, 3) for name, ms in least.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=3, help="training steps a timing; many for per-batch skipping")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", default="", help="only the cases that contain this text")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "drop_layers.json")
    parser.add_argument("--quick", action="store_true", help="one step and two rounds of everything; writes nothing")
    parser.add_argument("--note", default="", help="what a reader of the result must know, such as a busy machine")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps = 2, 1
    torch.set_num_threads(options.threads)
    results = {}
    for name, case in CASES.items():
        if options.cases in name:
            results[name] = measure(case, options.rounds, options.steps)
            print(name, results[name]["cpu"], flush=True)
        if options.cases in name and name in ALONE:
            layers = alone(ALONE[name], 3 * options.rounds)
            share = (layers["ours_ms"] - layers["peer_ms"]) / results[name]["cpu"]["without_ms"]
            results[name]["layers_alone"] = layers | {"difference_as_share_of_step": round(share, 5)}
            print("    alone", results[name]["layers_alone"], flush=True)
    if options.quick:
        return
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    record = {
        "claim": "our drop layers add at most 3 % to a small CNN's training step over the peer's",
        "setting": {"batch": BATCH, "threads": options.threads, "rounds": options.rounds, "steps": options.steps,
                    "networks": "smallcnn(width=32) at 28 px; resnet20(width=16) at 32 px for stochastic depth"},
        "machine": {"processor": platform.processor() or platform.machine(), "system": platform.system()},
        "versions": {package: version(package) for package in ("torch", "timm", "numba", "numpy")},
        "commit": git.stdout.strip(),
        "note": options.note,
        "results": results,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

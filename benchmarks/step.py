"""One optimizer step, beside torch's: on a real network's parameters, on 50 million, and on a small net of many tensors.

    python benchmarks/step.py [--quick] [--torch-compile] [--rules adamw rmsprop]

Claims, as medians of paired ratios: at most 1.05 times the time of torch's fused step where torch has one (SGD, Adam, AdamW,
Adagrad); at least 2 times as fast as torch's best eager form (loop or foreach, the quicker) where it has none; AdamW on 50
million parameters (28 bytes each) moves at least 90 % of the bytes per second of ``a = b + k * c`` (12 bytes each).

SGD beside the in-place triad ``a += k * c``, the price of clipping by norm and of an average of the weights, and the compilation
of the kernels are measured without a claim. "checked" looks for NaN and inf in the gradients, as the default does; "unchecked"
is nonfinite="ignore", which is what torch's steps do.

--torch-compile: also torch.compile of each of torch's steps that has no fused form; that takes minutes to compile.
--quick: small tensors and few rounds, to see that it runs; writes nothing, as does a choice of rules.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch loads

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor
from torch.optim import swa_utils

from descend.optim import Optimizer
from harness import save, spread

Run = Callable[[], Any]
Shapes = list[tuple[int, ...]]


@dataclass(frozen=True)
class Peer:
    """What torch calls a rule; the settings are those of our text."""

    text: str
    make: Callable[..., torch.optim.Optimizer]
    fused: bool = False


PEERS = {
    "sgd": Peer("sgd(lr=1e-4)", lambda p, **how: torch.optim.SGD(p, 1e-4, **how), fused=True),
    "momentum": Peer("momentum(lr=1e-4)", lambda p, **how: torch.optim.SGD(p, 1e-4, 0.9, **how), fused=True),
    "nesterov": Peer("nesterov(lr=1e-4)", lambda p, **how: torch.optim.SGD(p, 1e-4, 0.9, nesterov=True, **how), fused=True),
    "adam": Peer("adam(lr=1e-4)", lambda p, **how: torch.optim.Adam(p, 1e-4, **how), fused=True),
    "adamw": Peer("adamw(lr=1e-4)", lambda p, **how: torch.optim.AdamW(p, 1e-4, **how), fused=True),
    "amsgrad": Peer("amsgrad(lr=1e-4)", lambda p, **how: torch.optim.Adam(p, 1e-4, amsgrad=True, **how), fused=True),
    "adagrad": Peer("adagrad(lr=1e-4)", lambda p, **how: torch.optim.Adagrad(p, 1e-4, **how), fused=True),
    "rmsprop": Peer("rmsprop(lr=1e-4)", lambda p, **how: torch.optim.RMSprop(p, 1e-4, **how)),
    "rmsprop, centered, momentum": Peer(
        "rmsprop(lr=1e-4, centered=True, momentum=0.9)",
        lambda p, **how: torch.optim.RMSprop(p, 1e-4, centered=True, momentum=0.9, **how),
    ),
    "nadam": Peer("nadam(lr=1e-4)", lambda p, **how: torch.optim.NAdam(p, 1e-4, **how)),
    "radam": Peer("radam(lr=1e-4)", lambda p, **how: torch.optim.RAdam(p, 1e-4, **how)),
    "adamax": Peer("adamax(lr=1e-4)", lambda p, **how: torch.optim.Adamax(p, 1e-4, **how)),
    "adadelta": Peer("adadelta(lr=1e-4)", lambda p, **how: torch.optim.Adadelta(p, 1e-4, **how)),
    "adafactor": Peer("adafactor(lr=1e-4)", lambda p, **how: torch.optim.Adafactor(p, 1e-4, **how)),
}


def cases(quick: bool) -> dict[str, tuple[Shapes, int]]:
    """Return the shapes of every case, and the number of rounds."""
    lite0 = [tuple(p.shape) for p in timm.create_model("tf_efficientnet_lite0", pretrained=False).parameters()]
    small: Shapes = [shape for _ in range(30) for shape in ((100, 100), (100,))]
    large: Shapes = [(250, 200) if quick else (2500, 2000)] * 10
    return {
        "EfficientNet-Lite0": (lite0, 5 if quick else 60),
        "50 M in 10 tensors": (large, 5 if quick else 15),
        "0.3 M in 60 tensors": (small, 5 if quick else 300),
    }


def weights(shapes: Shapes, grads: list[Tensor]) -> list[Tensor]:
    """Return fresh parameters, with gradients that all contenders share."""
    made = [torch.full(shape, 0.5).requires_grad_() for shape in shapes]
    for parameter, grad in zip(made, grads, strict=True):
        parameter.grad = grad
    return made


def gradients(shapes: Shapes) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw) * 1e-2 for shape in shapes]


def race(runs: Mapping[str, Run], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of every round; all run in every round, in rotating order, after three rounds of warming up."""
    walls: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for turn in range(rounds + 3):
        order.append(order.pop(0))
        for name in order:
            started = time.perf_counter()
            runs[name]()
            if turn >= 3:
                walls[name].append((time.perf_counter() - started) * 1e3)
    return walls


def ratio(walls: Mapping[str, list[float]], ours: str, theirs: str) -> dict[str, float]:
    return spread([a / b for a, b in zip(walls[ours], walls[theirs], strict=True)])


def unchecked(optimizer: Optimizer) -> Run:
    def run() -> None:
        optimizer.nonfinite = "ignore"
        optimizer.step()
        optimizer.nonfinite = "error"

    return run


def rule_case(peer: Peer, shapes: Shapes, rounds: int, with_compile: bool) -> dict[str, Any]:
    """Return our times, torch's, and the ratios of one rule on one list of parameters."""
    grads = gradients(shapes)
    ours = Optimizer(weights(shapes, grads), peer.text, compiled=True)
    runs: dict[str, Run] = {"checked": ours.step, "unchecked": unchecked(ours)}
    if peer.fused:
        runs["fused"] = peer.make(weights(shapes, grads), fused=True).step
    else:
        runs |= {form: peer.make(weights(shapes, grads), foreach=form == "foreach").step for form in ("loop", "foreach")}
        if with_compile:
            runs["torch.compile"] = torch.compile(peer.make(weights(shapes, grads), foreach=True).step)
    walls = race(runs, rounds)
    best = "fused" if peer.fused else min(("loop", "foreach"), key=lambda form: statistics.median(walls[form]))
    found: dict[str, Any] = {f"{name}_ms": spread(values) for name, values in walls.items()}
    found |= {"peer": best, "ratio_checked": ratio(walls, "checked", best), "ratio_unchecked": ratio(walls, "unchecked", best)}
    limit = 1.05 if peer.fused else 0.5
    found |= {"limit": limit, "holds": found["ratio_unchecked"]["median"] <= limit}
    return found | {"holds_checked": found["ratio_checked"]["median"] <= limit}


def bandwidth(shapes: Shapes, rounds: int) -> dict[str, Any]:
    """Return bytes per second of AdamW and SGD beside those of a triad and of one in place, on as many numbers."""
    grads, n = gradients(shapes), sum(torch.Size(shape).numel() for shape in shapes)
    a, b, c = (torch.full((n,), value) for value in (0.0, 1.0, 2.0))
    adamw, sgd = (Optimizer(weights(shapes, grads), text, compiled=True) for text in ("adamw(lr=1e-4)", "sgd(lr=1e-4)"))
    runs: dict[str, tuple[int, Run]] = {
        "triad": (12, lambda: torch.add(b, c, alpha=1e-6, out=a)),
        "triad in place": (12, lambda: b.add_(c, alpha=1e-6)),
        "adamw": (28, unchecked(adamw)),
        "adamw, checked": (32, adamw.step),
        "sgd": (12, unchecked(sgd)),
        "sgd, checked": (16, sgd.step),
    }
    walls = race({name: run for name, (_, run) in runs.items()}, rounds)
    rates = {name: [runs[name][0] * n / wall / 1e6 for wall in values] for name, values in walls.items()}
    found: dict[str, Any] = {f"{name}_gb_per_s": spread(values) for name, values in rates.items()}
    found |= {
        "adamw over triad": ratio(rates, "adamw", "triad"),
        "sgd over triad in place": ratio(rates, "sgd", "triad in place"),
    }
    return found | {"limit": 0.9, "holds": found["adamw over triad"]["median"] >= 0.9}


def extras(shapes: Shapes, rounds: int) -> dict[str, Any]:
    """Return what clipping and averaging add to AdamW, ours and torch's, each over its own plain step."""
    grads = gradients(shapes)
    plain, clipped, averaging = (
        Optimizer(weights(shapes, grads), text, gradients=stages, compiled=True)
        for text, stages in (("adamw(lr=1e-4)", ()), ("adamw(lr=1e-4)", "clip_norm(max_norm=1.0)"), ("ema(adamw(lr=1e-4))", ()))
    )
    params, followed = weights(shapes, grads), weights(shapes, grads)
    fused, averaged = (torch.optim.AdamW(each, 1e-4, fused=True) for each in (params, followed))
    means = [parameter.detach().clone() for parameter in followed]
    follow = swa_utils.get_ema_multi_avg_fn(0.999)

    def clip_and_step() -> None:
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        fused.step()

    def step_and_average() -> None:
        averaged.step()
        follow(means, [parameter.detach() for parameter in followed], 1)

    runs: dict[str, Run] = {
        "ours": plain.step,
        "ours, clipped": clipped.step,
        "ours, averaged": averaging.step,
        "torch": fused.step,
        "torch, clipped": clip_and_step,
        "torch, averaged": step_and_average,
    }
    walls = race(runs, rounds)
    found: dict[str, Any] = {f"{name}_ms": spread(values) for name, values in walls.items()}
    for name in ("clipped", "averaged"):
        found |= {f"{who}, {name}": ratio(walls, f"{who}, {name}", who) for who in ("ours", "torch")}
    return found


COMPILING = """
import json, sys, time, torch
from descend.optim import Optimizer
loaded = "numba" in sys.modules
def timed(run):
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
numba_s = timed(lambda: __import__("numba"))
parameter = torch.ones(1000, requires_grad=True)
parameter.grad = torch.ones(1000)
optimizer = Optimizer([parameter], sys.argv[1], compiled=True)
print(json.dumps({"numba loaded by the import": loaded, "import_of_numba_s": numba_s, "first_step_s": timed(optimizer.step),
                  "second_step_s": timed(optimizer.step)}))
"""


def compiling(text: str) -> dict[str, Any]:
    """Return what the first step costs in a new process, with an empty cache of kernels and with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        runs = [subprocess.run([sys.executable, "-c", COMPILING, text], capture_output=True, check=True, env=environment)
                for _ in range(2)]  # fmt: skip
    return dict(zip(("never compiled", "compiled before"), (json.loads(run.stdout) for run in runs), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--torch-compile", action="store_true")
    parser.add_argument("--rules", nargs="+", choices=list(PEERS), default=list(PEERS))
    words = parser.parse_args()
    result: dict[str, Any] = {
        "compilation": {name: compiling(PEERS[name].text) for name in ("sgd", "adamw") if name in words.rules}
    }
    for name, (shapes, rounds) in cases(words.quick).items():
        print(name, file=sys.stderr)
        here: dict[str, Any] = {"n_tensors": len(shapes), "n_parameters": sum(torch.Size(shape).numel() for shape in shapes)}
        for rule in words.rules:
            here[rule] = rule_case(PEERS[rule], shapes, rounds, words.torch_compile)
            gc.collect()
            print(f"  {rule}: {here[rule]['ratio_unchecked']['median']:.3f} of {here[rule]['peer']}", file=sys.stderr)
        here["clipping and averaging, adamw"] = extras(shapes, rounds)
        if name.startswith("50 M"):
            here["bandwidth"] = bandwidth(shapes, rounds)
        result[name] = here
    claim = "at most 1.05 of torch's fused step, or half of its best eager one; AdamW at 90 % of a triad's bandwidth"
    if words.quick or words.rules != list(PEERS):
        print(json.dumps(result, indent=1))
    else:
        save("step", claim, result, n_threads=torch.get_num_threads())


if __name__ == "__main__":
    main()

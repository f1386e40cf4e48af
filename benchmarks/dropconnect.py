"""DropConnect's masks per sample beside its masks per batch: forward and backward of one layer, in turn.

    python benchmarks/dropconnect.py [--rounds N]

Claim: at most 3 times the time of a mask per batch where p is 0.5. Every sample draws for each weight, twice (forward and
backward), where a batch draws once, and multiplies in a kernel of ours where a batch has one matrix product. Of another p more
binary digits than one decide, and more bits are drawn: 0.1 stands beside.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch loads

import argparse
import itertools
import time

import numpy as np
import torch

from descend import rng
from descend.regularize import DropConnectLinear
from harness import save, spread

LAYERS = ((64, 784, 128), (64, 512, 10), (128, 800, 800))  # samples, inputs, outputs


def milliseconds(layer: DropConnectLinear, x: torch.Tensor, step: int) -> float:
    started = time.perf_counter()
    with rng.context(0, step, np.arange(x.shape[0])):
        layer(x.clone().requires_grad_()).sum().backward()
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    result = {}
    for (samples, n_in, n_out), p in itertools.product(LAYERS, (0.5, 0.1)):
        layers = {"sample": DropConnectLinear(n_in, n_out, p), "batch": DropConnectLinear(n_in, n_out, p, per="batch")}
        x = torch.randn(samples, n_in)
        walls = [{per: milliseconds(layer, x, step) for per, layer in layers.items()} for step in range(rounds + 2)][2:]
        found = {f"per {per}, ms": spread([wall[per] for wall in walls]) for per in layers}
        found["ratio"] = spread([wall["sample"] / wall["batch"] for wall in walls])
        result[f"{samples} samples, {n_in} to {n_out}, p {p}"] = found
    claim = "masks per sample take at most 3 times the time of masks per batch where p is 0.5"
    save("dropconnect", claim, result, n_threads=torch.get_num_threads())


if __name__ == "__main__":
    main()

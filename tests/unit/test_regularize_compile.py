"""``torch.compile`` of a network in training: it draws the masks of the plain network, whatever was compiled before."""

from __future__ import annotations

import subprocess
import sys

import pytest

LAYERS = """
import torch
from torch import nn

from descend import rng
from descend.models import Classifier, ResNet20
from descend.regularize import *
from descend.technique import build

IDS = [5, 6, 7, 8]


def same(name, net, x):
    compiled = torch.compile(net.train(), backend="eager")  # Dynamo traces; no code is generated
    results = []
    for forward in (compiled, net):
        results.append([])
        for epoch in range(2):
            net.zero_grad()
            with rng.context(epoch, epoch, IDS):
                y = forward(x)
            y.square().sum().backward()
            results[-1] += [y.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)), name
    passes = [compiled(x) for _ in range(9)]  # outside a context each call draws anew
    assert not all(torch.equal(passes[0], other) for other in passes), name
    torch._dynamo.reset()


def chain(layer):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), layer, nn.Flatten(), nn.Linear(128, 3))


maps = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
for layer in (Dropout(0.5), Dropout(0.5, kind="channel"), DropBlock(0.5, size=2), StochasticDepth(0.5),
              StochasticDepth(0.5, per="batch"), DropConnectConv2d(8, 8, 3, 0.5, padding=1, per="batch")):
    same(type(layer).__name__, chain(layer), maps)
vectors = maps.flatten(1)
for per in ("sample", "batch"):
    same(f"DropConnectLinear, {per}", nn.Sequential(DropConnectLinear(48, 8, 0.5, per=per), nn.Linear(8, 3)), vectors)
for text in ("stochastic_depth(last=0.9)", "stochastic_depth(last=0.9, per=batch)", "spatial_dropout(p=0.5)"):
    torch.manual_seed(0)
    net = Classifier(ResNet20(width=2).build(0), nn.Linear(8, 3))
    same(text, build(text, Regularizer).install(net, 0), torch.randn(4, 3, 16, 16))
print("all the same")
"""


@pytest.mark.slow
def test_dynamo_leaves_the_masks_alone_in_a_fresh_process() -> None:
    command = [sys.executable, "-W", "ignore", "-c", LAYERS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("all the same")

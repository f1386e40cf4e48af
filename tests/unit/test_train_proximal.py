"""A proximal penalty shrinks each group by the rate of that group, and leaves alone what the optimizer does not move."""

from __future__ import annotations

import torch
from tests.fakes import FakeSource  # pyright: ignore[reportMissingImports]
from torch import nn

from descend.optim import Optimizer
from descend.regularize import L1
from descend.schedule import Schedule
from descend.technique import build
from descend.train.loop import Task


def test_every_group_is_shrunk_by_its_own_rate() -> None:
    module = nn.ModuleDict({name: nn.Linear(3, 3, bias=False) for name in ("early", "late", "frozen")})
    for part in module.values():
        nn.init.constant_(part.weight, 1.0)
    module["frozen"].requires_grad_(False)
    groups = [
        {"params": [module["early"].weight], "lr_scale": 0.01},
        {"params": [module["late"].weight], "lr_scale": 1.0},
    ]
    optimizer = Optimizer(groups, "sgd(lr=0.5)")
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    task = Task(module, FakeSource(), optimizer, build("constant()", Schedule), lambda *_: torch.zeros(()), 1, [L1(strength=0.2)])
    task.set_lr(0, 0)
    for name in ("early", "late"):
        module[name].weight.grad = torch.zeros(3, 3)
    optimizer.step()
    task.regularize_weights(dict(module.named_parameters()))
    assert torch.allclose(module["early"].weight, torch.tensor(1 - 0.005 * 0.2))
    assert torch.allclose(module["late"].weight, torch.tensor(1 - 0.5 * 0.2))
    assert torch.equal(module["frozen"].weight, torch.ones(3, 3))

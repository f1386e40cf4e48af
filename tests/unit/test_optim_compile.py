"""A whole training step under torch.compile: forward, backward, step and what schedules write into groups, traced as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from descend.optim import Optimizer

pytestmark = pytest.mark.filterwarnings("ignore")  # Dynamo's own
X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
Y = X.sum(1, keepdim=True).sin()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


def training_step(model: nn.Module, optimizer: Any, factor: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    def step(x: Tensor, y: Tensor) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        ("sgd(lr=0.1)", lambda p: torch.optim.SGD(p, lr=0.1)),
        ("momentum(lr=0.1)", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("adamw(lr=0.01)", lambda p: torch.optim.AdamW(p, lr=0.01)),
        ("ema(adamw(lr=0.01))", lambda p: torch.optim.AdamW(p, lr=0.01)),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 0.9])
def test_a_compiled_training_step_is_torchs_uncompiled(text: str, theirs: Callable[[Any], Any], factor: float) -> None:
    model, twin = net(), net()
    step = torch.compile(training_step(model, Optimizer(model.parameters(), text), factor), backend="eager")
    plain = training_step(twin, theirs(twin.parameters()), factor)
    for _ in range(6):
        torch.testing.assert_close(step(X, Y), plain(X, Y))
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_stages_averages_and_kernels_work_in_a_compiled_step() -> None:
    results = []
    for compiling in (False, True):
        model = net()
        stages = ["accumulate(n=2)", "clip_norm(max_norm=0.1)"]
        optimizer = Optimizer(model.parameters(), "ema(adamw(lr=0.01), decay=0.5)", gradients=stages, compiled=True)
        step = training_step(model, optimizer)

        def evaluate(x: Tensor, model: nn.Module = model, optimizer: Optimizer = optimizer) -> Tensor:
            optimizer.flush()
            with optimizer.evaluation_weights():
                return model(x).detach()

        step, evaluate = (torch.compile(f, backend="eager") if compiling else f for f in (step, evaluate))
        for _ in range(5):
            step(X, Y)
        results.append((evaluate(X), copy.deepcopy(model.state_dict())))
    torch.testing.assert_close(results[0][0], results[1][0])
    for name, value in results[0][1].items():
        torch.testing.assert_close(value, results[1][1][name])


@pytest.mark.parametrize("text", ["sam(sgd(lr=0.1))", "nesterov(lr=0.1, form=lookahead)"])
def test_a_closure_is_called_as_often_as_without_compilation(text: str) -> None:
    losses = []
    for compiling in (False, True):
        model = net()
        optimizer = Optimizer(model.parameters(), text)

        def step(x: Tensor, y: Tensor, model: nn.Module = model, optimizer: Optimizer = optimizer) -> Any:
            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(x), y)
                loss.backward()
                return loss.detach()

            return optimizer.step(closure)

        step = torch.compile(step, backend="eager") if compiling else step
        losses.append(torch.stack([step(X, Y) for _ in range(4)]))
    torch.testing.assert_close(*losses)


def test_groups_are_plain_dicts() -> None:
    optimizer = Optimizer([{"params": list(net().parameters()), "betas": (0.8, 0.9)}], "adamw")
    twin = Optimizer(net().parameters(), "adamw")
    twin.load_state_dict(optimizer.state_dict())
    for each in (optimizer, twin, copy.deepcopy(optimizer)):
        assert [type(group) for group in each.param_groups] == [dict]

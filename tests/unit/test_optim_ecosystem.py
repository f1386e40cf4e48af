"""The Optimizer in the hands of torch's tools: schedulers, loss scaling, averaging, compiled models, hooks, late groups."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler, swa_utils

from descend.optim import Optimizer, Rule
from descend.optim.chain import chain_of
from descend.technique import registered

PAIRS: list[tuple[str, Callable[[Any], torch.optim.Optimizer]]] = [
    ("momentum(lr=0.05)", lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9)),
    ("adamw(lr=0.01)", lambda params: torch.optim.AdamW(params, lr=0.01)),
]

ELEMENTWISE = [kind for kind in registered(Rule) if chain_of(kind()).core.elementwise]


def net(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def loss_of(model: nn.Module, t: int) -> Tensor:
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(t)).to(next(model.parameters()).dtype)
    return (model(x) - x.sum(1, keepdim=True).sin()).square().mean()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, after: Callable[[Tensor], Any] = bool) -> None:
    for t in steps:
        optimizer.zero_grad()
        loss = loss_of(model, t)
        loss.backward()
        optimizer.step()
        after(loss.detach())


def assert_same(one: nn.Module, two: nn.Module, rtol: float = 1e-9) -> None:
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol / 10)


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 5, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 9]),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=10),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 20, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.05, 4, base_momentum=0.7, max_momentum=0.95),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=30),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 4), lr_scheduler.ExponentialLR(o, 0.8)], [5]
    ),
    "SWALR": lambda o: swa_utils.SWALR(o, swa_lr=0.001, anneal_epochs=5),
}


@pytest.mark.parametrize(("text", "theirs"), PAIRS, ids=[text for text, _ in PAIRS])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_torchs_schedulers_lead_ours_as_theirs(name: str, text: str, theirs: Callable[[Any], torch.optim.Optimizer]) -> None:
    histories = []
    for optimizer_of in (lambda params: Optimizer(params, text), theirs):
        model = net()
        optimizer = optimizer_of(model.parameters())
        scheduler = SCHEDULERS[name](optimizer)
        history: list[Any] = []

        def after(
            loss: Tensor, scheduler: Any = scheduler, group: Any = optimizer.param_groups[0], history: Any = history
        ) -> None:
            scheduler.step(*([loss] if name == "ReduceLROnPlateau" else []))
            history.append((group["lr"], group["betas"][0] if "betas" in group else group["momentum"]))

        train(model, optimizer, range(20), after)
        histories.append((history, model))
    assert histories[0][0] == histories[1][0]
    assert len({lr for lr, _ in histories[0][0]}) > 1
    assert_same(histories[0][1], histories[1][1])


def test_a_scheduler_and_its_optimizer_resume_together() -> None:
    def made(model: nn.Module) -> tuple[Optimizer, lr_scheduler.OneCycleLR]:
        optimizer = Optimizer(model.parameters(), "adamw")
        return optimizer, lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=30)

    model = net()
    optimizer, scheduler = made(model)
    train(model, optimizer, range(10), lambda _: scheduler.step())
    twin = copy.deepcopy(model)
    other, cycle = made(twin)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    cycle.load_state_dict(scheduler.state_dict())
    assert other.param_groups[0]["beta1"] == optimizer.param_groups[0]["beta1"] != 0.9
    train(model, optimizer, range(10, 20), lambda _: scheduler.step())
    train(twin, other, range(10, 20), lambda _: cycle.step())
    assert_same(model, twin, rtol=0.0)


@pytest.mark.parametrize(("text", "theirs"), PAIRS, ids=[text for text, _ in PAIRS])
def test_loss_scaling_with_clipping_is_as_with_torch(text: str, theirs: Callable[[Any], torch.optim.Optimizer]) -> None:
    models, scales = [], []
    for optimizer_of in (lambda params: Optimizer(params, text), theirs):
        model = net(torch.float32)
        optimizer = optimizer_of(model.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
        for t in range(20):
            optimizer.zero_grad()
            loss = loss_of(model, t) * (float("inf") if t == 7 else 1.0)  # one batch that overflows
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
        models.append(model)
        scales.append((scaler.get_scale(), len(optimizer.state)))
    assert scales[0] == scales[1]
    assert_same(*models, rtol=1e-5)


def test_a_group_that_joins_late_walks_as_with_torch() -> None:
    models = []
    for optimizer_of in (lambda params: Optimizer(params, "adamw(lr=0.01)"), lambda params: torch.optim.AdamW(params, lr=0.01)):
        model = net()
        body, head = list(model[0].parameters()), list(model[2].parameters())
        optimizer = optimizer_of(head)
        train(model, optimizer, range(10))
        optimizer.add_param_group({"params": body, "lr": 0.001, "weight_decay": 0.0})
        model.zero_grad()
        train(model, optimizer, range(10, 30))
        models.append(model)
    assert_same(*models)


def test_closures_are_called_once_with_gradients_on_and_their_loss_returned() -> None:
    model, twin = net(), net()
    ours, theirs = Optimizer(model.parameters(), "adam(lr=0.01)"), torch.optim.Adam(twin.parameters(), lr=0.01)
    for t in range(10):
        losses = []
        for each, optimizer in ((model, ours), (twin, theirs)):
            calls = []

            def closure(each: nn.Module = each, optimizer: Any = optimizer, calls: list[int] = calls, t: int = t) -> Tensor:
                calls.append(t)
                optimizer.zero_grad()
                loss = loss_of(each, t)
                loss.backward()
                return loss

            with torch.no_grad():
                losses.append(optimizer.step(closure))
            assert calls == [t]
        torch.testing.assert_close(*losses, rtol=1e-9, atol=1e-12)
    assert_same(model, twin)


def test_maximize_is_torchs() -> None:
    models = []
    for optimizer_of in (
        lambda params: Optimizer(params, "adamw(lr=0.01)", maximize=True),
        lambda params: torch.optim.AdamW(params, lr=0.01, maximize=True),
    ):
        model = net()
        optimizer = optimizer_of(model.parameters())
        for t in range(20):
            optimizer.zero_grad()
            (-loss_of(model, t)).backward()
            optimizer.step()
        models.append(model)
    assert_same(*models)


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_learns_the_same() -> None:
    plain, fast = net(torch.float32), net(torch.float32)
    compiled = torch.compile(fast)
    one, two = Optimizer(plain.parameters(), "adamw(lr=0.01)"), Optimizer(compiled.parameters(), "adamw(lr=0.01)")
    train(plain, one, range(10))
    train(compiled, two, range(10))
    assert_same(plain, fast, rtol=1e-4)


def test_averaged_models_follow_as_with_torch() -> None:
    averages = []
    for optimizer_of in (lambda params: Optimizer(params, "momentum"), lambda params: torch.optim.SGD(params, 0.01, 0.9)):
        model = net()
        mean, moving = swa_utils.AveragedModel(model), swa_utils.AveragedModel(model, avg_fn=swa_utils.get_ema_avg_fn(0.9))

        def after(_: Tensor, model: nn.Module = model, averaged: Any = (mean, moving)) -> None:
            for each in averaged:
                each.update_parameters(model)

        train(model, optimizer_of(model.parameters()), range(20), after)
        averages.append((model, mean, moving))
    for one, two in zip(*averages, strict=True):
        assert_same(one, two)
    assert not torch.equal(next(averages[0][0].parameters()), next(averages[0][1].parameters()))


@pytest.mark.parametrize("text", ["adamw(lr=0.01)", "momentum(lr=0.05)", "lion"])
def test_one_optimizer_a_parameter_in_the_backward_pass(text: str) -> None:
    model, twin = net(), net()
    train(model, Optimizer(model.parameters(), text), range(10))
    small = {parameter: Optimizer([parameter], text) for parameter in twin.parameters()}

    def update(parameter: Tensor) -> None:
        small[parameter].step()
        parameter.grad = None

    for parameter in twin.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    for t in range(10):
        loss_of(twin, t).backward()
    assert_same(model, twin, rtol=1e-13)


def test_bfloat16_weights_are_the_rounded_steps_of_float32() -> None:
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(64, generator=draw).bfloat16()
    weight, exact = start.clone().requires_grad_(), start.float().requires_grad_()
    ours, theirs = Optimizer([weight], "adamw(lr=0.1)"), torch.optim.AdamW([exact], lr=0.1)
    for _ in range(20):
        weight.grad = torch.randn(64, generator=draw).bfloat16()
        exact.grad = weight.grad.float()
        ours.step()
        theirs.step()
        with torch.no_grad():
            exact.copy_(exact.bfloat16())  # what is stored between two steps
    assert weight.dtype == torch.bfloat16
    torch.testing.assert_close(weight.detach().float(), exact.detach(), rtol=2**-7, atol=1e-3)  # half a unit may round either way
    assert (weight.detach().float() == exact.detach()).float().mean() > 0.9


@pytest.mark.parametrize("kind", ELEMENTWISE, ids=lambda kind: kind.name)
def test_no_rule_minds_the_number_of_threads(kind: type[Rule]) -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            draw = torch.Generator().manual_seed(3)
            params = [torch.randn(shape, generator=draw).requires_grad_() for shape in ((300, 200), (7,))]
            optimizer = Optimizer(params, kind(), compiled=True)
            for _ in range(3):
                for parameter in params:
                    parameter.grad = torch.randn(parameter.shape, generator=draw)
                optimizer.step(lambda: None)
            results.append([parameter.detach() for parameter in params])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))

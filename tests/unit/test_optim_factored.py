"""Adafactor's kernel is held to the tensors it replaces, for every way in which it cuts a tensor, and to torch's own step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.fakes import weights_and_slots  # pyright: ignore[reportMissingImports]

from descend.errors import TrainingError
from descend.optim import Adafactor, Optimizer, dispatch, kernels

LARGE, SMALL, VECTORS = [(300, 257), (2, 3, 200, 300), (1, 70000), (70000, 1)], [(70, 100), (16, 8, 3, 3)], [(40000,), (7,), ()]
SHAPES = [*LARGE, *SMALL, (40, 30, 1, 1), *VECTORS, (0, 3)]
"""Large matrices, stacks of them, wide and tall ones; whole small ones, stacks of tiny ones, of 1 by 1; vectors, nothing."""


def walk(text: str, *, compiled: bool, dtype: torch.dtype = torch.float64, steps: int = 5, **settings: Any) -> Optimizer:
    draw = torch.Generator().manual_seed(5)
    params = [torch.randn(shape, generator=draw, dtype=dtype).requires_grad_() for shape in SHAPES]
    optimizer = Optimizer(params, text, compiled=compiled, **settings)
    for _ in range(steps):
        for parameter in params:
            parameter.grad = torch.randn(parameter.shape, generator=draw, dtype=dtype)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("settings", [{}, {"maximize": True, "gradients": "clip_norm(max_norm=50.0)"}], ids=["plain", "clipped"])
@pytest.mark.parametrize("text", ["adafactor", "adafactor(lr=0.05, weight_decay=0.1, clip=0.5)", "ema(adafactor, decay=0.9)",
                                  "ema(lookahead(adafactor, k=2))"])  # fmt: skip
def test_kernel_and_tensors_agree(text: str, settings: dict[str, Any]) -> None:
    one, two = (walk(text, compiled=compiled, **settings) for compiled in (True, False))
    for fast, plain in zip(weights_and_slots(one), weights_and_slots(two), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-11, atol=1e-13)


def test_single_precision_agrees_to_some_units_in_the_last_place() -> None:
    one, two = (walk("adafactor", compiled=compiled, dtype=torch.float32) for compiled in (True, False))
    for fast, plain in zip(weights_and_slots(one), weights_and_slots(two), strict=True):
        largest = float(plain.abs().amax()) if plain.numel() else 0.0
        torch.testing.assert_close(fast, plain, rtol=3e-5, atol=4e-7 * largest)
    assert one.gradient_norm == pytest.approx(two.gradient_norm, rel=1e-5)


def test_the_kernel_makes_torchs_step() -> None:
    ours = walk("adafactor(lr=0.01, eps=1e-30)", compiled=True)
    params = [p for p in walk("adafactor", compiled=False, steps=0).param_groups[0]["params"] if p.numel()]
    theirs, draw = torch.optim.Adafactor(params, lr=0.01, eps=(1e-15, 1e-3)), torch.Generator().manual_seed(5)
    for shape in SHAPES:
        torch.randn(shape, generator=draw, dtype=torch.float64)
    for _ in range(5):
        for parameter in params:
            parameter.grad = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        theirs.step()
    moved = [p for p in ours.param_groups[0]["params"] if p.numel()]
    for one, two in zip(moved, params, strict=True):
        torch.testing.assert_close(one.detach(), two.detach(), rtol=1e-8, atol=1e-10)


def test_thread_count_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "WORTH_SHARING", 0)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(weights_and_slots(walk("adafactor", compiled=True, dtype=torch.float32)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_moves_nothing(bad: float) -> None:
    optimizer = walk("adafactor", compiled=True)
    params = optimizer.param_groups[0]["params"]
    before = [each.clone() for each in weights_and_slots(optimizer)]
    params[1].grad[1, 2, 150, 7] = bad
    with pytest.raises(TrainingError, match="must be finite"):
        optimizer.step()
    assert all(torch.equal(one, two) for one, two in zip(weights_and_slots(optimizer), before, strict=True))


def test_nan_that_is_ignored_stays_in_its_tensor() -> None:
    optimizers = [walk("adafactor", compiled=compiled, nonfinite="ignore") for compiled in (True, False)]
    for optimizer in optimizers:
        optimizer.param_groups[0]["params"][1].grad[1, 2, 150, 7] = math.nan
        optimizer.step()
    for fast, plain in zip(*map(weights_and_slots, optimizers), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-11, atol=1e-13, equal_nan=True)


def test_zero_gradients_leave_the_weights_where_they_are() -> None:
    params = [torch.ones(shape).requires_grad_() for shape in SHAPES]
    for parameter in params:
        parameter.grad = torch.zeros_like(parameter)
    Optimizer(params, "adafactor", compiled=True).step()
    assert all(torch.equal(parameter.detach(), torch.ones_like(parameter)) for parameter in params)


def test_memory_that_kernels_cannot_take_goes_to_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, plain = [], dispatch.tensors.step

    def step(rule: Any, params: list[torch.Tensor], *rest: Any) -> None:
        seen.append(len(params))
        plain(rule, params, *rest)

    monkeypatch.setattr(dispatch.tensors, "step", step)
    kinds = [torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last), torch.randn(5, 8).mT, torch.randn(6, 7)]
    params = [kind.detach().requires_grad_() for kind in kinds]
    twins = [kind.detach().clone().requires_grad_() for kind in kinds]
    for group, compiled in ((params, True), (twins, False)):
        for parameter in group:
            parameter.grad = torch.ones_like(parameter)
        Optimizer(group, Adafactor(), compiled=compiled).step()
    assert seen == [2, 3]
    for one, two in zip(params, twins, strict=True):
        torch.testing.assert_close(one.detach(), two.detach())

"""Compiled kernels are held to the tensors they replace."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tests.fakes import weights_and_slots  # pyright: ignore[reportMissingImports]
from torch import nn

from descend.errors import TrainingError
from descend.optim import Optimizer, Rule, UpdateRule, dispatch, kernels, ops
from descend.optim.chain import chain_of
from descend.technique import build, registered

SETTINGS = [rule for kind in registered(Rule) if chain_of(rule := kind()).core.elementwise]
SETTINGS += [
    build(text, Rule)
    for text in ("rmsprop(momentum=0.9)", "signsgd(momentum=0.0)", "ema(lookahead(momentum(lr=0.1), k=2), decay=0.9)")
]


def walk(rule: Rule, *, compiled: bool, steps: int = 6, dtype: torch.dtype = torch.float32, **settings: Any) -> Optimizer:
    draw = torch.Generator().manual_seed(3)
    params = [
        torch.randn(shape, generator=draw, dtype=dtype).requires_grad_() for shape in ((40, 1000), (7,), (), (0, 3), (2, 3, 5))
    ]
    optimizer = Optimizer(params, rule, compiled=compiled, **settings)
    for _ in range(steps):
        for parameter in params:
            parameter.grad = torch.randn(parameter.shape, generator=draw, dtype=dtype)
        optimizer.step(lambda: None)
    return optimizer


@pytest.mark.parametrize("rule", SETTINGS, ids=str)
def test_kernel_and_tensors_agree_to_a_few_units_in_the_last_place(rule: Rule) -> None:
    settings: dict[str, Any] = {"maximize": True, "gradients": "clip_norm(max_norm=50.0)"}
    one, two = walk(rule, compiled=True, **settings), walk(rule, compiled=False, **settings)
    for fast, plain in zip(weights_and_slots(one), weights_and_slots(two), strict=True):
        largest = float(plain.abs().amax()) if plain.numel() else 0.0
        torch.testing.assert_close(fast, plain, rtol=3e-5, atol=4e-7 * largest)


@pytest.mark.parametrize("text", ["adamw", "rmsprop(centered=True)"])  # centered: a difference, which float32 would blur
def test_double_precision_agrees_tightly(text: str) -> None:
    one, two = (walk(build(text, Rule), compiled=compiled, dtype=torch.float64) for compiled in (True, False))
    for fast, plain in zip(weights_and_slots(one), weights_and_slots(two), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-11, atol=1e-13)


def test_thread_count_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "WORTH_SHARING", 0)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(weights_and_slots(walk(build("adamw", Rule), compiled=True)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_nan_stays_nan() -> None:
    parameter = torch.zeros(4, requires_grad=True)
    parameter.grad = torch.tensor([1.0, math.nan, math.inf, 0.0])
    Optimizer([parameter], "adamw", compiled=True, nonfinite="ignore").step()
    assert parameter.isnan().tolist() == [False, True, True, False]


def test_layouts_that_kernels_cannot_take_go_to_tensors() -> None:
    rule = build("momentum(lr=1.0)", Rule)
    base = torch.arange(24.0).reshape(4, 6)
    strided = base[:, ::2].detach().requires_grad_()
    mixed = torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    half = torch.ones(5, dtype=torch.bfloat16, requires_grad=True)
    plain = torch.ones(5, requires_grad=True)
    params = [strided, mixed, half, plain]
    optimizer = Optimizer(params, rule, compiled=True)
    expected = [torch.zeros_like(p) for p in params]
    for parameter in params:
        parameter.grad = parameter.detach().clone(memory_format=torch.contiguous_format)
    optimizer.step()
    fits = [dispatch.fits(p, p.grad, [optimizer.state[p]["v"]]) for p in params if p.grad is not None]
    assert fits == [False, False, False, True]
    for parameter, zero in zip(params, expected, strict=True):
        assert torch.equal(parameter.detach(), zero)
    assert base[:, 1::2].any(dim=0).all()  # the columns in between are nobody's parameters


def test_autograd_notices_the_change() -> None:
    weight = nn.Parameter(torch.ones(3))
    loss = (weight * weight).sum()
    weight.grad = torch.ones(3)
    Optimizer([weight], "sgd", compiled=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_threads_may_step_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "WORTH_SHARING", 0)
    results: list[list[torch.Tensor]] = [[], []]

    def work(number: int) -> None:
        results[number] = weights_and_slots(walk(build("adamw", Rule), compiled=True, steps=20))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_a_run_that_changes_backends_goes_on() -> None:
    first = walk(build("adamw", Rule), compiled=True)
    params = [p.detach().clone().requires_grad_() for p in first.param_groups[0]["params"]]
    second = Optimizer(params, "adamw", compiled=False)
    second.load_state_dict(first.state_dict())
    for optimizer in (first, second):
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    for one, two in zip(weights_and_slots(first), weights_and_slots(second), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


def test_large_models_are_compiled_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(dispatch, "step", lambda *_, compiled, checked: seen.append((compiled, checked)))
    for size in (dispatch.WORTH_COMPILING - 1, dispatch.WORTH_COMPILING):
        parameter = torch.zeros(size, requires_grad=True)
        parameter.grad = torch.zeros(size)
        Optimizer([parameter], "sgd").step()
    assert seen == [(False, False), (True, True)]


def test_many_small_tensors_are_compiled_when_they_have_made_some_steps() -> None:
    asked: list[bool] = []
    real = dispatch.step

    def spied(*parts: Any, compiled: bool, checked: bool = False) -> float | None:
        asked.append(compiled)
        return real(*parts, compiled=compiled, checked=checked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "step", spied)
        few, many, plain = (
            Optimizer([nn.Parameter(torch.linspace(-1, 1, 50)) for _ in range(n)], "adamw(lr=0.1)", compiled=compiled)
            for n, compiled in ((3, None), (40, None), (40, False))
        )
        for _ in range(dispatch.LONG_ENOUGH + 2):
            for optimizer in (few, many, plain):
                for parameter in optimizer.param_groups[0]["params"]:
                    parameter.grad = parameter.detach().sin()
                optimizer.step()
    assert asked == [False] * 3 * dispatch.LONG_ENOUGH + [False, True, False] * 2
    torch.testing.assert_close(many.param_groups[0]["params"], plain.param_groups[0]["params"], rtol=1e-6, atol=1e-7)


def test_a_first_step_compiles_without_numba_and_leaves_nothing_on_disk(tmp_path: Path) -> None:
    script = """
import sys, torch
from descend.optim import Optimizer
weight = torch.nn.Parameter(torch.ones(200_000))
weight.grad = torch.ones(200_000)
Optimizer([weight], "sgd(lr=0.5)").step()
assert "llvmlite" in sys.modules and "numba" not in sys.modules
print(weight.detach().unique().tolist())
"""
    env = os.environ | {"DESCEND_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[0.5]", "")
    assert not (tmp_path / "kernels").exists()


def words(p: Any, g: Any) -> list[Any]:
    """Everything that a direction may say, of two numbers."""
    return [
        p + g, p - g, p * g, p / g, -p, abs(p), 2 - p, 3 / p, 1 + p, 0.1 * p, p - 1, p / 3, ops.add_scaled(p, g, 0.5),
        ops.sqrt(p), ops.sign(p), ops.positive(p), ops.maximum(p, g), ops.ema(p, g, (0.9, 0.1)),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", range(len(words(1.0, 1.0))))
def test_words_mean_in_registers_what_they_mean_on_arrays(number: int, dtype: torch.dtype) -> None:
    special = torch.tensor([0.0, -0.0, 1.5, -2.25, 1e-40, math.inf, -math.inf, math.nan], dtype=dtype)
    a, b = (each.flatten() for each in torch.meshgrid(special, special, indexing="ij"))

    class Said(UpdateRule):
        lr: float = 1.0
        slots: ClassVar = ("a", "b", "said")

        @staticmethod
        def direction(p: Any, g: Any, a: Any, b: Any, said: Any) -> Any:
            return g, a, b, words(a, b)[number]

    Said.name = f"said{number}"
    with np.errstate(all="ignore"):
        expected = torch.from_numpy(words(a.numpy(), b.numpy())[number])
    state = {"a": a, "b": b, "said": torch.zeros_like(a)}
    rule, one = chain_of(Said()), torch.ones_like(a)
    kernels.step(rule, [one], [one.clone()], [state], rule.scalars(1), checked=False)
    torch.testing.assert_close(state["said"], expected, rtol=1e-7, atol=0, equal_nan=True)


def test_a_direction_that_branches_on_elements_is_refused() -> None:
    class Branching(UpdateRule):
        lr: float = 1.0

        @staticmethod
        def direction(p: Any, g: Any) -> Any:
            return (g if p else -g,)

    Branching.name = "branching"
    rule, one = chain_of(Branching()), torch.ones(3)
    with pytest.raises(TypeError, match="must not branch on elements: use maximum, sign or positive"):
        kernels.step(rule, [one], [one.clone()], [{}], rule.scalars(1), checked=False)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, kernels.PIECE - 1, 5 * kernels.PIECE + 3])
def test_kernels_stop_at_a_gradient_that_is_not_finite(bad: float, place: int) -> None:
    params = [("good", torch.ones(10, requires_grad=True)), ("bad", torch.ones(6 * kernels.PIECE, requires_grad=True))]
    optimizer = Optimizer(params, "adamw", compiled=True)
    for _, parameter in params:
        parameter.grad = torch.ones_like(parameter)
    params[1][1].grad[place] = bad  # pyright: ignore[reportOptionalSubscript]
    with pytest.raises(
        TrainingError,
        match=f"gradient of bad .{6 * kernels.PIECE},. must be finite, got '1 NaN or infinite of {6 * kernels.PIECE}'",
    ):
        optimizer.step()
    piece = slice(place // kernels.PIECE * kernels.PIECE, (place // kernels.PIECE + 1) * kernels.PIECE)
    assert (params[1][1][piece] == 1).all()
    assert not optimizer.state[params[1][1]]["m"][piece].any()
    assert not optimizer.moved


def test_kernels_leave_everything_where_a_step_is_skipped() -> None:
    parameter = torch.ones(3 * kernels.PIECE, requires_grad=True)
    parameter.grad = torch.ones_like(parameter)
    parameter.grad[-1] = math.nan
    optimizer = Optimizer([parameter], "adamw", compiled=True, nonfinite="skip")
    optimizer.step()
    assert (parameter == 1).all()
    assert optimizer.skipped == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_norm_that_kernels_find_on_their_way_is_the_norm(dtype: torch.dtype) -> None:
    optimizer = walk(build("sgd", Rule), compiled=True, steps=1, dtype=dtype)
    grads = [parameter.grad.flatten().double() for parameter in optimizer.param_groups[0]["params"]]
    assert optimizer.gradient_norm == pytest.approx(float(torch.cat(grads).norm()), rel=1e-6)


def test_kernels_do_not_mistake_large_gradients_for_infinite_ones() -> None:
    parameter = torch.zeros(3, requires_grad=True)
    parameter.grad = torch.full((3,), 1e30)
    optimizer = Optimizer([parameter], "sgd(lr=1e-30)", compiled=True)
    optimizer.step()
    assert optimizer.gradient_norm == pytest.approx(3**0.5 * 1e30)
    assert parameter.tolist() == pytest.approx([-1.0] * 3)

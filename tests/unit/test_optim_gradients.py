"""What happens to gradients before the rule sees them: windows of several, and stages in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.oracles import optim_gradients
from torch import Tensor

from descend.errors import KnobError
from descend.optim import Optimizer


def windows(text: str, stages: list[str], gradients: list[Tensor], **settings: Any) -> tuple[Tensor, Optimizer, list[bool]]:
    parameter = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer, moved = Optimizer([parameter], text, gradients=stages, **settings), []
    for gradient in gradients:
        optimizer.zero_grad()
        parameter.grad = gradient.clone()
        optimizer.step()
        moved.append(optimizer.moved)
    return parameter.detach(), optimizer, moved


def test_a_window_moves_along_its_mean_and_the_last_one_along_that_of_what_it_holds() -> None:
    gradients = list(torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))
    after, optimizer, moved = windows("adam(lr=0.1)", ["accumulate(n=3)"], gradients)
    assert moved == [False, False, True, False, False]
    assert optimizer.pending == 2
    assert optimizer.flush()
    assert optimizer.moved
    assert not optimizer.flush()
    assert not optimizer.moved
    means = [torch.stack(gradients[:3]).mean(0), torch.stack(gradients[3:]).mean(0)]
    torch.testing.assert_close(after, windows("adam(lr=0.1)", [], means)[0], rtol=1e-12, atol=1e-14)


def test_stages_before_a_window_see_each_gradient_and_those_after_it_the_mean() -> None:
    gradients = [torch.tensor(g, dtype=torch.float64) for g in ([4.0, 0.0, 0.0], [0.0, 1.0, 0.0])]
    before, _, _ = windows("sgd(lr=1.0)", ["clip_norm(max_norm=1.0)", "accumulate(n=2)"], gradients)
    torch.testing.assert_close(-before, torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))
    after, _, _ = windows("sgd(lr=1.0)", ["accumulate(n=2)", "clip_value(max_value=0.8)"], gradients)
    torch.testing.assert_close(-after, torch.tensor([0.8, 0.5, 0.0], dtype=torch.float64))


def test_a_skipped_gradient_does_not_enter_its_window() -> None:
    gradients = [torch.full((3,), value, dtype=torch.float64) for value in (1.0, float("nan"), 3.0)]
    after, optimizer, moved = windows("sgd(lr=1.0)", ["accumulate(n=2)"], gradients, nonfinite="skip")
    assert (moved, optimizer.skipped) == ([False, False, True], 1)
    assert after.tolist() == [-2.0] * 3


def test_an_open_window_is_saved_and_restored() -> None:
    gradients = list(torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))
    whole, _, _ = windows("momentum", ["accumulate(n=2)"], gradients)
    part, first, _ = windows("momentum", ["accumulate(n=2)"], gradients[:3])
    parameter = part.clone().requires_grad_()
    second = Optimizer([parameter], "momentum", gradients="accumulate(n=2)")
    second.load_state_dict(first.state_dict())
    assert second.pending == 1
    parameter.grad = gradients[3].clone()
    second.step()
    assert torch.equal(parameter.detach(), whole)


def test_parameters_may_miss_from_parts_of_a_window() -> None:
    one, two = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = Optimizer([one, two], "sgd(lr=1.0)", gradients="accumulate(n=2)")
    one.grad = two.grad = torch.ones(1)
    optimizer.step()
    two.grad = None
    optimizer.step()
    assert (one.item(), two.item()) == (-1.0, -0.5)


@pytest.mark.parametrize("rule", ["nesterov(form=lookahead)", "schedule_free_adamw", "ema(inner=schedule_free_sgd)"])
def test_an_open_window_before_the_first_move_is_no_step(rule: str) -> None:
    parameter = torch.ones(2, requires_grad=True)
    optimizer = Optimizer([parameter], rule, gradients="accumulate(n=2)")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    moved = []
    for _ in range(3):
        optimizer.step(closure)
        moved.append(optimizer.moved)
        with optimizer.evaluation_weights():
            assert bool(torch.isfinite(parameter).all())
    assert moved == [False, True, False]


@pytest.mark.parametrize("nonfinite", ["error", "skip", "ignore"])
def test_the_norm_at_the_end_of_a_window_is_that_of_its_mean(nonfinite: str) -> None:
    gradients = [torch.tensor(g, dtype=torch.float64) for g in ([4.0, 0.0, 0.0], [0.0, 2.0, 0.0])]
    stages = ["accumulate(n=2)", "clip_norm(max_norm=1.0)"]
    _, optimizer, moved = windows("sgd(lr=1.0)", stages, gradients, nonfinite=nonfinite)
    assert moved[-1]
    assert optimizer.gradient_norm == pytest.approx(5**0.5)
    _, plain, _ = windows("sgd(lr=1.0)", stages[:1], gradients, nonfinite=nonfinite)
    assert plain.gradient_norm is None


def test_the_count_of_skipped_steps_is_saved() -> None:
    gradients = [torch.full((3,), value, dtype=torch.float64) for value in (1.0, float("nan"))]
    _, optimizer, _ = windows("sgd", [], gradients, nonfinite="skip")
    saved = optimizer.state_dict()
    other = Optimizer([torch.zeros(3, dtype=torch.float64, requires_grad=True)], "sgd", nonfinite="skip")
    other.load_state_dict(saved)
    assert other.skipped == 1
    other.load_state_dict({name: value for name, value in saved.items() if name != "skipped"})  # of an older version
    assert other.skipped == 0


def test_two_windows_inside_each_other_are_refused() -> None:
    with pytest.raises(KnobError, match="accumulate once"):
        Optimizer([torch.zeros(1, requires_grad=True)], "sgd", gradients=["accumulate(n=2)", "accumulate(n=3)"])


SHAPES = ((), (5,), (4, 3), (3, 2, 2, 2))


def changed(stage: str) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return weights, gradients and what a stage makes of them."""
    draw = torch.Generator().manual_seed(8)
    params = [torch.randn(shape, dtype=torch.float64, generator=draw).requires_grad_() for shape in SHAPES]
    with torch.no_grad():
        params[2][1] = 0.0  # a unit of weights that are all zero
    before = [parameter.detach().clone() for parameter in params]
    for parameter in params:
        parameter.grad = torch.randn(parameter.shape, dtype=torch.float64, generator=draw)
        if parameter.ndim > 1:
            parameter.grad[0] *= 1e-3  # one unit that is short enough
    Optimizer(params, "sgd(lr=1.0)", gradients=stage).step()
    return [(p, q.grad, p - q.detach()) for p, q in zip(before, params, strict=True) if q.grad is not None]


@pytest.mark.parametrize(("clip", "eps"), [(0.01, 1e-3), (0.3, 1e-2)])
def test_adaptive_clipping_agrees_with_the_textbook_and_with_timm(clip: float, eps: float) -> None:
    agc = pytest.importorskip("timm.utils.agc")
    for p, g, after in changed(f"adaptive_clip(clip={clip}, eps={eps})"):
        expected = optim_gradients.adaptive_clip(p.numpy(), g.numpy(), clip=clip, eps=eps)
        np.testing.assert_allclose(after.numpy(), expected, rtol=1e-10, atol=1e-14)
        theirs = p.clone().requires_grad_()
        theirs.grad = g.clone()
        agc.adaptive_clip_grad([theirs], clip_factor=clip, eps=eps)
        torch.testing.assert_close(after, theirs.grad, rtol=1e-10, atol=1e-14)


def test_centralizing_agrees_with_the_textbook_and_keeps_the_sums_of_weights() -> None:
    for _, g, after in changed("centralize"):
        np.testing.assert_allclose(after.numpy(), optim_gradients.centralize(g.numpy()), rtol=1e-10, atol=1e-14)
        if g.ndim > 1:
            assert after.flatten(1).sum(1).abs().max() < 1e-12
            assert not torch.equal(after, g)

"""Activation checkpointing: what is computed again drops what it dropped, and gradients are those without it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from descend import rng
from descend.errors import ModelError
from descend.regularize import DropBlock, DropConnectConv2d, DropConnectLinear, Dropout, StochasticDepth

Run = Callable[[nn.Module, Tensor], Tensor]


class Skips(nn.Module):
    """A residual block that asks beforehand whether it is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.depth = nn.Conv2d(3, 3, 1), StochasticDepth(0.5, per="batch")

    def forward(self, x: Tensor) -> Tensor:
        return self.depth.residual(x, self.branch)


QUIET = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: Dropout(0.5),
    "channels": lambda: Dropout(0.5, kind="channel"),
    "depth": lambda: StochasticDepth(0.5),
    "depth per batch": lambda: StochasticDepth(0.5, per="batch"),
    "skipped blocks": Skips,
    "dropconnect": lambda: DropConnectConv2d(3, 3, 1, 0.5),
    "dropconnect, linear": lambda: nn.Sequential(nn.Flatten(), DropConnectLinear(48, 48, 0.5), nn.Unflatten(1, (3, 4, 4))),
    "dropconnect per batch": lambda: DropConnectConv2d(3, 3, 1, 0.5, per="batch"),
    "drop_block": lambda: DropBlock(0.5, size=2),
}


class Net(nn.Module):
    """A part that may be computed again, between layers that are not."""

    def __init__(self, layer: nn.Module, run: Run) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.part, self.run = nn.Sequential(nn.Conv2d(3, 3, 1), layer, nn.Tanh(), nn.Conv2d(3, 3, 1), nn.Tanh()), run

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.run(self.part, self.first(x)))


def plainly(part: nn.Module, x: Tensor) -> Tensor:
    return part(x)


def again(*, reentrant: bool) -> Run:
    return lambda part, x: checkpoint(part, x, use_reentrant=reentrant)


def gradients(make: Callable[[], nn.Module], run: Run, use: Callable[[nn.Module, Tensor], Any]) -> list[Tensor]:
    torch.manual_seed(0)
    net = Net(make(), run).double().train()
    use(net, torch.randn(4, 3, 4, 4, dtype=torch.float64))
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


def three_steps(net: nn.Module, x: Tensor) -> None:
    for _ in range(3):
        net(x).square().sum().backward()


def two_before_one_backward(net: nn.Module, x: Tensor) -> None:
    (net(x).square().sum() + net(x + 1).abs().sum()).backward()


def one_that_leads_nowhere(net: nn.Module, x: Tensor) -> None:
    net(x)
    with torch.no_grad():
        net(x)
    net(x).square().sum().backward()


def a_context_that_has_ended(net: nn.Module, x: Tensor) -> None:
    with rng.context(1, 2, [5, 6, 7, 8]):
        y = net(x)
    y.square().sum().backward()


@QUIET
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("use", [three_steps, two_before_one_backward, one_that_leads_nowhere, a_context_that_has_ended])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_without_it(name: str, use: Callable[[nn.Module, Tensor], Any], reentrant: bool) -> None:
    known = gradients(LAYERS[name], plainly, use)
    found = gradients(LAYERS[name], again(reentrant=reentrant), use)
    for a, b in zip(known, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)


@QUIET
@pytest.mark.parametrize(("outer", "inner"), [(False, False), (True, True), (True, False)])
def test_parts_within_parts_and_a_layer_that_is_called_twice(outer: bool, inner: bool) -> None:
    layer = Dropout(0.5)

    def twice(part: nn.Module, x: Tensor, run: Run) -> Tensor:
        return layer(run(part, layer(x)).tanh())

    def nested(part: nn.Module, x: Tensor) -> Tensor:
        return checkpoint(lambda x: twice(part, x, again(reentrant=inner)), x, use_reentrant=outer)

    found = []
    for run in (lambda part, x: twice(part, x, plainly), nested):
        layer.source.n_calls = 0
        found.append(gradients(lambda: Dropout(0.3), run, three_steps))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)


def test_a_backward_pass_can_be_made_again() -> None:
    def twice(net: nn.Module, x: Tensor) -> None:
        loss = net(x).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()

    for a, b in zip(*(gradients(LAYERS["dropout"], run, twice) for run in (plainly, again(reentrant=False))), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)


class _Foreign(torch.autograd.Function):
    """Somebody else's way to compute again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer = layer
        return layer(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(ctx.layer(x), x, grads[0])[0], None


@pytest.mark.parametrize("known", [True, False])
def test_where_nothing_tells_what_was_dropped_it_is_refused(known: bool) -> None:
    layer, x = Dropout(0.5, stream="here"), torch.ones(2, 50, requires_grad=True)
    with rng.context(0, 0, [1, 2]) if known else nullcontext():
        y = _Foreign.apply(x, layer)
        if known:
            y.sum().backward()
            assert x.grad is not None
            assert torch.equal(x.grad, y)
        else:
            with pytest.raises(ModelError, match="drop layer 'here': must know what it has dropped"):
                y.sum().backward()


def test_layers_count_the_forward_passes_alone() -> None:
    layer, x = Dropout(0.5), torch.ones(2, 8, requires_grad=True)
    for _ in range(3):
        checkpoint(layer, x, use_reentrant=False).sum().backward()
    assert layer.source.n_calls == 3

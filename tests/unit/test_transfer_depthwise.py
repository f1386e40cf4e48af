"""The gradient of large depthwise convolutions: that of torch, whatever the layout, the stride and the threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from descend.transfer.depthwise import _Depthwise, _QuickGradients, quick_gradients


class Net(nn.Module):
    """Depthwise convolutions of several kinds in a row, and others that must stay as they are."""

    def __init__(self, stride: int, padding: int | str, side: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 1)
        self.deep = nn.Conv2d(6, 6, side, stride, padding, groups=6)
        self.last = nn.Conv2d(6, 2, 3, groups=2)

    def forward(self, x):
        return self.last(self.deep(self.first(x)))


def gradients(net: nn.Module, x: torch.Tensor, context) -> list[torch.Tensor]:
    net.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with context:
        y = net(x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return [x.grad, *(p.grad for p in net.parameters())]  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("stride", "padding", "side"), [(1, 2, 5), (2, 2, 5), (2, 0, 5), (1, 3, 7), (1, "same", 5), (1, 1, 3)])
def test_gradients_are_those_of_torch(layout, stride, padding, side):
    torch.manual_seed(0)
    net = Net(stride, padding, side).to(memory_format=layout)
    x = torch.randn(5, 3, 13, 12).to(memory_format=layout)
    expected = gradients(net, x, torch.enable_grad())
    for found, one in zip(gradients(net, x, _QuickGradients()), expected, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-4)


def test_only_large_depthwise_convolutions_in_float32_are_taken(monkeypatch):
    taken = []
    original = _Depthwise.apply
    monkeypatch.setattr(_Depthwise, "apply", lambda *args: taken.append(tuple(args[1].shape)) or original(*args))
    x = torch.randn(2, 3, 12, 12)
    for net in (Net(1, 2, 5), Net(1, 1, 3), Net(1, "same", 5)):
        gradients(net, x, quick_gradients(net))
    gradients(Net(1, 2, 5).double(), x.double(), _QuickGradients())
    assert taken == [(6, 1, 5, 5)]


def test_a_network_without_them_runs_as_it_is():
    assert not isinstance(quick_gradients(Net(1, 1, 3)), _QuickGradients)
    assert not isinstance(quick_gradients(Net(1, 2, 5).double()), _QuickGradients)


def test_the_number_of_threads_changes_no_bit():
    from descend.transfer.depthwise_kernels import weight_gradient

    rng = np.random.default_rng(1)
    x, grad = rng.normal(size=(11, 9, 9, 6)).astype(np.float32), rng.normal(size=(11, 9, 9, 6)).astype(np.float32)
    one, three, many = (weight_gradient(x, grad, 5, 1, 2, n) for n in (1, 3, 64))
    assert np.array_equal(one, three)
    assert np.array_equal(one, many)


def test_a_weight_that_stands_still_gets_none():
    net = Net(1, 2, 5)
    net.deep.requires_grad_(False)
    found = gradients(net, torch.randn(2, 3, 9, 9), _QuickGradients())
    assert found[3] is None
    assert found[1] is not None

"""Depthwise convolutions with large kernels, whose weights get their gradients from a kernel of ours.

    d loss / d w[c, dy, dx]  =  sum over images n, places (i, j):   x[n, c, s i + dy - p, s j + dx - p] * grad[n, c, i, j]

oneDNN takes ten times as long for it as for the convolution itself where the side of the kernel is 5: of a step that fine-tunes
Lite0 on two cores that was a third. Everything else of the convolution stays torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

LEAST_SIDE = 5  # with 3 oneDNN is as fast


def quick_gradients(module: nn.Module) -> AbstractContextManager[Any]:
    """Return what a forward pass of ``module`` runs in: a context that gives its large depthwise convolutions this gradient.

    For a module that has none, or computes elsewhere than on the processor in float32, a context that does nothing.
    """
    large = [
        part.weight for part in module.modules()
        if isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1 and min(part.kernel_size) >= LEAST_SIDE
    ]  # fmt: skip
    wanted = any(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in large)
    return _QuickGradients() if wanted else nullcontext()


class _QuickGradients(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Carry out what torch is asked for; a large depthwise convolution with another gradient."""
        del types
        kwargs = kwargs or {}
        if func is torch.conv2d:
            convolution = _large_depthwise(*args, **kwargs)
            if convolution is not None:
                return _Depthwise.apply(*convolution)
        return func(*args, **kwargs)


def _large_depthwise(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, int, int] | None:
    """Return the arguments of ``_Depthwise``, named as torch names them, or None where a convolution is another one."""
    channels, per_group, height, width = weight.shape
    usual = input.ndim == 4 and input.dtype == weight.dtype == torch.float32 and input.device.type == "cpu"
    large = groups == channels == input.shape[-3] and per_group == 1 and height == width >= LEAST_SIDE
    steps = _one(stride), _one(padding), _one(dilation)
    if not (usual and large and weight.requires_grad and len(input)) or None in steps or steps[2] != 1:
        return None
    return input, weight, bias, steps[0], steps[1]  # pyright: ignore[reportReturnType] (none of them is None)


def _one(value: Any) -> int | None:
    """Return the one number that a setting holds for both axes, or None."""
    values = {value} if isinstance(value, (int, str)) else set(value)
    only = values.pop() if len(values) == 1 else None
    return only if isinstance(only, int) else None


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution: x (N, C, H, W), weight (C, 1, S, S), bias (C,) or None, float32 -> (N, C, h, w)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(x, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from descend.transfer.depthwise_kernels import weight_gradient  # Numba takes half a second: only those who train

        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        channels, _, side, _ = weight.shape
        stride, padding = ctx.stride, ctx.padding
        grad_x, _, grad_bias = torch.ops.aten.convolution_backward(
            grad,
            x,
            weight,
            ctx.bias_sizes,
            [stride] * 2,
            [padding] * 2,
            [1, 1],
            False,
            [0, 0],
            channels,
            [for_x, False, for_bias],
        )
        grad_weight = None
        if for_weight:
            last = [t.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).numpy() for t in (x.detach(), grad)]
            sums = weight_gradient(last[0], last[1], side, stride, padding, torch.get_num_threads())
            grad_weight = torch.from_numpy(sums).permute(2, 0, 1).reshape(weight.shape).contiguous()
        return grad_x, grad_weight, grad_bias, None, None

"""DropConnect's per-sample product on a CPU: one kernel forward and one backward, not a masked copy of the weights per sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from descend.regularize.masked_product_kernels import Masked
from descend.regularize.masks import Draw, forced

Plain = Callable[[Tensor, Tensor], Tensor]


def suits(x: Tensor, weight: Tensor) -> bool:
    """Return whether the kernels take these tensors: plain ones of a CPU, float32 or float64, at their own precision."""
    alike = type(x) is Tensor and x.device.type == weight.device.type == "cpu" and x.dtype == weight.dtype
    return (
        alike
        and x.numel() > 0
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and forced.get() is None
    )


def masked_product(x: Tensor, weight: Tensor, draw: Draw, p: float, plain: Plain) -> Tensor:
    """Return ``x[b] (M[b] * W)^T / (1 - p)`` for each sample b: x (B, ..., in), weight (out, in) -> (B, ..., out).

    plain: the same from (x, weight) in differentiable operations, for whoever differentiates the gradient.
    """
    masked = Masked(draw.ids, draw.key, p, 1 / (1 - p))
    return _MaskedProduct.apply(x, weight, masked, plain)


class _MaskedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, masked: Masked, plain: Plain) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.masked, ctx.plain = masked, plain
        y = masked.multiply(_rows(x, masked), weight.detach().contiguous().numpy(), torch.get_num_threads())
        return torch.from_numpy(y).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient is to be differentiated
            wanted = [tensor for tensor in (x, weight) if tensor.requires_grad]
            found = iter(torch.autograd.grad(ctx.plain(x, weight), wanted, grads[0], create_graph=True))
            return *(next(found) if tensor.requires_grad else None for tensor in (x, weight)), None, None
        g, matrix = _rows(grads[0], ctx.masked), weight.detach().contiguous().numpy()
        dx, dw = ctx.masked.multiply_back(g, _rows(x, ctx.masked), matrix, torch.get_num_threads())
        return torch.from_numpy(dx).view(x.shape), torch.from_numpy(dw), None, None


def _rows(x: Tensor, masked: Masked) -> Any:
    """Return (B, ..., n) as an array (B, M, n): all rows of a sample go through its weights."""
    return x.detach().contiguous().view(masked.ids.size, -1, x.shape[-1]).numpy()

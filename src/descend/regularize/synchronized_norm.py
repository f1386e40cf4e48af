"""Batch normalization over the rows of several processes, exactly: one sum over all in the forward, one in the backward pass.

    n, mean, var = of all rows of all processes
    y  = (x - mean) / sqrt(var + eps) * gamma + beta
    dx = gamma / sqrt(var + eps) * (dy - sum(dy) / n - x_hat * sum(dy * x_hat) / n)        sums over all rows, too

torch's SyncBatchNorm needs a GPU. This one is a mode instead of a layer: while it is on, every ``batch_norm`` in training form is
computed this way, in whatever layer it stands (torch's, timm's with its activation), and nothing in the model is exchanged. Off,
every layer is what it was.

Source: Ioffe & Szegedy 2015, arXiv:1502.03167, Algorithm 1, over the batch of all processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Total = Callable[[Tensor], None]
"""Replaces a tensor, in place, by its sum over all processes."""


class SynchronizedNorms(TorchFunctionMode):
    """While on, batch norms in training form take their statistics from the rows of all processes.

    total: sums over the processes; all of them must run the same layers. counts: whether this process's rows are among those;
    False where it only keeps the others company.
    """

    def __init__(self, total: Total, *, counts: bool = True) -> None:
        super().__init__()
        self.total, self.counts = total, counts

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Carry out what torch is asked for; a batch norm in training form over all processes."""
        del types
        if func is F.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Do what ``torch.nn.functional.batch_norm`` does, with its arguments."""
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        n, mean, var = self._statistics(input.detach())
        if n < 2:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(input.shape)}")
        with torch.no_grad():
            for running, seen in ((running_mean, mean), (running_var, var * (n / (n - 1)))):
                if running is not None:
                    running.lerp_(seen.to(running.dtype), momentum)
        dtype = torch.float32 if input.dtype in (torch.float16, torch.bfloat16) else input.dtype
        return _Normalized.apply(input, weight, bias, mean.to(dtype), var.to(dtype), n, eps, self)  # pyright: ignore[reportReturnType]

    def _statistics(self, x: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the number of values in a channel, and its mean and biased variance: float, (C,) float64, (C,) float64."""
        channels = x.shape[1]
        sums = torch.zeros(2 * channels + 1, dtype=torch.float64, device=x.device)
        if self.counts:
            n = x.numel() // channels
            # the kernel of a batch norm's forward pass; torch.var_mean takes many times as long where channels lie last
            mean, var = (value.double() for value in torch.batch_norm_update_stats(x, None, None, 0.0))
            sums[:channels], sums[channels:-1], sums[-1] = mean * n, (var + mean * mean) * n, n
        self.total(sums)
        n = float(sums[-1])
        mean = sums[:channels] / n
        return n, mean, (sums[channels:-1] / n - mean * mean).clamp_(min=0)


class _Normalized(torch.autograd.Function):
    """The normalization by statistics that depend on x: x (N, C, ...) -> the same."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, n: float,
                eps: float, norms: SynchronizedNorms) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight, mean, var)
        ctx.n, ctx.eps, ctx.norms = n, eps, norms
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, mean, var = ctx.saved_tensors
        # torch's own kernel for statistics that stand still gives the first term of dx, and both sums over the rows that are here
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([grad_bias, grad_weight]).double()
        ctx.norms.total(sums)
        if ctx.norms.counts:
            shape = (1, -1, *[1] * (x.ndim - 2))
            inverse = (var.double() + ctx.eps).rsqrt()
            factor = inverse / ctx.n if weight is None else inverse * weight.double() / ctx.n
            slope = factor * inverse * sums[1]
            constant = factor * sums[0] - mean.double() * slope
            grad_x.sub_(torch.addcmul(constant.to(x.dtype).view(shape), x, slope.to(x.dtype).view(shape)))
        for_weight, for_bias = ctx.needs_input_grad[1:3]
        return grad_x, grad_weight if for_weight else None, grad_bias if for_bias else None, *[None] * 5

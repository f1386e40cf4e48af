"""Fold batch normalization into the convolution before it: in inference both are linear, so one of them is enough.

    gamma (w * x + b - mean) / sqrt(var + eps) + beta  =  w' * x + b'
    w' = w gamma / sqrt(var + eps)        b' = beta + (b - mean) gamma / sqrt(var + eps)

Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of ``module``, for inference only, in which every norm that directly follows a convolution is folded.

    example: one input, to see what follows what. If the folded copy disagrees on it (a convolution's output that is also
    used elsewhere), an unfolded copy is returned instead.
    """
    learning = any(part.training for part in module.modules())
    plain = copy.deepcopy(module).eval() if learning else module  # a copy takes as long as several passes
    made = copy.deepcopy(plain)
    names = {part: name for name, part in made.named_modules()}
    for conv, norm in _pairs(made, example):
        made.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))
        made.set_submodule(names[norm], _what_remains(norm))
    with torch.inference_mode():
        expected, found = plain(example), made(example)
    return made if agrees(found, expected) else copy.deepcopy(plain)


def agrees(found: Tensor, expected: Tensor) -> bool:
    """Return whether two tensors of one shape are the same but for rounding in another order of the same operations."""
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


class _Folded(torch.autograd.Function):
    """The two tensors of a convolution and the frozen norm behind it, and their gradients: a few operations instead of dozens."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        inverse = torch.rsqrt(var + eps)
        scale = gamma * inverse
        ctx.save_for_backward(weight, mean, inverse, scale)
        return (weight * scale.view(-1, 1, 1, 1)).to(dtype), torch.addcmul(beta, mean, scale, value=-1).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_weight: Tensor, grad_bias: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, mean, inverse, scale = ctx.saved_tensors
        for_weight, for_gamma, for_beta, for_mean = ctx.needs_input_grad[:4]
        grad_weight, grad_bias = grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)
        of_scale = torch.addcmul((grad_weight * weight).sum((1, 2, 3)), grad_bias, mean, value=-1) if for_gamma else None
        return (
            grad_weight * scale.view(-1, 1, 1, 1) if for_weight else None,
            of_scale * inverse if of_scale is not None else None,
            grad_bias if for_beta else None,
            -grad_bias * scale if for_mean else None,
            None, None, None,
        )  # fmt: skip


class FrozenNormConv(nn.Module):
    """A convolution and the frozen norm behind it as one convolution, whose weights are made from both at every call.

    Its gradients are those of the two in turn, for the convolution's weight and the norm's gamma and beta alike: where mean and
    variance stand still, the norm is linear. What is saved are two passes over the map forwards, and two backwards.
    """

    def __init__(self, conv: nn.Module, norm: Any) -> None:
        super().__init__()
        self.norm, self.conv = norm, copy.copy(conv)  # they share their tensors with the originals
        bias = nn.Parameter(torch.zeros_like(norm.running_mean), requires_grad=False)  # a place for what is given at each call
        self.conv._parameters = {**conv._parameters, "bias": bias}
        self.bias = conv._parameters["bias"]

    def folded(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias (K,) of the one convolution that they are together, in ``dtype`` or their own."""
        norm, weight = self.norm, self.conv.get_parameter("weight")
        mean = norm.running_mean if self.bias is None else norm.running_mean - self.bias
        return _Folded.apply(weight, norm.weight, norm.bias, mean, norm.running_var, norm.eps, dtype or weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized map, before the activation: x (B, C, H, W) -> (B, K, h, w)."""
        weight, bias = self.folded()
        return functional_call(self.conv, {"weight": weight, "bias": bias}, (x,))


def with_frozen_norms(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of ``module`` that shares its tensors and trains them faster: norms in inference form join convolutions.

    example: one input (B, C, H, W), to see what follows what. Norms that learn from batches stay as they are; where the copy
    disagrees on the example, ``module`` itself is returned. Activations in place are undone: torch copies there.
    """
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    made = copy.deepcopy(module, tensors)
    standing = {part for part in made.modules() if isinstance(part, _BatchNorm) and not part.training and part.affine}
    with evaluating(module, made):  # the example must teach no norm
        names = {part: name for name, part in made.named_modules()}
        for conv, norm in _pairs(made, example):
            if norm in standing and norm.track_running_stats:
                made.set_submodule(names[conv], FrozenNormConv(conv, norm))
                made.set_submodule(names[norm], _what_remains(norm))
        for part in made.modules():
            if getattr(part, "inplace", False):
                vars(part)["inplace"] = False
        with torch.inference_mode():
            expected, found = module(example), made(example)
    return made if agrees(found, expected) else module


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Let every part of these modules stand in inference form within the block; afterwards each stands as it stood."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training


def _pairs(module: nn.Module, example: Tensor) -> list[tuple[Any, Any]]:
    """Run ``module`` once and note which norm reads exactly what which convolution wrote."""
    written: list[tuple[Tensor, nn.Module]] = []  # holds the tensors, so that no memory is used twice
    pairs: list[tuple[Any, Any]] = []

    def after_conv(conv: nn.Module, _: Any, output: Tensor) -> None:
        written.append((output, conv))

    def before_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        pairs.extend((conv, norm) for output, conv in written if output is inputs[0])

    hooks = [part.register_forward_hook(after_conv) for part in module.modules() if isinstance(part, nn.Conv2d)]
    hooks += [part.register_forward_pre_hook(before_norm) for part in module.modules() if isinstance(part, _BatchNorm)]
    with torch.inference_mode():
        module(example)
    for hook in hooks:
        hook.remove()
    return pairs


def _what_remains(norm: nn.Module) -> nn.Module:
    """Return the activation of a timm norm, which carries one; nothing of a plain one."""
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()

"""Inverted residual blocks whose norms stand still, trained several times faster on processors.

    z = x W1 + b1        y = clip(depthwise(clip(z)) + b2)        out = y W3 + b3 (+ x)        clip(a) = min(max(a, 0), ceiling)

A block of MobileNetV2 and its heirs (Sandler et al. 2018, arXiv:1801.04381, figure 3) has its multiplications in two 1 x 1
convolutions and loses its time between them: activations are passes over wide maps, and so are their gradients, and torch is
slow at the gradients of depthwise convolutions. Here 1 x 1 convolutions are matrix products over maps with channels innermost,
and what is between them is one kernel forwards and one backwards. Where the processor multiplies bfloat16 faster, maps and
products are bfloat16, and half of the memory is moved. Weights, their gradients, and the sums of depthwise convolutions are
float32 always.
"""

from __future__ import annotations

import copy
import math
import time
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from descend.transfer.folding import FrozenNormConv, evaluating, with_frozen_norms

LEAST_AGREEMENT = 0.99  # cosine between what the quick and the plain network make of an example
LANES = 16  # channels that the kernels work on at once
PAYS = 0.8  # of the time of float32 products, below which bfloat16 ones are used


def quick_training(module: nn.Module, example: Tensor, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return the quickest form of ``module`` to train where its norms stand still: it shares the module's tensors.

    example: one input. dtype: of maps and products in inverted residual blocks.
    """
    return with_quick_blocks(with_frozen_norms(module, example), example, dtype)


def with_quick_blocks(module: nn.Module, example: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return a copy of ``module`` that shares its tensors and computes its inverted residual blocks quickly, in ``dtype``.

    module: what ``with_frozen_norms`` made. example: one input (B, 3, H, W). Where there is no such block, where a block holds
    what the kernels do not know (squeeze and excitation, other activations, norms that learn), or where the copy disagrees on
    the example, ``module`` itself is returned.
    """
    if example.device.type != "cpu" or example.dtype != torch.float32:
        return module
    made = copy.deepcopy(module, {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())})
    blocks = {name: part for name, part in made.named_modules() if _is_block(part)}
    for name, part in blocks.items():
        block = _quick(part, dtype)
        if block is None:
            return module
        made.set_submodule(name, block)
    if not blocks:
        return module
    inside = tuple(f"{name}." for name in blocks)
    for name, part in [*made.named_modules()]:
        if isinstance(part, FrozenNormConv) and _is_pointwise(part.conv) and not name.startswith(inside):
            made.set_submodule(name, Pointwise(part, dtype))
    return made if _agree(made, module, example) else module


@cache
def bfloat16_pays() -> bool:
    """Return whether this processor multiplies matrices of bfloat16 clearly faster than those of float32: measured once."""
    x, weight = torch.ones(2048, 240), torch.ones(80, 240)
    pairs = [(x, weight), (x.bfloat16(), weight.bfloat16())]
    best = [math.inf, math.inf]
    for _ in range(8):
        for k, (a, b) in enumerate(pairs):
            began = time.perf_counter()
            nn.functional.linear(a, b)
            best[k] = min(best[k], time.perf_counter() - began)
    return best[1] < PAYS * best[0]


class Pointwise(nn.Module):
    """A 1 x 1 convolution and its frozen norm as a matrix product in ``dtype``: x (B, C, H, W) -> (B, K, H, W) float32."""

    def __init__(self, conv: FrozenNormConv, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv, self.dtype = conv, dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return the map, before the activation."""
        return _product(x.to(self.dtype).permute(0, 2, 3, 1), self.conv).permute(0, 3, 1, 2).float()


class QuickBlock(nn.Module):
    """An inverted residual block: x (B, C, H, W) -> (B, K, h, w) in ``dtype``, channels last.

    expand: the first 1 x 1 convolution, None in a block that has none: then nothing clips what the depthwise one reads.
    ceilings: of the activations behind ``expand`` and behind ``spatial``.
    """

    def __init__(
        self, expand: FrozenNormConv | None, spatial: FrozenNormConv, project: FrozenNormConv, *,
        ceilings: tuple[float, float], has_skip: bool, dtype: torch.dtype,
    ) -> None:  # fmt: skip
        super().__init__()
        self.expand, self.spatial, self.project = expand, spatial, project
        self.ceilings, self.has_skip, self.dtype = ceilings, has_skip, dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        x = x.to(self.dtype).permute(0, 2, 3, 1)
        z = x if self.expand is None else _product(x, self.expand)
        floor, first = (-math.inf, math.inf) if self.expand is None else (0.0, self.ceilings[0])
        weight, bias = self.spatial.folded()
        geometry = _geometry(self.spatial.conv, z.shape[1], z.shape[2])
        y = _ClippedDepthwise.apply(z, weight[:, 0].permute(1, 2, 0), bias, geometry, (floor, first, self.ceilings[1]))
        out = _product(y, self.project)
        return (out + x if self.has_skip else out).permute(0, 3, 1, 2)


def _product(x: Tensor, conv: FrozenNormConv) -> Tensor:
    """Return what a 1 x 1 convolution makes of a map with its channels innermost."""
    weight, bias = conv.folded(x.dtype)
    return nn.functional.linear(x, weight.flatten(1), bias)


class _ClippedDepthwise(torch.autograd.Function):
    """clip(bias + depthwise(clip(x))): x (N, H, W, C), weight (S, S, C), bias (C,) -> (N, h, w, C); see the kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, geometry: Any, limits: tuple[float, float, float]) -> Tensor:
        from descend.transfer.inverted_residual_kernels import forward  # Numba takes half a second: only those who train

        x, weight = x.contiguous(), weight.contiguous()
        y = forward(_array(x), weight.detach().numpy(), bias.detach().numpy(), geometry, limits, torch.get_num_threads())
        out = torch.from_numpy(y).view(x.dtype)
        ctx.save_for_backward(x, out, weight)
        ctx.geometry, ctx.limits = geometry, limits
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from descend.transfer.inverted_residual_kernels import backward

        x, out, weight = ctx.saved_tensors
        maps = (_array(x), _array(out), _array(grad.contiguous()))
        found = backward(*maps, weight.detach().numpy(), ctx.geometry, ctx.limits, torch.get_num_threads())
        grads = (torch.from_numpy(found[0]).view(x.dtype), torch.from_numpy(found[1]), torch.from_numpy(found[2]))
        return *(g if wanted else None for g, wanted in zip(grads, ctx.needs_input_grad, strict=False)), None, None


def _array(x: Tensor) -> Any:
    """Return a tensor as the kernels read it: bfloat16 as int16."""
    return x.detach().view(torch.int16 if x.dtype == torch.bfloat16 else x.dtype).numpy()


def _geometry(conv: Any, height: int, width: int) -> Any:
    """Return how a convolution moves over maps of this size; ``Conv2dSame`` of timm pads as TensorFlow does."""
    from descend.transfer.inverted_residual_kernels import Geometry

    side, stride = conv.kernel_size[0], conv.stride[0]
    sizes, before = [], []
    for n, padding in zip((height, width), conv.padding, strict=True):
        if _pads_itself(conv):
            sizes.append(math.ceil(n / stride))
            before.append(max((sizes[-1] - 1) * stride + side - n, 0) // 2)
        else:
            sizes.append((n + 2 * padding - side) // stride + 1)
            before.append(padding)
    return Geometry(side, stride, height, width, sizes[0], sizes[1], before[0], before[1])


# ------------------------------------------------------------------------------------------------ what a block is made of


class _Parts(NamedTuple):
    """The parts of a block of timm: convolutions, and what follows those that are not last."""

    expand: tuple[Any, Any] | None
    spatial: tuple[Any, Any]
    project: Any


_READERS = {
    "InvertedResidual": lambda b: _Parts((b.conv_pw, b.bn1), (b.conv_dw, b.bn2), (b.conv_pwl, b.bn3)),
    "DepthwiseSeparableConv": lambda b: _Parts(None, (b.conv_dw, b.bn1), (b.conv_pw, b.bn2)),
}


def _is_block(part: nn.Module) -> bool:
    return type(part).__name__ in _READERS and type(part).__module__.startswith("timm.")


def _quick(block: Any, dtype: torch.dtype) -> QuickBlock | None:
    """Return the quick form of a block of timm, or None where it holds what that does not know."""
    parts = _READERS[type(block).__name__](block)
    others = [block.aa, block.se, block.drop_path, parts.project[1]]
    convs = [pair[0] for pair in parts if pair is not None]
    ceilings = [_ceiling(pair[1]) for pair in parts[:2] if pair is not None]
    if not all(type(other) is nn.Identity for other in others) or not all(isinstance(conv, FrozenNormConv) for conv in convs):
        return None
    if getattr(block, "conv_s2d", None) is not None or None in ceilings or not _is_plain_depthwise(parts.spatial[0].conv):
        return None
    if not all(_is_pointwise(conv.conv) for conv in convs if conv is not parts.spatial[0]):
        return None
    first, last = ceilings[0], ceilings[-1]
    assert first is not None
    assert last is not None
    return QuickBlock(
        parts.expand and parts.expand[0], parts.spatial[0], parts.project[0], ceilings=(first, last), has_skip=block.has_skip,
        dtype=dtype,
    )  # fmt: skip


def _ceiling(activation: nn.Module) -> float | None:
    """Return where an activation ends to rise, None for one that is no clipping from 0 on."""
    return {nn.ReLU6: 6.0, nn.ReLU: math.inf}.get(type(activation))  # pyright: ignore[reportArgumentType] (any type may be asked for)


def _is_pointwise(conv: Any) -> bool:
    return (*conv.kernel_size, *conv.stride, conv.groups) == (1, 1, 1, 1, 1) and conv.padding in ((0, 0), "same", "valid")


def _is_plain_depthwise(conv: Any) -> bool:
    """Return whether the kernels compute a convolution: depthwise, square, in whole registers of channels."""
    channels, (side, across), (step, steps) = conv.in_channels, conv.kernel_size, conv.stride
    square = side == across and step == steps and side in (3, 5, 7) and tuple(conv.dilation) == (1, 1)
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return square and zeros and conv.groups == conv.out_channels == channels and channels % LANES == 0


def _pads_itself(conv: Any) -> bool:
    return type(conv).__name__ == "Conv2dSame"


def _agree(made: nn.Module, module: nn.Module, example: Tensor) -> bool:
    """Return whether two networks say the same of an example, as far as their precision goes."""
    try:
        with evaluating(module, made), torch.inference_mode():
            expected, found = module(example).double(), made(example).double()
    except (RuntimeError, ValueError):  # a map of another dtype reached a part that was not replaced
        return False
    return bool(nn.functional.cosine_similarity(expected.flatten(), found.flatten(), dim=0) >= LEAST_AGREEMENT)

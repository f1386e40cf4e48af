"""DropConnect: drop single weights instead of whole units, and average over the masks by matching moments.

Dropout is the special case in which all the weights that leave a unit go together. Under DropConnect the input of each
unit is a sum of many independent terms, close to a normal variable whose mean and variance are known exactly, which gives
test time two answers: the mean weight, and the paper's Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from descend.errors import KnobError, ModelError
from descend.regularize.masked_product import masked_product, suits
from descend.regularize.masks import Draw, MaskSource, checked_choice, checked_probability
from descend.regularize.subclassing import become
from descend.untraced import untraced

Per = Literal["sample", "batch"]
Inference = Literal["mean", "gaussian"]
Activation = Literal["none", "relu"]
Operation = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class _Masking:
    """What the two layers share: their masks, their two moments, and the choice between the forms."""

    def __init__(self, who: str, p: float, per: str, inference: str, activation: str, source: MaskSource) -> None:
        self.p, self.source = checked_probability(who, p), source
        self.per = checked_choice(who, "per", per, ("sample", "batch"))
        self.inference = checked_choice(who, "inference", inference, ("mean", "gaussian"))
        self.activation = checked_choice(who, "activation", activation, ("none", "relu"))
        if inference == "gaussian" and activation == "none":
            raise KnobError(who, "inference='gaussian' has no effect without an activation",
                            fix="Say activation='relu', or use inference='mean': the means agree.")  # fmt: skip

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: Operation, training: bool) -> Tensor:
        """Return the layer's output, with its activation."""
        if self.p == 0 or 0 in (x.shape[0], weight.shape[0]):  # without samples, or outputs, nothing is dropped
            return self._activated(op(x, weight, bias))
        if training:
            drop = self._drop_per_batch if self.per == "batch" else self._drop_per_sample
            return self._activated(drop(x, weight, bias, op))
        if self.inference == "mean":
            return self._activated(op(x, weight, bias))
        return expected_relu(*self.moments(x, weight, bias, op))

    def moments(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: Operation) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the layer's sum over all masks: op(x, W, b) and p/(1-p) op(x^2, W^2, b^2)."""
        variance = op(x.square(), weight.square(), None if bias is None else bias.square())
        return op(x, weight, bias), variance * (self.p / (1 - self.p))

    def _activated(self, u: Tensor) -> Tensor:
        return F.relu(u) if self.activation == "relu" else u

    def _masked(self, draw: Draw, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias times the mask of a draw of one row; the paper masks the biases too."""
        n = weight.numel()
        mask = draw.keep(n + (0 if bias is None else bias.numel()), self.p, weight, scale=1 / (1 - self.p))[0]
        mask = mask.to(weight.dtype)
        return weight * mask[:n].view_as(weight), None if bias is None else bias * mask[n:]

    @untraced
    def _drop_per_batch(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: Operation) -> Tensor:
        return op(x, *self._masked(self.source.per_batch(), weight, bias))

    @untraced
    def _drop_per_sample(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: Operation) -> Tensor:
        """Run each sample through its own weights, which the backward pass draws again."""
        draw = self.source.per_sample(x.shape[0])
        if op is not F.linear or not suits(x, weight):
            return self._one_by_one(draw, x, weight, bias, op)
        product = masked_product(x, weight, draw, self.p, lambda x, weight: self._one_by_one(draw, x, weight, None, op))
        if bias is None:
            return product
        masks = draw.keep(bias.numel(), self.p, weight, scale=1 / (1 - self.p), first=weight.numel())
        return product + (bias * masks).repeat_interleave(x.shape[0] // draw.ids.size, 0).view(
            x.shape[0], *[1] * (x.ndim - 2), -1
        )

    def _one_by_one(self, draw: Draw, x: Tensor, weight: Tensor, bias: Tensor | None, op: Operation) -> Tensor:
        """Run one sample after the other through a masked copy of the weights, so that one copy lives at a time."""
        size = x.shape[0] // draw.ids.size

        def one(rows: Tensor, row: int) -> Tensor:
            return op(rows, *self._masked(draw.one(row), weight, bias))

        if not torch.is_grad_enabled():
            return torch.cat([one(rows, i) for i, rows in enumerate(x.split(size))])
        parts = [checkpoint(one, rows, i, use_reentrant=False, preserve_rng_state=False) for i, rows in enumerate(x.split(size))]
        return torch.cat(parts)


def expected_relu(mean: Tensor, variance: Tensor) -> Tensor:
    """Return E[max(u, 0)] for u ~ N(mean, variance): ``mean Phi(mean/s) + s phi(mean/s)`` with s = sqrt(variance).

    mean, variance: any equal shape, float; variance >= 0, where 0 gives max(mean, 0).
    """
    s = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
    z = mean / s
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return mean * (0.5 * torch.erfc(-z / math.sqrt(2))) + s * density


class _DropConnect:
    """Mixed into a subclass of ``nn.Linear`` or ``nn.Conv2d``: its own forward, on masked weights."""

    masking: _Masking
    weight: Tensor
    bias: Tensor | None
    training: bool

    def forward(self, input: Tensor) -> Tensor:
        return self.masking.forward(input, self.weight, self.bias, self._with, self.training)

    def _with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what the layer computes from other weights: they hide the parameters while its own forward runs."""
        self.__dict__.update(weight=weight, bias=bias)
        try:
            return super().forward(x)  # pyright: ignore[reportAttributeAccessIssue] (the class it is mixed into has one)
        finally:
            del self.__dict__["weight"], self.__dict__["bias"]


def _adopt(layer: nn.Module, ours: type[nn.Module], plain: type[nn.Module], masking: _Masking) -> None:
    kind = type(layer)
    if kind is plain:
        layer.__class__ = ours
    else:
        become(layer, _DropConnect)
        if not _scales_with_its_weights(layer):
            layer.__class__ = kind
            raise ModelError("dropconnect", f"must mask weights as they are used, but {kind.__name__} computes others from them",
                             fix="Use layers='head', or leave dropconnect out.")  # fmt: skip
    layer.__dict__["masking"] = masking


@torch.no_grad()
def _scales_with_its_weights(layer: Any) -> bool:
    """Return whether twice the weights give exactly twice the output, as in every layer that uses its weights as they are."""
    if isinstance(layer, nn.Conv2d):
        sides = [step * (size - 1) + 1 for step, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        shape = (layer.in_channels, *sides)
    else:
        shape = (layer.in_features,)
    like, masked = layer.weight, cast(Any, layer)
    x = torch.linspace(-1, 1, math.prod(shape), dtype=like.dtype, device=like.device).reshape(1, *shape)
    weight = torch.linspace(-1, 1, like.numel(), dtype=like.dtype, device=like.device).reshape(like.shape)
    bias = None if layer.bias is None else torch.ones_like(layer.bias)
    outputs = [masked._with(x, factor * weight, None if bias is None else factor * bias) for factor in (1, 2)]
    return torch.equal(outputs[1], 2 * outputs[0])


class DropConnectLinear(nn.Linear):
    """A linear layer whose single weights and biases are dropped with probability p while training.

    When to prefer it: large fully connected layers; the paper found it a little better than dropout and several times as
    slow. The per-sample form draws a mask of all weights for every sample as it multiplies, and again in the backward pass,
    and holds none; it takes 1 to 3 times as long as ``per="batch"``, which draws one for all, where p is 0.5 and a bit
    decides, and 1.5 to 7 times where p is 0.1 (``benchmarks/dropconnect.py``).

        training                 a(x (M * W)^T / (1 - p) + (m * b) / (1 - p))      M, m ~ Bernoulli(1 - p)
        inference "mean"         a(x W^T + b)
        inference "gaussian"     E[a(u)],  u ~ N(x W^T + b,  p/(1-p) (x^2 (W^2)^T + b^2))

    a is ``activation``: "none" or "relu". *Differs from the paper:* weights are scaled up in training instead of down at
    test time; E[relu(u)] is its closed form, the limit of the paper's samples; other activations can sample ``moments``.

    x: (B, ..., in_features), float. State names are those of ``nn.Linear``.
    Raises KnobError for p outside [0, 1), unknown choices, or "gaussian" without an activation.

    Source: Wan, Zeiler, Zhang, LeCun & Fergus 2013, 'Regularization of neural networks using DropConnect', ICML, Alg. 1-2.
    """

    def __init__(self, in_features: int, out_features: int, p: float, *, bias: bool = True, per: Per = "sample",
                 inference: Inference = "mean", activation: Activation = "none", stream: str = "dropconnect",
                 seed: int = 0) -> None:  # fmt: skip
        super().__init__(in_features, out_features, bias)
        self.masking = _Masking("DropConnectLinear", p, per, inference, activation, MaskSource(seed, stream))

    @classmethod
    def adopt(cls, layer: nn.Linear, p: float, *, per: Per = "sample", stream: str = "dropconnect", seed: int = 0) -> None:
        """Mask the weights of a plain layer, or of one of a subclass, in place: the same object, parameters and names.

        A subclass keeps its own forward. Raises ModelError where that is not linear in ``weight`` and ``bias``.
        """
        _adopt(layer, cls, nn.Linear, _Masking(cls.__name__, p, per, "mean", "none", MaskSource(seed, stream)))

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, ..., out_features)."""
        return self.masking.forward(input, self.weight, self.bias, F.linear, self.training)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance over all masks of the sum before the activation, each (B, ..., out_features)."""
        return self.masking.moments(x, self.weight, self.bias, F.linear)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f"{super().extra_repr()}, p={self.masking.p}, per={self.masking.per!r}, inference={self.masking.inference!r}"


class DropConnectConv2d(nn.Conv2d):
    """A convolution whose single kernel weights and biases are dropped with probability p while training.

    The same three forms as ``DropConnectLinear``, with a convolution for the product. A dropped weight is missing at every
    place of the picture, so that the sums at different places share their masks: the Gaussian is exact in each place's mean
    and variance and says nothing about how places go together. Per sample costs one convolution call per sample.

    x: (B, C, H, W), float. State names are those of ``nn.Conv2d``; zero padding only.
    Raises KnobError as ``DropConnectLinear``.

    Source: Wan et al. 2013 (see ``DropConnectLinear``), whose own convolutions are not masked.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], p: float, *,
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0, dilation: int | tuple[int, int] = 1,
                 groups: int = 1, bias: bool = True, per: Per = "sample", inference: Inference = "mean",
                 activation: Activation = "none", stream: str = "dropconnect", seed: int = 0) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation,
                         groups=groups, bias=bias)  # fmt: skip
        self.masking = _Masking("DropConnectConv2d", p, per, inference, activation, MaskSource(seed, stream))

    @classmethod
    def adopt(cls, layer: nn.Conv2d, p: float, *, per: Per = "sample", stream: str = "dropconnect", seed: int = 0) -> None:
        """Mask the weights of a plain layer, or of one of a subclass, in place: the same object, parameters and names.

        A subclass keeps its own forward. Raises ModelError where that is not linear in ``weight`` and ``bias``.
        """
        _adopt(layer, cls, nn.Conv2d, _Masking(cls.__name__, p, per, "mean", "none", MaskSource(seed, stream)))

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, out_channels, H', W')."""
        return self.masking.forward(input, self.weight, self.bias, self._conv_forward, self.training)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance over all masks of the sum before the activation, each (B, out_channels, H', W')."""
        return self.masking.moments(x, self.weight, self.bias, self._conv_forward)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f"{super().extra_repr()}, p={self.masking.p}, per={self.masking.per!r}, inference={self.masking.inference!r}"

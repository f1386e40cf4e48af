"""Networks for small pictures, written out to be read: three answers to "how deep, how wide, and what holds it together".

All three speak the same sentence, "convolve, normalize, rectify", and differ in what they build from it:

* ``SmallCNN`` stacks it: five plain convolutions, pooled to a vector. For 8 to 28 pixels.
* ``ResNet9`` adds two shortcuts and much width: quick to train to over 90% on CIFAR-10. For 32 pixels.
* ``ResNet20`` adds depth: eighteen thin layers which only train well because every pair of them is bridged.

Weights are drawn as He et al. (2015) derived for rectifiers: normal, variance 2/fan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from descend import rng
from descend.models.architecture import Architecture
from descend.models.stages import Backbone
from descend.technique import Search, technique

_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # nothing is known about the pictures, so the middle of the scale


class ConvNormReLU(nn.Sequential):
    """Convolve 3x3, normalize over the batch, rectify: (B, c_in, H, W) -> (B, c_out, H / stride, W / stride).

    The convolution has no bias, because the normalization subtracts the mean and adds its own.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)
        self.act = nn.ReLU(inplace=True)


class Residual(nn.Module):
    """``x + f(x)``: what the block learns is the difference to its input, so doing nothing is the easy default."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + f(x)``, the shape of x."""
        return x + self.inner(x)


class BasicBlock(nn.Module):
    """He et al.'s block for CIFAR: two convolutions, a shortcut, and the rectifier *after* the sum.

    Where the block halves the picture the shortcut does too, by taking every second pixel and padding the new channels
    with zeros (their option A): it has no parameters at all.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNormReLU(c_in, c_out, stride=stride)
        self.conv = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)
        self.stride, self.c_new = stride, c_out - c_in

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut(x) + f(x)): (B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.c_new:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.c_new // 2, self.c_new - self.c_new // 2))
        return F.relu(shortcut + self.norm(self.conv(self.first(x))))


class GlobalPool(nn.Module):
    """Pool every channel to one number, its mean or its maximum: (B, C, H, W) -> (B, C)."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C)."""
        return x.amax((2, 3)) if self.how == "max" else x.mean((2, 3))


@technique("smallcnn", source="the plain stack of Simonyan & Zisserman 2015, arXiv:1409.1556, with batch normalization")
class SmallCNN(Architecture):
    """Five plain convolutions for pictures of 8 to 28 pixels; a few seconds of training on digits.

        features = mean over places of c5(c4(c3(c2(c1(x)))))        c(x) = relu(norm(conv(x))), 3 x 3;  c3 and c5 halve the sides
        channels: w, w, 2 w, 2 w, 4 w        w: the width

    The first two keep the full resolution, because an 8-pixel digit has none to give away; then two halvings.
    """

    width: Annotated[int, Ge(1), Search(16, 64, log=True)] = 32

    def build(self, seed: int) -> Backbone:
        """Return it with random weights, a function of ``seed``."""
        w = self.width

        def stages() -> dict[str, nn.Module]:
            return {
                "stem": ConvNormReLU(3, w),
                "block0": ConvNormReLU(w, w),
                "block1": nn.Sequential(ConvNormReLU(w, 2 * w, stride=2), ConvNormReLU(2 * w, 2 * w)),
                "block2": ConvNormReLU(2 * w, 4 * w, stride=2),
                "head": GlobalPool("mean"),
            }

        return _drawn(str(self), stages, seed, n_features=4 * w, native_size=28, min_size=4)


@technique("resnet9", source="Page 2018, 'How to train your ResNet', the network of his DAWNBench entry")
class ResNet9(Architecture):
    """Eight wide convolutions with two shortcuts, for 32-pixel pictures: the quickest way to 90% on CIFAR-10.

        features = max over places of r(h(h(r(h(c(x))))))        channels: w, 2 w, 2 w, 4 w, 8 w, 8 w        w: the width
        c(x) = relu(norm(conv(x))), 3 x 3        r(x) = x + c(c(x))        h(x) = maxima of c(x) over 2 x 2 pixels

    At width 64 it has 6.6 M parameters, most of them where the picture is smallest; width 16 suits one slow processor.
    *Differs from the source:* no scaling of the logits by 1/8, which belongs to his loss, not to the network.
    """

    width: Annotated[int, Ge(1), Search(16, 128, log=True)] = 64

    def build(self, seed: int) -> Backbone:
        """Return it with random weights, a function of ``seed``."""
        w = self.width

        def halve(c_in: int, c_out: int) -> nn.Sequential:
            return nn.Sequential(ConvNormReLU(c_in, c_out), nn.MaxPool2d(2))

        def bridge(c: int) -> Residual:
            return Residual(ConvNormReLU(c, c), ConvNormReLU(c, c))

        def stages() -> dict[str, nn.Module]:
            return {
                "stem": ConvNormReLU(3, w),
                "block0": nn.Sequential(halve(w, 2 * w), bridge(2 * w)),
                "block1": halve(2 * w, 4 * w),
                "block2": nn.Sequential(halve(4 * w, 8 * w), bridge(8 * w)),
                "head": GlobalPool("max"),
            }

        return _drawn(str(self), stages, seed, n_features=8 * w, native_size=32, min_size=8)


@technique("resnet20", source="He, Zhang, Ren & Sun 2016, arXiv:1512.03385, section 4.2, n = 3")
class ResNet20(Architecture):
    """Nineteen thin convolutions in nine bridged pairs, for 32-pixel pictures: 0.27 M parameters at width 16.

        y = relu(x + norm(conv(relu(norm(conv(x))))))        three times each with w, 2 w and 4 w channels        w: the width
        features = mean over places of the last y        where the sides halve: every second pixel of x, zeros for new channels

    The network to study depth with: without its shortcuts it trains to a *higher* training error than a shallower one.
    """

    width: Annotated[int, Ge(1), Search(8, 64, log=True)] = 16

    def build(self, seed: int) -> Backbone:
        """Return it with random weights, a function of ``seed``."""
        w = self.width

        def layer(c_in: int, c_out: int, stride: int) -> nn.Sequential:
            return nn.Sequential(BasicBlock(c_in, c_out, stride=stride), BasicBlock(c_out, c_out), BasicBlock(c_out, c_out))

        def stages() -> dict[str, nn.Module]:
            return {
                "stem": ConvNormReLU(3, w),
                "layer1": layer(w, w, 1),
                "layer2": layer(w, 2 * w, 2),
                "layer3": layer(2 * w, 4 * w, 2),
                "head": GlobalPool("mean"),
            }

        return _drawn(str(self), stages, seed, n_features=4 * w, native_size=32, min_size=4)


def _drawn(name: str, stages: Callable[[], Mapping[str, nn.Module]], seed: int, *, n_features: int, native_size: int,
           min_size: int) -> Backbone:  # fmt: skip
    """Build the stages with He's weights drawn from ``seed``; torch's own generator is left where it was."""
    with rng.torch_drawn(seed, f"init/{name}"):
        net = Backbone(name, stages(), n_features=n_features, native_size=native_size, mean=_MEAN, std=_STD,
                       crop_fraction=1.0, min_size=min_size)  # fmt: skip
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (torch's stub lacks the overload)

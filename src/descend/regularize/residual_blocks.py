"""Finding the residual blocks of a network, and putting stochastic depth into them.

Two things must be known of a block: where its branch ends, and what is left of it without the branch. Each supported
family says both below; blocks are told apart by the parts they have, so neither timm nor our own room is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from descend.errors import ModelError
from descend.regularize.install import INPUT, OUTPUT, check_free, drop_output, end_of
from descend.regularize.stochastic_depth import StochasticDepth


@dataclass(frozen=True)
class Family:
    """One kind of residual block: how it is known, the ends of its branches, and what it computes without them."""

    matches: Callable[[Any], bool]
    ends: tuple[str, ...]  # attributes: timm's ``drop_path`` places, or the module whose answer is the branch
    without: Callable[[Any, Tensor], Tensor]


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda block: all(hasattr(block, name) for name in names)


def _resnet_without(block: Any, x: Tensor) -> Tensor:
    shortcut = x if block.downsample is None else block.downsample(x)
    return (block.act3 if hasattr(block, "act3") else block.act2)(shortcut)


def _torchvision_without(block: Any, x: Tensor) -> Tensor:
    return F.relu(x if block.downsample is None else block.downsample(x))


def _basic_without(block: Any, x: Tensor) -> Tensor:
    shortcut = x[:, :, :: block.stride, :: block.stride]
    half = block.c_new // 2
    return F.relu(F.pad(shortcut, (0, 0, 0, 0, half, block.c_new - half)))


def _same(_: Any, x: Tensor) -> Tensor:
    return x


FAMILIES = (
    Family(_has("drop_path", "downsample", "act3", "conv3"), ("drop_path",), _resnet_without),  # timm: ResNet50, RegNet
    Family(_has("drop_path", "downsample", "act2", "bn2"), ("drop_path",), _resnet_without),  # timm: ResNet18
    Family(lambda b: _has("drop_path", "has_skip")(b) and b.has_skip, ("drop_path",), _same),  # timm's EfficientNets
    Family(_has("drop_path1", "drop_path2", "norm1", "norm2"), ("drop_path1", "drop_path2"), _same),  # timm's ViTs
    Family(_has("drop_path", "shortcut", "conv_dw", "mlp"), ("drop_path",), lambda b, x: b.shortcut(x)),  # timm's ConvNeXts
    Family(_has("bn3", "relu", "downsample", "conv3"), ("bn3",), _torchvision_without),
    Family(_has("bn2", "relu", "downsample", "conv2"), ("bn2",), _torchvision_without),
    Family(_has("first", "conv", "norm", "stride", "c_new"), ("norm",), _basic_without),  # our BasicBlock
    Family(lambda b: set(b._modules) - {INPUT, OUTPUT} == {"inner"}, ("inner",), _same),  # our Residual
)


def residual_blocks(model: nn.Module) -> list[tuple[str, nn.Module, Family]]:
    """Return every residual block that is known, in the order of the network: name, module, family.

    Raises ModelError where there is none.
    """
    found = []
    for name, module in model.named_modules():
        family = next((family for family in FAMILIES if family.matches(module)), None)
        if family is not None:
            found.append((name, module, family))
    if not found:
        raise ModelError(type(model).__name__, "must have residual blocks of a known kind",
                         fix="Call StochasticDepth.residual in the block's own forward.")  # fmt: skip
    return found


def put_depth(block: nn.Module, family: Family, make: Callable[[str], StochasticDepth]) -> None:
    """Put ``make(end)`` at the end of each branch of ``block``; per batch, one layer decides for all and skips the block.

    timm's places take the layer itself, other ends get it attached. Raises ModelError where a place is taken.
    """
    layers = [make(end) for end in family.ends]
    whole = layers[0].per == "batch"
    for end, layer in zip(family.ends, [layers[0]] * len(layers) if whole else layers, strict=True):
        layer.train(block.training)
        if end.startswith("drop_path"):
            check_free(block, end, StochasticDepth)
            setattr(block, end, layer)
        else:
            drop_output(block.get_submodule(end), layer)
    if whole:
        block.__class__ = _skippable(type(block), family)


@cache
def _skippable(kind: type[nn.Module], family: Family) -> type[nn.Module]:
    """Return ``kind`` with a forward that first asks whether to skip, as torch's parametrisations change a class.

    The block keeps its parameters, its name in the tree and its children.
    """

    class Skippable(kind):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            first = _layer_at(self, family.ends[0])
            if first.skips():
                return family.without(self, args[0])
            with first.known_kept():
                return super().forward(*args, **kwargs)

    Skippable.__name__ = Skippable.__qualname__ = f"Skippable{kind.__name__}"
    return Skippable


def _layer_at(block: nn.Module, end: str) -> StochasticDepth:
    place = block.get_submodule(end)
    found = place if isinstance(place, StochasticDepth) else end_of(place, -1).get_submodule(OUTPUT)
    return cast(StochasticDepth, found)

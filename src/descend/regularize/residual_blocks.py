"""Finding the residual blocks of a network, and putting stochastic depth into them.

Two things must be known of a block: where its branches end, and what is left of it without them. Each supported family says
both below; blocks are told apart by the parts they have, so neither timm, torchvision nor our own models are imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.errors import ModelError
from descend.regularize.install import INPUT, OUTPUT, check_free, drop_output, end_of
from descend.regularize.probe import evaluation_form, readable_pictures
from descend.regularize.stochastic_depth import StochasticDepth
from descend.regularize.subclassing import become

DEPTH_LAYERS = {"DropPath", "StochasticDepth", "Identity", "NoneType"}  # what stands at a place for stochastic depth
Block = tuple[str, nn.Module, "Family"]


@dataclass(frozen=True)
class Family:
    """One kind of residual block: how it is known, the ends of its branches, and what it computes without them.

    ends: names of attributes: places for a depth layer, or modules whose output is the branch.
    without: (block, input) -> output; None where nobody has said.
    """

    name: str
    matches: Callable[[Any], bool]
    ends: Callable[[Any], tuple[str, ...]]
    without: Callable[[Any, Tensor], Tensor] | None


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda block: all(hasattr(block, name) for name in names)


def _at(*names: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda _: names


def _places(block: nn.Module) -> tuple[str, ...]:
    """Return the attributes that hold a depth layer or nothing in its place: timm's drop_path, torchvision's stochastic_depth."""
    names = sorted({*block._modules, *vars(block)})
    return tuple(
        name for name in names
        if name.rstrip("0123456789") in ("drop_path", "stochastic_depth", "stochastic_dropout")
        and type(getattr(block, name)).__name__ in DEPTH_LAYERS
    )  # fmt: skip


def _same(_: Any, x: Tensor) -> Tensor:
    return x


def _shortcut(block: Any, x: Tensor, through: str = "downsample") -> Tensor:
    way = getattr(block, through)
    return x if way is None else way(x)


def _activated(activation: nn.Module, shortcut: Tensor, x: Tensor) -> Tensor:
    """Return the activation of a shortcut; of a copy where it is the input, which an in-place activation would overwrite."""
    return activation(shortcut.clone() if shortcut is x else shortcut)


def _resnet_without(block: Any, x: Tensor) -> Tensor:
    return _activated(block.act3 if hasattr(block, "act3") else block.act2, _shortcut(block, x), x)


def _preact_without(block: Any, x: Tensor) -> Tensor:
    return x if block.downsample is None else block.downsample(block.norm1(x))


def _regnet_without(block: Any, x: Tensor) -> Tensor:
    return _activated(block.activation, _shortcut(block, x, "proj"), x)


def _metaformer_without(block: Any, x: Tensor) -> Tensor:
    return block.res_scale2(block.res_scale1(x))


def _basic_without(block: Any, x: Tensor) -> Tensor:
    shortcut = x[:, :, :: block.stride, :: block.stride]
    half = block.c_new // 2
    return F.relu(F.pad(shortcut, (0, 0, 0, 0, half, block.c_new - half)))


def _torchvision_without(block: Any, x: Tensor) -> Tensor:
    return F.relu(_shortcut(block, x))


def _skips(name: str, flag: str) -> Callable[[Any], bool]:
    return lambda block: hasattr(block, name) and bool(getattr(block, flag, False))


FAMILIES = (
    Family("timm's ResNet, RegNet", _has("drop_path", "downsample", "act3", "conv3"), _at("drop_path"), _resnet_without),
    Family("timm's ResNet18", _has("drop_path", "downsample", "act2", "bn2"), _at("drop_path"), _resnet_without),
    Family("timm's ResNetV2", _has("drop_path", "downsample", "norm1", "conv1"), _at("drop_path"), _preact_without),
    Family(
        "timm's ConvNeXt, MaxViT",
        lambda b: bool(_places(b)) and isinstance(getattr(b, "shortcut", None), nn.Module),
        _places,
        lambda b, x: b.shortcut(x),
    ),
    Family("timm's MetaFormer", _has("drop_path1", "drop_path2", "res_scale1"), _places, _metaformer_without),
    Family("torchvision's ResNet50", _has("bn3", "relu", "downsample", "conv3"), _at("bn3"), _torchvision_without),
    Family("torchvision's ResNet18", _has("bn2", "relu", "downsample", "conv2"), _at("bn2"), _torchvision_without),
    Family("torchvision's RegNet", _has("proj", "f", "activation"), _at("f"), _regnet_without),
    Family("torchvision's MBConv", _skips("stochastic_depth", "use_res_connect"), _at("stochastic_depth"), _same),
    Family("torchvision's MobileNetV3", _skips("block", "use_res_connect"), _at("block"), _same),
    Family("torchvision's MobileNetV2", _skips("conv", "use_res_connect"), _at("conv"), _same),
    Family("torchvision's MNASNet", _skips("layers", "apply_residual"), _at("layers"), _same),
    Family("torchvision's ViT", _has("ln_1", "self_attention", "dropout", "ln_2", "mlp"), _at("dropout", "mlp"), _same),
    Family("our BasicBlock", _has("first", "conv", "norm", "stride", "c_new"), _at("norm"), _basic_without),
    Family("our Residual", lambda b: set(b._modules) - {INPUT, OUTPUT} == {"inner"}, _at("inner"), _same),
    Family("a block with places for depth", lambda b: bool(_places(b)) and _is_residual(b), _places, _same),
)
BY_NAME = {family.name: family for family in FAMILIES}


def _is_residual(block: Any) -> bool:
    """Return whether a block has a shortcut at all: those of efficient networks say so where they have none."""
    return all(getattr(block, flag, True) for flag in ("has_skip", "use_res_connect", "use_shortcut"))


def residual_blocks(model: nn.Module, who: str = "stochastic_depth") -> list[Block]:
    """Return every residual block that is known, in the order of the network: name, module, family.

    Raises ModelError, which names ``who``, where there is none.
    """
    blocks: list[Block] = []
    for name, module in model.named_modules():
        family = next((family for family in FAMILIES if family.matches(module)), None)
        if family is not None:
            blocks.append((name, module, family))
    if not blocks:
        raise ModelError(who, f"{type(model).__name__} must have residual blocks of a known kind",
                         fix="Call StochasticDepth.residual in the block's own forward.")  # fmt: skip
    return blocks


def check_places_free(blocks: Sequence[Block]) -> None:
    """Raise ModelError where a place for a depth layer is taken already."""
    for _, block, family in blocks:
        for end in family.ends(block):
            if _is_place(block, end):
                check_free(block, end, StochasticDepth)
            else:
                check_free(end_of(block.get_submodule(end), -1), OUTPUT, nn.Module)


# -------------------------------------------------------------------------------------------- what is left without branches


@dataclass(frozen=True)
class Rest:
    """What is left of a block without its branches, as running it with these at zero has shown.

    reached: the ends that it came by. constant: it returns the same whatever goes in: there is no shortcut. known: it is what its
    family says.
    """

    reached: tuple[str, ...]
    constant: bool
    known: bool


def with_shortcuts(model: nn.Module, blocks: Sequence[Block], who: str) -> list[Block]:
    """Return the blocks that have a shortcut, each with those ends of branches that a pass really goes through.

    Many networks build a block with and without a shortcut from one class, and leave the place for depth in both. Dropping the
    branch where there is nothing beside it deletes the picture; a layer that no pass reaches only shifts the others' chances.
    Where a model rejects every synthetic picture, its blocks are believed to be what they look like.
    Raises ModelError where no block is left.
    """
    rests, kept = _rests(model, blocks), list[Block]()
    for name, block, family in blocks:
        rest = rests.get(block)
        if rest is None or (rest.reached == family.ends(block) and not rest.constant):
            kept.append((name, block, family))
        elif rest.reached and not rest.constant:
            kept.append((name, block, replace(family, ends=_at(*rest.reached))))
    if not kept:
        raise ModelError(who, f"{type(model).__name__} must have a block with a shortcut beside its branch",
                         got=f"{len(blocks)} without", fix="Choose another regularizer, or a residual network.")  # fmt: skip
    return kept


def check_shortcuts(model: nn.Module, blocks: Sequence[Block], who: str) -> None:
    """Raise ModelError unless every block, its branches switched off, computes what its family says that is left of it.

    Where a model rejects every synthetic picture, its blocks are believed to be what they look like.
    """
    wrong = [type(block).__name__ for block, rest in _rests(model, blocks).items() if not rest.known]
    if wrong:
        raise ModelError(who, "per='batch' must know what a block computes without its branch, and does not", got=wrong[0],
                         fix="Use per='sample'.")  # fmt: skip


def _rests(model: nn.Module, blocks: Sequence[Block]) -> dict[nn.Module, Rest]:
    """Return what is left of each block that a pass on a synthetic picture runs; {} where the model rejects them all."""
    calls: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    pictures = readable_pictures(model, 1)
    with evaluation_form(model), ExitStack() as hooks:
        for _, block, _ in blocks:
            note = block.register_forward_pre_hook(lambda module, *call: calls.update({module: call}), with_kwargs=True)
            hooks.callback(note.remove)
        for picture in pictures:
            model(picture)
    with evaluation_form(model):
        return {block: _rest(block, family, *calls[block]) for _, block, family in blocks if block in calls}


def _rest(block: nn.Module, family: Family, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rest:
    """Return what is left of ``block`` where it is called like this; of one that reads nothing made, its shortcut is believed."""
    try:
        # not the activations that were met: those of a network without trained weights may be flat, or beyond all bounds
        x = torch.linspace(-2, 2, args[0].numel(), dtype=args[0].dtype, device=args[0].device).reshape(args[0].shape)
        with _switched_off(block, family) as reached:
            y, other = (block(made.clone(), *args[1:], **kwargs) for made in (x, -x))
        constant = torch.equal(y, other)
    except Exception:  # whatever a foreign block takes and returns
        return Rest(family.ends(block), constant=False, known=False)
    return Rest(tuple(end for end in family.ends(block) if end in reached), constant, _agree(family, block, x, y))


@contextmanager
def _switched_off(block: nn.Module, family: Family) -> Iterator[set[str]]:
    """Let the branches of ``block`` end in zeros inside, and note which ends a pass has come by."""
    places = {end: getattr(block, end) for end in family.ends(block) if _is_place(block, end)}
    reached: set[str] = set()
    with ExitStack() as stack:
        for end in family.ends(block):
            if end in places:
                stack.callback(setattr, block, end, places[end])
                setattr(block, end, nn.Identity())
            hook = partial(_zeros, reached, end)
            stack.callback(end_of(block.get_submodule(end), -1).register_forward_hook(hook).remove)
        yield reached


def _zeros(reached: set[str], end: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    del module, inputs
    reached.add(end)
    return torch.zeros_like(output)


def _agree(family: Family, block: nn.Module, x: Tensor, output: Any) -> bool:
    try:
        rest = None if family.without is None else family.without(block, x)
    except Exception:  # what a family says is tried on a block that it may not fit
        return False
    return rest is not None and rest.shape == output.shape and torch.allclose(rest, output, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------ putting it in


def put_depth(block: nn.Module, family: Family, make: Callable[[str], StochasticDepth]) -> None:
    """Put ``make(end)`` at the end of each branch of ``block``; per batch, one layer decides for all and skips the block.

    Places for a depth layer take the layer itself, other ends get it attached.
    """
    ends = family.ends(block)
    layers = [make(end) for end in ends]
    whole = layers[0].per == "batch"
    for end, layer in zip(ends, [layers[0]] * len(layers) if whole else layers, strict=True):
        layer.train(block.training)
        if _is_place(block, end):
            setattr(block, end, layer)
        else:
            drop_output(block.get_submodule(end), layer)
    if whole:
        block.__dict__["family"] = family.name
        become(block, _Skippable)


def _is_place(block: nn.Module, end: str) -> bool:
    return type(getattr(block, end)).__name__ in DEPTH_LAYERS


class _Skippable:
    """Mixed into a block: a forward that first asks whether to skip. The block keeps its parameters, name and children."""

    family: str

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        family, block = BY_NAME[self.family], cast(nn.Module, self)
        layer = next(layer for layer in (_layer_at(block, end) for end in family.ends(block)) if layer is not None)
        if layer.skips():
            assert family.without is not None  # checked when it was installed
            return family.without(block, args[0])
        with layer.known_kept():
            return super().forward(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue] (the class it is mixed into has one)


def _layer_at(block: nn.Module, end: str) -> StochasticDepth | None:
    """Return the depth layer at an end of a branch; None where a pass does not come by, so that none was put there."""
    if _is_place(block, end):
        place = getattr(block, end)
        return place if isinstance(place, StochasticDepth) else None
    return cast(StochasticDepth, end_of(block.get_submodule(end), -1).get_submodule(OUTPUT))

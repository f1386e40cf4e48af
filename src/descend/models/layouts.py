"""Where a timm model can be cut: the known layouts, each checked against the model itself before it is believed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Stages = dict[str, nn.Module]
# what a model raises that is cut by the layout of another family: it lacks a part, or its parts expect other inputs
_OF_ANOTHER_FAMILY = (AttributeError, TypeError, RuntimeError, ValueError, AssertionError, IndexError, KeyError)


def stages_of(model: Any, size: int) -> Stages:
    """Return ``model`` (timm, without classifier) as named stages whose chain computes the same bits on one picture.

    size: pixels of the picture used for the check. A model of no known layout is one stage, ``all``.
    """
    probe = torch.linspace(-2, 2, 3 * size * size).reshape(1, 3, size, size)
    model.eval()
    with torch.inference_mode():
        expected = model(probe)
        for layout in LAYOUTS:
            try:
                stages = layout(model)
                same = torch.equal(nn.Sequential(*stages.values()).eval()(probe), expected)
            except _OF_ANOTHER_FAMILY:
                continue
            if same:
                return stages
    return {"all": model}


def _chain(model: Any, *names: str) -> nn.Sequential:
    chain = nn.Sequential()
    for name in names:
        part = getattr(model, name)
        if not isinstance(part, nn.Identity):
            chain.add_module(name, part)
    return chain


def _numbered(prefix: str, modules: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((f"{prefix}{i}", module) for i, module in enumerate(modules.children()))


def efficientnet(model: Any) -> Stages:
    """EfficientNet, MobileNetV2 and their kin: stem, blocks, a last 1x1 convolution, pooling."""
    head = _chain(model, "conv_head", "bn2", "global_pool")
    return {"stem": _chain(model, "conv_stem", "bn1"), **dict(_numbered("block", model.blocks)), "head": head}


def mobilenetv3(model: Any) -> Stages:
    """MobileNetV3: pools before its last convolution."""
    head = _chain(model, "global_pool", "conv_head", "norm_head", "act2", "flatten")
    return {"stem": _chain(model, "conv_stem", "bn1"), **dict(_numbered("block", model.blocks)), "head": head}


def resnet(model: Any) -> Stages:
    """ResNet, ResNeXt, SE- and Wide-ResNet: stem, four layers of blocks, pooling."""
    layers: Stages = {name: getattr(model, name) for name in ("layer1", "layer2", "layer3", "layer4")}
    return {"stem": _chain(model, "conv1", "bn1", "act1", "maxpool"), **layers, "head": _chain(model, "global_pool")}


def convnext(model: Any) -> Stages:
    """ConvNeXt: stem, four stages, pooling and a norm."""
    return {"stem": model.stem, **dict(_numbered("stage", model.stages)), "head": _chain(model, "norm_pre", "head")}


def regnet(model: Any) -> Stages:
    """RegNet: stem, s1 to s4, pooling."""
    layers: Stages = {name: getattr(model, name) for name in ("s1", "s2", "s3", "s4")}
    return {"stem": model.stem, **layers, "head": _chain(model, "final_conv", "head")}


def hgnet(model: Any) -> Stages:
    """HGNet and HGNetV2: stem, four stages, pooling and a last 1x1 convolution."""
    return {"stem": model.stem, **dict(_numbered("stage", model.stages)), "head": model.head}


def transformer(model: Any) -> Stages:
    """Vision transformer: patch embedding with its tokens, blocks, then a norm and the pooling of tokens."""
    stem, head = _without(model, "norm", "fc_norm", "attn_pool"), _without(model, "patch_embed", "norm_pre")
    head._parameters = {}  # class token and positions belong to the stem
    return {"stem": _Embedding(stem), **dict(_numbered("block", model.blocks)), "head": _TokenPooling(head)}


def rotary_transformer(model: Any) -> Stages:
    """Vision transformer with rotary positions (EVA, DINOv3): as ``transformer``, each block with the rotation of its places."""
    with torch.inference_mode(False), torch.no_grad():  # a tensor made in inference mode could take no part in training
        rotation = model.rope.get_embed(shape=model.patch_embed.grid_size).clone()
    stages = transformer(model)
    blocks = {name: _RotaryBlock(stage, rotation) for name, stage in stages.items() if name.startswith("block")}
    return {"stem": _RotaryEmbedding(_without(model, "norm", "fc_norm", "attn_pool")), **blocks, "head": stages["head"]}


def _without(model: Any, *names: str) -> Any:
    """Return a second view of ``model``, sharing its parameters, with its blocks and the named parts taken out."""
    view = copy.copy(model)
    view._modules = dict(model._modules)
    view.blocks = nn.Sequential()
    for name in names:
        if isinstance(view._modules.get(name), nn.Module):
            view._modules[name] = nn.Identity()
    return view


class _Embedding(nn.Module):
    """The part of a vision transformer before its blocks: (B, 3, H, W) -> tokens (B, N, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_features(x)


class _RotaryEmbedding(nn.Module):
    """The part of a rotary transformer before its blocks: (B, 3, H, W) -> tokens (B, N, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        tokens, _ = self.model._pos_embed(self.model.patch_embed(x))
        return self.model.norm_pre(tokens)


class _RotaryBlock(nn.Module):
    """A block and the rotation that it gives to the tokens of each place: tokens (B, N, D) -> (B, N, D)."""

    def __init__(self, block: nn.Module, rotation: Tensor) -> None:
        super().__init__()
        self.block = block
        self.rotation: Tensor
        self.register_buffer("rotation", rotation, persistent=False)  # follows from the size

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, rope=self.rotation)


class _TokenPooling(nn.Module):
    """The part of a vision transformer after its blocks: tokens (B, N, D) -> (B, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_head(self.model.norm(x), pre_logits=True)


LAYOUTS: tuple[Callable[[Any], Stages], ...] = (
    efficientnet,
    mobilenetv3,
    resnet,
    convnext,
    hgnet,
    regnet,
    transformer,
    rotary_transformer,
)

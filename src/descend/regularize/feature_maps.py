"""Where the stages of a network end, and how the feature maps there lie in memory: (B, C, H, W) or (B, H, W, C).

Names tell where stages end; only running the network tells the rest. The axis that stays the same when the picture grows is the
channel. A network that reads one size only says how many channels a stage has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from descend.errors import ModelError
from descend.regularize.dropout import Layout
from descend.regularize.install import Holder, holder_of
from descend.regularize.probe import Pass, readable_pictures

CHAINS = ("features", "trunk_output")  # torchvision's: one chain from the pixels to the last feature map
NUMBERED = (("layer1", "layer2", "layer3", "layer4"), ("stage2", "stage3", "stage4"))  # torchvision's ResNets, ShuffleNets


@dataclass(frozen=True)
class FeatureMap:
    """The output of one stage: the stage's name in the model, how its maps lie, and what holds a layer that acts on them."""

    name: str
    layout: Layout
    holder: Holder


def feature_maps(model: nn.Module, who: str) -> list[FeatureMap]:
    """Return the feature maps at the ends of a model's stages, from the pixels on. Raises ModelError, which names ``who``."""
    stages = stages_of(model, who)
    pictures = readable_pictures(model, 2)
    kind = type(model).__name__
    if not pictures:
        raise ModelError(who, f"must see the feature maps of {kind}, which rejects every synthetic picture",
                         fix="Put the layer into the model by hand.")  # fmt: skip
    passes = [Pass(model, x) for x in pictures]
    seen: list[Layout | None] = []
    for name, stage in stages:
        outputs = [one.output(stage) for one in passes]
        if outputs[0] is None or outputs[0].ndim != 4:
            shown = "several tensors" if outputs[0] is None else tuple(outputs[0].shape)
            raise ModelError(who, f"needs feature maps (B, C, H, W) or (B, H, W, C) at the end of {name} in {kind}", got=shown,
                             fix="Use dropout or stochastic_depth with this model.")  # fmt: skip
        seen.append(layout_of(outputs, _n_channels(model, name)))
    layouts = _completed(seen)
    if layouts is None:
        raise ModelError(who, f"cannot tell which axis of the feature maps of {kind} holds the channels", fix="Use dropout.")
    holders = [holder_of(model, name, passes[0].same_output(stage), who) for name, stage in stages]
    return [FeatureMap(*parts) for parts in zip([name for name, _ in stages], layouts, holders, strict=True)]


def _completed(layouts: Sequence[Layout | None]) -> list[Layout] | None:
    """Return the layouts of all stages, where some could not be told and all others are alike; None where that does not help."""
    known: list[Layout] = [layout for layout in layouts if layout is not None]
    if len(known) == len(layouts):
        return known
    return known[:1] * len(layouts) if len(set(known)) == 1 else None


def layout_of(outputs: Sequence[Tensor | None], n_channels: int | None = None) -> Layout | None:
    """Return how the maps of one layer lie, whose outputs for pictures of one or two sizes are given.

    n_channels: what the model says of them, if it does; without it one size tells only by maps being square. None where they
    are no maps, or it cannot be told.
    """
    shapes = [tuple(out.shape) for out in outputs if out is not None]
    if not shapes or any(len(shape) != 4 for shape in shapes):
        return None
    fixed = [axis for axis in (1, 3) if len({shape[axis] for shape in shapes}) == 1]
    if len(fixed) == 2 and n_channels is not None:
        fixed = [axis for axis in fixed if shapes[0][axis] == n_channels]
    if len(fixed) == 2:
        fixed = [axis for axis in fixed if shapes[0][axis] != shapes[0][2]]
    return ("NCHW" if fixed == [1] else "NHWC") if len(fixed) == 1 else None


def stages_of(model: nn.Module, who: str = "stages") -> list[tuple[str, nn.Module]]:
    """Return the modules after which a model's feature maps change scale: name and module, from the pixels on.

    For our backbones these are the stages between stem and head, for timm's models what ``feature_info`` names, and for
    torchvision's the parts that its families have in common. Raises ModelError, which names ``who``, where there are none.
    """
    for find in (_our_stages, _timm_stages, _numbered_stages, _chain_stages):
        stages = list(find(model))
        if stages:
            return stages
    raise ModelError(who, f"{type(model).__name__} must have stages (ours, or timm's feature_info, or torchvision's names)",
                     fix="Put the layer into the model by hand.")  # fmt: skip


def _our_stages(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    chain = getattr(getattr(model, "backbone", model), "stages", None)
    if isinstance(chain, nn.Sequential) and "stem" in dict(chain.named_children()):
        prefix = "backbone.stages." if hasattr(model, "backbone") else "stages."
        yield from ((prefix + name, stage) for name, stage in chain.named_children() if name not in ("stem", "head"))


def _timm_stages(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, part in model.named_modules():
        if not _feature_info(part):
            continue
        modules = dict(part.named_modules())
        names = dict.fromkeys(str(entry["module"]) for entry in _feature_info(part))
        for at, name in enumerate(names):
            if name in modules and not (at == 0 and _is_stem(name, modules[name])):
                yield f"{path}.{name}".strip("."), modules[name]
        return


def _is_stem(name: str, module: nn.Module) -> bool:
    """Return whether the first module that timm names is the stem, or the norm or activation that ends it, and no stage."""
    return "stem" in name or not any(isinstance(part, (nn.Conv2d, nn.Linear)) for part in module.modules())


def _numbered_stages(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for names in NUMBERED:
        if all(isinstance(getattr(model, name, None), nn.Module) for name in names):
            yield from ((name, model.get_submodule(name)) for name in names)
            return


def _chain_stages(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the last links before the maps of a chain get smaller, and its last link; a stem alone is none."""
    name = next((name for name in CHAINS if isinstance(getattr(model, name, None), nn.Sequential)), None)
    pictures = readable_pictures(model, 1)
    if name is None or not pictures:
        return
    links, seen = list(model.get_submodule(name).named_children()), Pass(model, pictures[0])
    outputs = [seen.output(link) for _, link in links]
    sides = [None if out is None or out.ndim != 4 else out.shape[2] for out in outputs]  # H of (B, C, H, W), W of (B, H, W, C)
    for at, (link, module) in enumerate(links):
        if (at > 0 or name != "features") and (at + 1 == len(links) or sides[at + 1] != sides[at]):
            yield f"{name}.{link}", module


def _n_channels(model: nn.Module, stage: str) -> int | None:
    """Return the number of channels that timm names for a stage."""
    for path, part in model.named_modules():
        for entry in _feature_info(part):
            if f"{path}.{entry['module']}".strip(".") == stage:
                return int(entry["num_chs"])
    return None


def _feature_info(part: nn.Module) -> list[dict[str, Any]]:
    info = getattr(part, "feature_info", None)  # a list of a whole timm model; some of its blocks have a method of that name
    return info if isinstance(info, list) else []

"""How a drop layer gets into a model that was built without one.

Layers are attached, not wrapped around: a hook calls the layer, and the layer is a child of the module it serves. So
parameter names, and with them every checkpoint, stay what they were.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, cast

from torch import Tensor, nn

from descend.errors import ModelError

INPUT, OUTPUT = "drop_input", "drop_output"  # the names under which a module holds its attached layers


class _OnInput:
    """The hook that passes a module's first argument through its attached layer; a class, because it must be copyable."""

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (module.get_submodule(INPUT)(inputs[0]), *inputs[1:])


class _OnOutput:
    """The hook that passes a module's answer through its attached layer."""

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        del inputs
        return module.get_submodule(OUTPUT)(output)


def drop_input(module: nn.Module, layer: nn.Module) -> None:
    """Pass what enters ``module`` through ``layer`` first. Raises ModelError where that place is taken."""
    host = end_of(module, 0)
    _attach(host, INPUT, layer)
    host.register_forward_pre_hook(_OnInput())


def drop_output(module: nn.Module, layer: nn.Module) -> None:
    """Pass what leaves ``module`` through ``layer``. Raises ModelError where that place is taken."""
    host = end_of(module, -1)
    _attach(host, OUTPUT, layer)
    host.register_forward_hook(_OnOutput())


def end_of(module: nn.Module, position: int) -> nn.Module:
    """Return the module that holds a layer for ``module``: in a chain its first (0) or last (-1) link, else itself.

    A chain runs every child that it has, so that a layer attached to the chain itself would run twice.
    """
    while isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and len(module) > 0:
        module = module[position]
    return module


def _attach(module: nn.Module, place: str, layer: nn.Module) -> None:
    if isinstance(module, (nn.Sequential, nn.ModuleList)):
        raise ModelError(type(module).__name__, "must not run its children by itself", fix="Attach the layer to one of them.")
    check_free(module, place, nn.Module)
    layer.train(module.training)
    module.add_module(place, layer)


def check_free(module: nn.Module, place: str, kind: type[nn.Module]) -> None:
    """Raise ModelError where ``module`` holds a layer of ``kind`` under the name ``place`` already."""
    if isinstance(getattr(module, place, None), kind):
        raise ModelError(type(module).__name__, "one drop layer must stand in one place", got=getattr(module, place),
                         fix="Install a technique of this kind once.")  # fmt: skip


def head_of(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the name and the module that turns features into logits.

    That is the child ``head`` of a model with ``backbone`` and ``head``, timm's ``get_classifier()``, or else the last
    ``nn.Linear``. Raises ModelError where there is none, or more than one.
    """
    if isinstance(getattr(model, "backbone", None), nn.Module) and isinstance(getattr(model, "head", None), nn.Module):
        return "head", cast(nn.Module, model.head)
    if callable(getattr(model, "get_classifier", None)):
        found = cast(Callable[[], object], model.get_classifier)()
        if isinstance(found, tuple):
            raise ModelError(type(model).__name__, "must have one head", got=f"{len(found)} (a distilled model)",
                             fix="Attach the layer to each head by hand.")  # fmt: skip
        for name, module in model.named_modules():
            if module is found and not isinstance(module, nn.Identity):
                return name, module
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise ModelError(type(model).__name__, "must end in a linear layer", fix="Attach the layer by hand.")
    return linears[-1]


def stages_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules after which a model's feature maps change scale: name and module, from the pixels on.

    For our backbones these are the stages between stem and head; for timm's models what ``feature_info`` names.
    Raises ModelError where the model has neither.
    """
    chain = getattr(getattr(model, "backbone", model), "stages", None)
    if isinstance(chain, nn.Sequential) and "stem" in dict(chain.named_children()):
        prefix = "backbone.stages." if hasattr(model, "backbone") else "stages."
        return [(prefix + name, stage) for name, stage in chain.named_children() if name not in ("stem", "head")]
    found = list(_timm_stages(model))
    if not found:
        raise ModelError(type(model).__name__, "must have stages (ours, or timm's feature_info)",
                         fix="Put the layer into the model by hand.")  # fmt: skip
    return found


def _timm_stages(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    modules, seen = dict(model.named_modules()), set[str]()
    for entry in getattr(model, "feature_info", None) or ():
        name = str(entry["module"])
        if name in modules and name not in seen and list(modules[name].children()):  # a lone activation is the stem's
            seen.add(name)
            yield name, modules[name]


def silence_head(model: nn.Module) -> None:
    """Switch off the dropout that a model itself has right before its classifier: timm's, functional or not, or a chain's."""
    if isinstance(getattr(model, "drop_rate", None), float):
        setattr(model, "drop_rate", 0.0)  # noqa: B010 (read by F.dropout in forward_head; a plain assignment fails type checks)
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and name.rsplit(".", 1)[-1] in ("head_drop", "drop") and "head" in name:
            module.p = 0.0
    path, head = head_of(model)
    chain = model.get_submodule(path.rpartition(".")[0])
    links = list(chain.children()) if isinstance(chain, nn.Sequential) else []
    for before, link in itertools.pairwise(links):
        if link is head and isinstance(before, nn.Dropout):
            before.p = 0.0

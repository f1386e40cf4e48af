"""How a layer gets into a model that was built without it, and whether it reaches a part that trains.

Layers are attached, not wrapped around: a hook calls the layer, and the layer is a child of a module near the place. So
parameter names, and with them every checkpoint, stay what they were.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from descend.errors import KnobError, ModelError
from descend.regularize.norm import NormPolicy
from descend.regularize.regularizer import Regularizer

INPUT, OUTPUT = "drop_input", "drop_output"  # the names under which a module holds its attached layers
RUNNERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
WALKS = {"children", "named_children", "items", "values", "_modules"}  # the ways to run whatever children there are
BY_NAME = "must call its children by their names, not one after the other"

# --------------------------------------------------------------------------------------------------------- attached layers


class _OnInput:
    """The hook that passes a module's first argument through an attached layer; a class, because it must be copyable."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        return (self.layer(inputs[0]), *inputs[1:])


class _OnOutput:
    """The hook that passes a module's output through an attached layer."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        del module, inputs
        return self.layer(output)


@dataclass(frozen=True)
class Holder:
    """A place for a layer: the module whose output passes through it, and the module that holds it as a child, under ``name``."""

    module: nn.Module
    parent: nn.Module
    name: str = OUTPUT

    def attach(self, layer: nn.Module) -> None:
        """Pass the output of ``module`` through ``layer``. Raises ModelError where the place is taken."""
        _adopt(self.parent, self.name, layer)
        self.module.register_forward_hook(_OnOutput(layer))


def holder_of(model: nn.Module, path: str, same_output: Sequence[nn.Module], who: str) -> Holder:
    """Return the place for a layer on the output of the module at ``path``.

    same_output: the module itself and those within it that return the very same tensor, the last to finish first. A module that
    runs whatever children it has would run the layer too, so that another must hold it. Raises ModelError, which names ``who``.
    """
    module = next((part for part in same_output if not runs_its_children(part)), None)
    if module is not None:
        return Holder(module, module)
    above = path
    while above:
        above = above.rpartition(".")[0]
        parent = model.get_submodule(above)
        if not runs_its_children(parent):
            return Holder(model.get_submodule(path), parent, f"{OUTPUT}_{path.replace('.', '_')}")
    must = f"{type(model).__name__} {BY_NAME}"
    raise ModelError(who, must, fix="Put the layer into it by hand.")


def drop_input(module: nn.Module, layer: nn.Module) -> None:
    """Pass what enters ``module`` through ``layer`` first. Raises ModelError where that place is taken."""
    host = end_of(module, 0)
    _adopt(host, INPUT, layer)
    host.register_forward_pre_hook(_OnInput(layer))


def drop_output(module: nn.Module, layer: nn.Module) -> None:
    """Pass what leaves ``module`` through ``layer``. Raises ModelError where that place is taken."""
    host = end_of(module, -1)
    Holder(host, host).attach(layer)


def end_of(module: nn.Module, position: int) -> nn.Module:
    """Return the module that holds a layer for ``module``: in a chain its first (0) or last (-1) link, else itself.

    A chain runs every child that it has, so that a layer attached to the chain itself would run twice.
    """
    while isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and len(module) > 0:
        module = module[position]
    return module


def runs_its_children(module: nn.Module) -> bool:
    """Return whether ``module`` runs whatever children it has, as chains do, instead of those that it knows by name."""
    methods = (getattr(type(module), name) for name in dir(type(module)) if name.lstrip("_").startswith("forward"))
    codes = (getattr(method, "__code__", None) for method in methods)
    return isinstance(module, RUNNERS) or any(code is not None and WALKS & set(code.co_names) for code in codes)


def _adopt(parent: nn.Module, name: str, layer: nn.Module) -> None:
    if runs_its_children(parent):
        raise ModelError(type(parent).__name__, BY_NAME, fix="Attach the layer to one of them.")
    check_free(parent, name, nn.Module)
    layer.train(parent.training)
    parent.add_module(name, layer)


def check_free(module: nn.Module, place: str, kind: type[nn.Module]) -> None:
    """Raise ModelError where ``module`` holds a layer of ``kind`` under the name ``place`` already."""
    if isinstance(getattr(module, place, None), kind):
        raise ModelError(type(module).__name__, "one drop layer must stand in one place", got=getattr(module, place),
                         fix="Install a technique of this kind once.")  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- the head


def head_of(model: nn.Module, who: str = "head") -> tuple[str, nn.Module]:
    """Return the name and the module that turns features into logits.

    That is the child ``head`` of a model with ``backbone`` and ``head``, timm's ``get_classifier()``, or else the last
    ``nn.Linear``. Raises ModelError, which names ``who``, where there is none, or more than one.
    """
    kind = type(model).__name__
    if isinstance(getattr(model, "backbone", None), nn.Module) and isinstance(getattr(model, "head", None), nn.Module):
        return "head", cast(nn.Module, model.head)
    if callable(getattr(model, "get_classifier", None)):
        classifier = cast(Callable[[], object], model.get_classifier)()
        if isinstance(classifier, tuple):
            raise ModelError(who, f"{kind} must have one head", got=f"{len(classifier)} (a distilled model)",
                             fix="Attach the layer to each head by hand.")  # fmt: skip
        for name, module in model.named_modules():
            if module is classifier and not isinstance(module, nn.Identity):
                return name, module
        raise ModelError(who, f"{kind} must have a head", got=classifier, fix="Build it with num_classes=..., or head and all.")
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise ModelError(who, f"{kind} must end in a linear layer", fix="Attach the layer by hand.")
    return linears[-1]


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


# --------------------------------------------------------------------------------------------------- all of a run's techniques


def install_all(
    regularizers: Iterable[Regularizer], network: nn.Module, *, trained: Sequence[nn.Module], norm: NormPolicy, seed: int
) -> None:
    """Install every technique in ``network``, in place; one whose change reaches no module that trains is refused.

    trained: the modules of ``network`` that training moves, with all below them. norm: what their batch norms will do. seed: of
    the random layers. Raises KnobError where a technique would have no effect, ModelError where the network has no place for it.
    """
    for technique in regularizers:
        before = _state(network)
        technique.install(network, seed)
        changed = {module for module, state in _state(network).items() if before.get(module) != state}
        if not changed:
            continue  # it acts elsewhere: on the loss, the weights, the rows
        if not changed & {module for part in trained for module in part.modules()}:
            raise KnobError(str(technique), "has no effect on a frozen part of the network, and changes no other",
                            fix="Let more of it train (--transfer finetune or scratch, an earlier --freeze-to), "
                                "or use dropout(p=...), which stands in the head.")  # fmt: skip
        if technique.needs_norm not in (None, norm):
            raise KnobError(str(technique), f"has no effect with norm={norm!r}, under which batch norms ignore the batch",
                            fix=f"Add --norm {technique.needs_norm}, or leave it out.")  # fmt: skip


def _state(network: nn.Module) -> dict[nn.Module, tuple[type, int, int]]:
    """Return what an installation can change of each module: its class and its hooks; new modules are new keys."""
    return {m: (type(m), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()}

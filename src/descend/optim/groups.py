"""Which parameters share which knobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from descend.errors import KnobError, nearest

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)


def parameter_groups(
    model: nn.Module,
    *,
    no_decay: bool = True,
    rates: Mapping[str, float] | None = None,
    stage_of: Callable[[str], str] | None = None,
) -> list[dict[str, Any]]:
    """Sort a model's trainable parameters into groups for ``Optimizer``, each parameter into exactly one.

    no_decay: give vectors, scalars, biases and all that norms hold (a LayerNorm over several axes has more than vectors) groups
    of their own with ``weight_decay=0.0``; decaying them saves nothing and costs accuracy (He et al. 2019, arXiv:1812.01187,
    section 3.1). Pass False for a rule without that knob.
    rates: stage -> learning rate relative to the run's (``{"stem": 0.1}``); stages not named train at 1.
    stage_of: parameter name -> stage, by default the name's first part.

    Each group holds ``params``, ``param_names``, ``name`` (the stage, ``stage/no_decay``, ``all`` or ``all/no_decay``) and
    ``lr_scale``: ``Optimizer`` sets the group's ``lr`` to ``lr_scale`` times the rule's. Order: as the model names them;
    a tied parameter stands where it is named first. Raises KnobError where a rate is negative or its stage does not exist, or
    nothing is trainable.
    """
    stage_of = stage_of or (lambda name: name.split(".", 1)[0])
    groups: dict[str, dict[str, Any]] = {}
    stages: set[str] = set()
    of_norms = {p for module in model.modules() if isinstance(module, NORMS) for p in module.parameters(recurse=False)}
    for name, parameter in model.named_parameters():  # names a tied parameter once
        if not parameter.requires_grad:
            continue
        stage = stage_of(name)
        stages.add(stage)
        plain = no_decay and (parameter.ndim <= 1 or name.endswith(".bias") or parameter in of_norms)
        title = (stage if rates else "all") + ("/no_decay" if plain else "")
        fresh = {"params": [], "param_names": [], "name": title, "lr_scale": _scale(rates, stage)}
        group = groups.setdefault(title, fresh | ({"weight_decay": 0.0} if plain else {}))
        group["params"].append(parameter)
        group["param_names"].append(name)
    for stage in rates or {}:
        if stage not in stages:
            raise KnobError("parameter_groups", f"rates must name stages of the model, not {stage!r}", fix=nearest(stage, stages))
    if not groups:
        raise KnobError("parameter_groups", "the model must have a trainable parameter", fix="Unfreeze a layer.")
    return list(groups.values())


def _scale(rates: Mapping[str, float] | None, stage: str) -> float:
    scale = (rates or {}).get(stage, 1.0)
    if not 0 <= scale < float("inf"):
        raise KnobError("parameter_groups", f"the rate of stage {stage!r} must be a finite number >= 0", got=scale)
    return scale

"""Who carries out a step: the compiled kernel where it may, torch tensors everywhere else."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from descend.optim import tensors
from descend.optim.rule import Numbers, Rule

WORTH_COMPILING = 1 << 17
"""Parameters of a model from which compiled kernels are used: below, a step is short beside the seconds that compiling takes."""


def step(
    rule: Rule,
    params: list[Tensor],
    grads: list[Tensor],
    states: list[dict[str, Any]],
    numbers: Numbers,
    *,
    compiled: bool,
    checked: bool = False,
) -> float | None:
    """Move ``params`` in place by one step of ``rule`` and update ``states``.

    params, grads: of one device and dtype each; states: per parameter, slot name -> tensor. compiled: use kernels where
    they apply. Kernels differ from tensors by a few units in the last place, never by more. checked: stop at a gradient that is
    not finite, and return the norm of all gradients, NaN where the step was stopped; parameters before that may have
    moved. None if not checked.
    """
    names = rule.needed(numbers)
    fast = [
        compiled and compilable(rule, p, g, [state.get(name) for name in names])
        for p, g, state in zip(params, grads, states, strict=True)
    ]
    norms = [0.0]
    for wanted in (False, True):
        chosen = [position for position, one in enumerate(fast) if one is wanted]
        if not chosen:
            continue
        parts = ([params[i] for i in chosen], [grads[i] for i in chosen], [states[i] for i in chosen])
        if wanted:
            from descend.optim import kernels  # here, because Numba takes a second to import

            norms.append(kernels.step(rule, *parts, numbers, checked=checked) or 0.0)
        else:
            norms.append(tensors.joint_norm(parts[1]) if checked else 0.0)
            if not math.isfinite(norms[-1]):
                return math.nan
            tensors.step(rule, *parts, numbers)
    return math.hypot(*norms) if checked else None


def compilable(rule: Rule, p: Tensor, g: Tensor, slots: list[Any]) -> bool:
    """Return whether kernels may touch this parameter: plain dense CPU memory, of one dtype and one layout throughout."""
    if not rule.elementwise or p.device.type != "cpu" or p.dtype not in (torch.float32, torch.float64):
        return False
    if type(p) not in (Tensor, nn.Parameter) or not (p.is_contiguous() or p.is_contiguous(memory_format=torch.channels_last)):
        return False
    strides, dtype = p.stride(), p.dtype
    return all(type(other) is Tensor and other.stride() == strides and other.dtype == dtype for other in (g, *slots))

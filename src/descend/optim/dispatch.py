"""Which backend carries out a step: the compiled kernel where it may, torch tensors everywhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain, compress, repeat
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn

from descend.optim import tensors
from descend.optim.chain import Chain, Scalars
from descend.optim.layerwise import Adafactor

WORTH_COMPILING = 1 << 17
"""Numbers in a model from which compiled kernels are used: below, a step is short beside the 0.1 s that compiling takes."""
A_TENSOR = 1 << 12
"""Numbers that a tensor more counts as: what torch's operations pay for each. 60 tensors of 116,000 numbers in all take AdamW
2.7 ms a step on tensors, 0.6 in a kernel, and torch's fused step 0.7."""
LONG_ENOUGH = 10  # steps, after which a model that is small but of many tensors has kernels compiled for it


def compiles(n_numbers: int, n_tensors: int, t: int) -> bool:
    """Return whether step t, counted from 1, of a model is carried out by kernels; a function of the model and of t alone."""
    return n_numbers >= WORTH_COMPILING or (t > LONG_ENOUGH and n_numbers + A_TENSOR * n_tensors >= WORTH_COMPILING)


KERNEL_DTYPES = (torch.float32, torch.float64)
PLAIN = frozenset((Tensor, nn.Parameter))
_DTYPE = attrgetter("dtype")


def step(
    rule: Chain,
    params: list[Tensor],
    grads: list[Tensor],
    states: list[dict[str, Any]],
    scalars: Scalars,
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
    eligible = compiled and params[0].device.type == "cpu" and params[0].dtype in KERNEL_DTYPES
    fast = _taken_by_kernels(rule, params, grads, states, scalars) if eligible else [False] * len(params)
    norms = [0.0]
    for wanted in (False, True):
        if wanted not in fast:
            continue
        parts = params, grads, states
        if (not wanted) in fast:
            chosen = [one is wanted for one in fast]
            parts = (list(compress(params, chosen)), list(compress(grads, chosen)), list(compress(states, chosen)))
        if wanted:
            norms.append(_kernel_step(rule)(rule, *parts, scalars, checked=checked) or 0.0)
        else:
            norms.append(tensors.joint_norm(parts[1]) if checked else 0.0)
            if not math.isfinite(norms[-1]):
                return math.nan
            tensors.step(rule, *parts, scalars)
    return math.hypot(*norms) if checked else None


def joint_norm(grads: list[Tensor], *, compiled: bool) -> float:
    """Return the Euclidean norm of all ``grads``, of one device and dtype, together; finite exactly where all of them are."""
    eligible = compiled and grads[0].device.type == "cpu" and grads[0].dtype in KERNEL_DTYPES
    if eligible and all(type(grad) is Tensor and grad.is_contiguous() for grad in grads):
        from descend.optim import kernels

        return kernels.joint_norm(grads)
    return tensors.joint_norm(grads)


def _kernel_step(rule: Chain) -> Callable[..., float | None]:
    """Return what carries out a compiled step of ``rule``; imported here, because compilers take their time to import."""
    if rule.core.elementwise:
        from descend.optim import kernels as carrier
    else:
        from descend.optim import factored as carrier
    return carrier.step


def _taken_by_kernels(
    rule: Chain, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], scalars: Scalars
) -> list[bool]:
    """Return for every parameter whether a kernel carries out its step."""
    if rule.core.elementwise:
        columns = [[state[name] for state in states] for name in rule.needed(scalars)]
        if _all_fit(params, grads, *columns):
            return [True] * len(params)
        return list(map(fits, params, grads, zip(*columns, strict=True) if columns else repeat(())))
    if type(rule.core) is Adafactor:
        factors = ([state[name] for name in rule.core.slots if name in state] for state in states)
        return [p.is_contiguous() and fits(p, g, slots) for p, g, slots in zip(params, grads, factors, strict=True)]
    return [False] * len(params)


def _all_fit(params: list[Tensor], *others: list[Tensor]) -> bool:
    """Return whether ``fits`` would say so of each parameter, where the memory of all is in the order of their axes."""
    dtype, tensors = params[0].dtype, list(chain.from_iterable(others))
    if set(map(type, tensors)) != {Tensor} or not PLAIN.issuperset(map(type, params)):
        return False
    of_one_dtype = all(map(is_, map(_DTYPE, tensors), repeat(dtype)))
    return of_one_dtype and all(map(Tensor.is_contiguous, params)) and all(map(Tensor.is_contiguous, tensors))


def fits(p: Tensor, g: Tensor, slots: Sequence[Tensor]) -> bool:
    """Return whether kernels may touch this parameter's memory: plain, dense, of one dtype and one layout throughout."""
    if type(p) not in PLAIN:
        return False
    dtype = p.dtype
    if p.is_contiguous():
        if type(g) is Tensor and g.dtype is dtype and g.is_contiguous():
            for slot in slots:
                if type(slot) is not Tensor or slot.dtype is not dtype or not slot.is_contiguous():
                    break
            else:
                return True
    elif not p.is_contiguous(memory_format=torch.channels_last):
        return False
    strides = p.stride()  # where a side is 1, memory of one layout may be told to have another
    return all(type(other) is Tensor and other.dtype is dtype and other.stride() == strides for other in (g, *slots))

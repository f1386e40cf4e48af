"""Parameter buckets: parameters that make the same step, gathered so that one call moves all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import attrgetter, is_, methodcaller
from typing import Any

import torch
from torch import Tensor

from descend.errors import DivergenceError, ModelError
from descend.optim import dispatch, tensors
from descend.optim.chain import Chain, Scalars

Gradient = Callable[[Tensor], Tensor | None]
Groups = Iterable[Mapping[str, Any]]
_DTYPE, _LAYOUT, _DEVICE = attrgetter("dtype"), attrgetter("layout"), attrgetter("device")


@dataclass
class Bucket:
    """Parameters of one group that make the same step: one rule with one set of knobs, one device and dtype, one step count."""

    rule: Chain
    maximize: bool
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)

    def scalars(self, scale: float, move: int) -> tuple[int, Scalars]:
        """Return the number of the next step of these parameters, and all that it needs besides the elements.

        scale: of the gradients. move: the number of the step among those of the optimizer.
        """
        state, core = self.states[0], self.rule.core
        t = state.get("step", 0) + 1
        memory = tuple(state.get(name, core.initial(name)) for name in core.memory)
        return t, self.rule.scalars(t, -scale if self.maximize else scale, memory, move)

    def allocate(self, scalars: Scalars, move: int) -> None:
        """Give parameters the slots that a step needs and they lack: at their first, or when a knob calls for them."""
        rule = self.rule
        wanted = rule.begun(move).union(rule.needed(scalars))
        if not wanted:
            return
        for parameter, state in zip(self.params, self.states, strict=True):
            for name in () if wanted <= state.keys() else wanted - state.keys():
                shape = rule.slot_shape(name, tuple(parameter.shape))
                if shape is not None:
                    state[name] = self._fresh(name, parameter, shape)

    def _fresh(self, name: str, parameter: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return a slot before its first step, in the memory layout of its parameter where the shapes agree."""
        dtype = tensors.working_dtype(parameter.dtype)
        if name in self.rule.added:
            return parameter.detach().to(dtype, copy=True)
        like = parameter.detach() if shape == tuple(parameter.shape) else parameter.new_empty(shape)
        return torch.full_like(like, self.rule.initial(name), dtype=dtype)

    def finish(self, t: int, scalars: Scalars) -> None:
        """Note in the states that step ``t`` was made."""
        for name, value in zip((*self.rule.core.memory, "step"), (*scalars.memory, t), strict=True):
            for state in self.states:
                state[name] = value


def gather(
    groups: Sequence[tuple[Mapping[str, Any], Chain]],
    state_of: Mapping[Tensor, dict[str, Any]],
    gradient: Gradient = attrgetter("grad"),
) -> Iterator[Bucket]:
    """Sort all parameters that have a ``gradient`` into buckets, in a fixed order; groups: each with its rule.

    Raises ModelError for a gradient that is sparse, complex or distributed.
    """
    known, states, place = list(state_of), list(state_of.values()), 0
    for group, rule in groups:
        params: list[Tensor] = group["params"]
        grads: list[Any] = list(map(gradient, params))
        if any(map(is_, grads, repeat(None))):
            params = [parameter for parameter, grad in zip(params, grads, strict=True) if grad is not None]
            grads = [grad for grad in grads if grad is not None]
        start, place = place, place + len(params)
        in_order = len(known) >= place and all(map(is_, params, known[start:place]))  # then no state has to be looked up
        found: list[Any] = states[start:place] if in_order else list(map(state_of.get, params))
        if _alike(rule, params, grads, found):
            yield Bucket(rule, group["maximize"], params, grads, found)
        else:
            yield from _parted([each for each, _ in groups], group, rule, params, grads, state_of)


def resting(
    groups: Iterable[tuple[Mapping[str, Any], Chain]], state_of: Mapping[Tensor, dict[str, Any]], moved: Iterable[Bucket]
) -> Iterator[Bucket]:
    """Sort the parameters that have made steps, but none with the ``moved``, into buckets without gradients, for wrappers."""
    now = set(chain.from_iterable(bucket.params for bucket in moved))
    for group, rule in groups:
        buckets: dict[tuple[Any, ...], Bucket] = {}
        for parameter in group["params"] if rule.added else ():
            state = state_of.get(parameter, {})
            if parameter not in now and "step" in state:
                bucket = buckets.setdefault((parameter.dtype, parameter.device), Bucket(rule, group["maximize"]))
                bucket.params.append(parameter)
                bucket.states.append(state)
        yield from buckets.values()


def steps_made(states: Iterable[Mapping[str, Any]]) -> int:
    """Return how many steps the parameter has made that has made most."""
    return max((state.get("step", 0) for state in states), default=0)


def _parted(
    groups: Groups, group: Mapping[str, Any], rule: Chain, params: list[Tensor], grads: list[Tensor],
    state_of: Mapping[Tensor, dict[str, Any]],
) -> Iterable[Bucket]:  # fmt: skip
    """Return the buckets of the parameters of a group that have gradients, looking at each for itself."""
    buckets: dict[tuple[Any, ...], Bucket] = {}
    memory = rule.core.memory
    last, bucket = None, Bucket(rule, group["maximize"])  # most make the step of the one before: no need to look it up
    for parameter, grad in zip(params, grads, strict=True):
        state = state_of[parameter]
        key = (parameter.dtype, grad.dtype, grad.layout, parameter.device, state.get("step"))
        if memory:
            key += tuple(state.get(name) for name in memory)
        if key != last:
            last, known = key, buckets.get(key)
            if known is None:
                _refuse(parameter, grad, groups)
                known = buckets[key] = Bucket(rule, group["maximize"])
            bucket = known
        bucket.params.append(parameter)
        bucket.grads.append(grad)
        bucket.states.append(state)
    return buckets.values()


def _alike(rule: Chain, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any] | None]) -> bool:
    """Return whether parameters with states make the same step, by gradients that are taken: asked of many tensors at once."""
    if not grads or set(map(type, grads)) != {Tensor} or set(map(type, states)) != {dict}:
        return False
    if grads[0].layout is not torch.strided or grads[0].is_complex() or params[0].is_complex():
        return False
    facts = map(_DTYPE, params), map(_DTYPE, grads), map(_LAYOUT, grads), map(_DEVICE, params)
    made = (map(methodcaller("get", name), states) for name in ("step", *rule.core.memory))
    return all(column.count(column[0]) == len(column) for column in map(list, (*facts, *made)))


def _refuse(parameter: Tensor, grad: Tensor, groups: Groups) -> None:
    kind = "sparse" if grad.layout != torch.strided else "complex" if grad.is_complex() or parameter.is_complex() else None
    if type(parameter.data).__name__ == "DTensor":  # by name: to import the class takes as long as torch
        kind = "one part of many (a DTensor of FSDP2, say)"
    if kind:
        must = f"gradients must be dense, real and whole, but that of {parameter_name(parameter, groups)} is {kind}"
        raise ModelError("Optimizer", must, fix="Use torch.optim for it.")


def joint_norm(buckets: Iterable[Bucket], *, compiled: bool) -> float:
    """Return the Euclidean norm of all gradients together; finite exactly where all of them are."""
    return math.hypot(*(dispatch.joint_norm(bucket.grads, compiled=compiled) for bucket in buckets))


def not_finite(buckets: Iterable[Bucket], groups: Groups) -> DivergenceError:
    """Return the error that names the first gradient which is not finite; groups: where names are looked up."""
    for bucket in buckets:
        for parameter, grad in zip(bucket.params, bucket.grads, strict=True):
            if bad := int((~torch.isfinite(grad)).sum()):
                return DivergenceError("Optimizer", f"the gradient of {parameter_name(parameter, groups)} must be finite",
                                       got=f"{bad} NaN or infinite of {grad.numel()}",
                                       fix="Lower the learning rate, clip gradients, or pass nonfinite='skip'.")  # fmt: skip
    return DivergenceError("Optimizer", "the joint norm of the gradients must be finite", fix="Lower the learning rate.")


def parameter_name(wanted: Tensor, groups: Groups) -> str:
    """Return what a parameter is called, by its model if that is known, and its shape."""
    for number, group in enumerate(groups):
        names = group.get("param_names") or [f"parameter {i} of group {number}" for i in range(len(group["params"]))]
        for name, parameter in zip(names, group["params"], strict=True):
            if parameter is wanted:
                return f"{name} {tuple(wanted.shape)}"
    raise LookupError("not a parameter of these groups")

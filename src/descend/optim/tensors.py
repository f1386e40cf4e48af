"""Rules on torch tensors: the plain meaning, on any device.

A ``Stack`` is a list of tensors of one device and one dtype that behaves like a single number, so ``direction`` runs on it as
it stands; each operation is one ``torch._foreach_`` call (on a GPU one launch for the whole list, not one per tensor).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from descend.optim.chain import Chain, Scalars

foreach: Any = torch
"""Where torch keeps its list operations, which its own optimizers use and its type stubs leave out."""

PORTION = 1 << 22
"""Elements handled at a time: the intermediate results of a step then stay small beside the model."""


class Stack:
    """Tensors that are added, multiplied and rooted together; the other operand is a Stack of equal shapes or a number."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Tensor]) -> None:
        self.items = tuple(items)

    def __add__(self, other: Stack | float) -> Stack:
        return Stack(foreach._foreach_add(self.items, _operand(other)))

    def __sub__(self, other: Stack | float) -> Stack:
        return Stack(foreach._foreach_sub(self.items, _operand(other)))

    def __mul__(self, other: Stack | float) -> Stack:
        return Stack(foreach._foreach_mul(self.items, _operand(other)))

    def __truediv__(self, other: Stack | float) -> Stack:
        return Stack(foreach._foreach_div(self.items, _operand(other)))

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Stack:
        return Stack(foreach._foreach_neg(self.items))

    def __abs__(self) -> Stack:
        return Stack(foreach._foreach_abs(self.items))

    def add_scaled(self, other: Stack, k: float) -> Stack:
        """Return ``self + k * other`` in one pass."""
        return Stack(foreach._foreach_add(self.items, other.items, alpha=k))

    def sqrt(self) -> Stack:
        """Return the square roots."""
        return Stack(foreach._foreach_sqrt(self.items))

    def sign(self) -> Stack:
        """Return the signs."""
        return Stack(foreach._foreach_sign(self.items))

    def clamp(self, min: float) -> Stack:
        """Return the elements, those below ``min`` lifted to it."""
        return Stack(foreach._foreach_clamp_min(self.items, min))

    def maximum(self, other: Stack | float) -> Stack:
        """Return the larger elements."""
        return Stack(foreach._foreach_maximum(self.items, _operand(other)))


def _operand(other: Stack | float) -> Any:
    return other.items if isinstance(other, Stack) else other


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a parameter's slots and of the arithmetic of its step: float32 for half-precision weights."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def step(rule: Chain, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], scalars: Scalars) -> None:
    """Move ``params`` in place by one step of ``rule`` and put the new slots into ``states``.

    params, grads: tensors of any shapes, of one device and one dtype each. states: per parameter, slot name -> tensor of the
    parameter's shape in ``working_dtype``.
    """
    for portion in _portions(rule, params):
        p = Stack([tensor.to(working_dtype(tensor.dtype)) for tensor in params[portion]])
        g = Stack([tensor.to(kept.dtype) for tensor, kept in zip(grads[portion], p.items, strict=True)])
        shape = tuple(p.items[0].shape)  # stands for all: a rule whose slots depend on the shape gets single tensors
        active = {name for name in rule.needed(scalars) if rule.slot_shape(name, shape) is not None}
        before = tuple(Stack([state[name] for state in states[portion]]) if name in active else None for name in rule.slots)
        if rule.core.elementwise:
            p, after = rule.move(p, g, before, scalars)
        else:
            p, after = _move_single(rule, p, g, before, scalars)
        foreach._foreach_copy_(params[portion], list(p.items))
        for name, new in zip(rule.slots, after, strict=True):
            _keep(name, new, states[portion], grads[portion])


def wrap(rule: Chain, params: list[Tensor], states: list[dict[str, Any]], scalars: Scalars) -> None:
    """Let the wrappers of ``rule`` act on ``params`` that its core has moved already, or rests; arguments as of ``step``."""
    added, active = rule.slots[len(rule.core.slots) :], rule.needed(scalars)
    for portion in _portions(rule, params) if any(numbers is not None for numbers in scalars.after) else ():
        before = tuple(Stack([state[name] for state in states[portion]]) if name in active and name in added else None
                       for name in rule.slots)  # fmt: skip
        whole = [tensor.to(working_dtype(tensor.dtype)) for tensor in params[portion]]
        p, after = rule.wrap(Stack(whole), before, scalars)
        foreach._foreach_copy_(params[portion], list(p.items))
        for name, new in zip(added, after, strict=True):
            _keep(name, new, states[portion], whole)


def _move_single(
    rule: Chain, p: Stack, g: Stack, slots: tuple[Stack | None, ...], scalars: Scalars
) -> tuple[Stack, tuple[Stack | None, ...]]:
    """Move the single tensor in each stack by a rule that looks at whole tensors."""
    inside = tuple(None if slot is None else slot.items[0] for slot in slots)
    moved, after = rule.move(p.items[0], g.items[0], inside, scalars)
    return Stack([moved]), tuple(None if new is None else Stack([new]) for new in after)


def _keep(name: str, new: Stack | None, states: list[dict[str, Any]], given: list[Tensor]) -> None:
    """Store new slots; one that is a ``given`` tensor (a gradient, a parameter) is copied, since others write to that."""
    if new is not None:
        for state, tensor, other in zip(states, new.items, given, strict=True):
            state[name] = tensor.clone() if tensor is other else tensor


def _portions(rule: Chain, params: list[Tensor]) -> Iterator[slice]:
    """Cut the list where a portion reaches PORTION elements; rules of whole tensors get each that is not empty alone."""
    if not rule.core.elementwise:
        yield from (slice(place, place + 1) for place, tensor in enumerate(params) if tensor.numel())
        return
    first, size = 0, 0
    for position, tensor in enumerate(params):
        if position > first and size + tensor.numel() > PORTION:
            yield slice(first, position)
            first, size = position, 0
        size += tensor.numel()
    yield slice(first, len(params))


def joint_norm(grads: list[Tensor]) -> float:
    """Return the Euclidean norm of all ``grads``, of one device and dtype, together; finite exactly where all of them are."""
    for dtype in (working_dtype(grads[0].dtype), torch.float64):  # the sum of squares of finite float32 numbers may overflow
        total = float(torch.linalg.vector_norm(torch.stack(foreach._foreach_norm(grads, 2, dtype=dtype))))
        if math.isfinite(total):
            break
    return total

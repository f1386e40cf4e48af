"""A rule taken apart: the update rule that makes the step, and the wrappers that act around it.

Whatever runs a rule (the ``Optimizer``, the kernels, a walk on a test surface) runs its ``Chain``. For a rule that wraps nothing
the chain has one part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any

import numpy as np

from descend.optim.ops import add_scaled, norm
from descend.optim.rule import Rule
from descend.optim.wrapper import Perturbation, Wrapper, parts


@dataclasses.dataclass(frozen=True, slots=True)
class Scalars:
    """All that enters one step of a chain and is not per element; float64, computed once per step on the host."""

    scale: float  # of the gradient
    l2: float  # coupled decay; 0: none
    shrink: float  # what decoupled decay leaves of a weight; 1: all
    rate: float  # of the direction
    coefficients: tuple[Any, ...]  # of the update rule
    memory: tuple[float, ...]  # to be kept for the next step
    after: tuple[tuple[Any, ...] | None, ...]  # the coefficients of each wrapper; None: nothing to do in this step


class Chain:
    """The parts of ``rule``, and what they are together. Made by ``chain_of``.

    core: the update rule. wrappers: innermost first. slots: names of the slots of all parts, in that order; wherever slots are
    passed as a tuple, they stand in this order, those not needed None. added: the names of those of the wrappers.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.core, *wrappers = parts(rule)
        self.wrappers: tuple[Wrapper, ...] = tuple(wrappers)
        self.slots = tuple(chain(self.core.slots, *(wrapper.slots for wrapper in wrappers)))
        self.added = frozenset(chain.from_iterable(wrapper.slots for wrapper in wrappers))
        self.perturbation = next((wrapper for wrapper in wrappers if isinstance(wrapper, Perturbation)), None)
        self.name = _nested_names(self.core.name, self.wrappers)
        self._owners: dict[str, Rule] = {slot: part for part in (self.core, *wrappers) for slot in part.slots}
        ends = [0]
        for part in (self.core, *wrappers):
            ends.append(ends[-1] + len(part.slots))
        self._spans = tuple(slice(*ends) for ends in pairwise(ends))

    # ---------------------------------------------------------------------------------------------------------- one step

    def scalars(
        self, t: int, scale: float = 1.0, memory: tuple[float, ...] | None = None, move: int | None = None
    ) -> Scalars:  # fmt: skip
        """Return everything that step ``t`` needs besides the elements.

        scale: multiplies the gradient. memory: what the step before left in ``Scalars.memory``; None before the first. move: the
        number of this step among those of the whole optimizer, by which wrappers count; None: ``t``.
        """
        core = self.core
        before = tuple(core.initial(name) for name in core.memory) if memory is None else memory
        memory = core.remember(t, *before)
        strength = getattr(core, "weight_decay", 0.0)
        l2 = strength if core.decays == "coupled" else 0.0
        shrink = 1.0 - core.lr * strength if core.decays == "decoupled" else 1.0
        after = tuple(wrapper.coefficients(t if move is None else move) for wrapper in self.wrappers)
        return Scalars(scale, l2, shrink, core.rate(t), core.coefficients(t, *memory), memory, after)

    def move(self, p: Any, g: Any, slots: tuple[Any, ...], scalars: Scalars) -> tuple[Any, tuple[Any, ...]]:
        """Return the parameters and slots after one step; pure, for every kind of number but the compiled one.

        p, g, and each of ``slots``: floats, NumPy arrays, torch tensors or Stacks.
        """
        if scalars.scale != 1.0:
            g = g * scalars.scale
        if scalars.l2 != 0.0:
            g = add_scaled(g, p, scalars.l2)
        u, *moved = self.core.direction(p, g, *slots[self._spans[0]], *scalars.coefficients)
        if scalars.shrink != 1.0:
            p = p * scalars.shrink
        p, added = self.wrap(add_scaled(p, u, -scalars.rate), slots, scalars)
        return p, (*moved, *added)

    def wrap(self, p: Any, slots: tuple[Any, ...], scalars: Scalars) -> tuple[Any, tuple[Any, ...]]:
        """Return the parameters, and the slots of the wrappers, after what these do when the update rule has moved ``p``."""
        moved: list[Any] = []
        for wrapper, span, coefficients in zip(self.wrappers, self._spans[1:], scalars.after, strict=True):
            added = slots[span]
            if coefficients is not None:
                filled = (np.zeros_like(p) if slot is None else slot for slot in added)
                p, *added = wrapper.after_step(p, *filled, *coefficients)
            moved.extend(added)
        return p, tuple(moved)

    def gradient(self, p: Any, slots: tuple[Any, ...], at: Callable[[Any], Any]) -> Any:
        """Return the gradient for the next step of ``p``, the only parameter; at: point -> gradient."""
        g = at(self.lookahead_point(p, slots))
        if self.perturbation is None:
            return g
        length = norm(self.perturbation.scaled_gradient(p, g))
        return at(self.perturbation.perturbed(p, g, float(length)))

    # ------------------------------------------------------------------------------------------------------------- slots

    def start(self, p: Any) -> tuple[Any, ...]:
        """Return fresh slots for parameters ``p`` (a float or array), those not needed, or not yet, None."""
        return tuple(self._fresh(name, p) for name in self.slots)

    def _fresh(self, name: str, p: Any) -> Any:
        if name in self.begun(1):
            return np.array(p)
        shape = self.slot_shape(name, np.shape(p))
        late = isinstance(self._owners[name], Wrapper)
        return None if late or shape is None else np.full(shape, self.initial(name))

    def begun(self, t: int) -> frozenset[str]:
        """Return the slots of wrappers that are kept from step ``t`` on, or have been before."""
        return frozenset(chain.from_iterable(wrapper.slots for wrapper in self.wrappers if wrapper.begun(t)))

    def needed(self, scalars: Scalars) -> tuple[str, ...]:
        """Return the slots that a step with ``scalars`` reads and writes, in the order of ``slots``."""
        resting = (part.slots for part, numbers in zip(self.wrappers, scalars.after, strict=True) if numbers is None)
        unneeded = self.core.unused().union(*resting)
        return tuple(name for name in self.slots if name not in unneeded)

    def initial(self, name: str) -> float:
        """Return the value with which a slot is filled, or a memory begins, before the first step."""
        return self._owners.get(name, self.core).initial(name)

    def slot_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape of a slot for a parameter of ``shape``; None: it is not needed there."""
        return self._owners[name].slot_shape(name, shape)

    # -------------------------------------------------------------------------------------------- away from the parameters

    def lookahead_point(self, p: Any, slots: tuple[Any, ...]) -> Any:
        """Return the point at which the next gradient is to be taken."""
        return self.core.lookahead_point(p, slots[self._spans[0]])

    def averages(self) -> bool:
        """Return whether ``evaluation_weights`` differ from the parameters."""
        return self.core.averages() or any(wrapper.averages() for wrapper in self.wrappers)

    def evaluation_weights(self, p: Any, slots: tuple[Any, ...]) -> Any:
        """Return the weights to evaluate and to save: each part puts those that it keeps in place of what it is given."""
        for part, span in zip((self.core, *self.wrappers), self._spans, strict=True):
            p = part.evaluation_weights(p, slots[span])
        return p


@lru_cache(maxsize=512)  # schedules change a knob at every step, but all groups and many steps share values
def chain_of(rule: Rule) -> Chain:
    """Return ``rule`` taken apart."""
    return Chain(rule)


def _nested_names(name: str, wrappers: tuple[Wrapper, ...]) -> str:
    for wrapper in wrappers:
        name = f"{wrapper.name}({name})"
    return name

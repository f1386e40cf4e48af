"""What an optimizer rule is: knobs, a few numbers per step, and a direction per element.

A rule holds no parameters and no state. One step of any rule, on any carrier, is the same five lines (``move``):

    g = scale * g                       clipping, and the sign when the loss is maximised
    g = g + weight_decay * p            coupled decay: L2 seen by the moments (Adam), only where decay = "coupled"
    u, slots = direction(p, g, slots)   the rule itself
    p = p * (1 - lr * weight_decay)     decoupled decay (AdamW), only where decay = "decoupled"
    p = p - rate * u

so a rule writes nothing but its ``direction`` and the numbers that enter it. Where rules are wrapped (``wrapper``), ``core`` is
the innermost rule, which makes this step, and ``tails`` are the wrappers that do something with p after it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Lt

from descend.optim.ops import add_scaled, norm
from descend.technique import Search, Technique

if TYPE_CHECKING:
    from descend.optim.sharpness import SAM
    from descend.optim.wrapper import Wrapper

Rate = Annotated[float, Ge(0), Search(1e-5, 1.0, log=True)]
"""A learning rate: how far one step goes."""

Penalty = Annotated[float, Ge(0), Search(1e-6, 1e-1, log=True)]
"""A weight decay: how strongly weights are drawn to zero."""

Decay = Annotated[float, Ge(0), Lt(1), Search(0.5, 0.9999)]
"""The memory of a running average: 0 forgets at once, 0.999 remembers about a thousand steps."""

Tiny = Annotated[float, Ge(0), Search(1e-10, 1e-3, log=True)]
"""A guard against division by zero, which also sets the size below which gradients stop being amplified."""


@dataclasses.dataclass(frozen=True, slots=True)
class Numbers:
    """All that enters one step of one rule and is not per element; float64, computed once a step on the host."""

    scale: float  # of the gradient
    l2: float  # coupled decay; 0: none
    shrink: float  # what decoupled decay leaves of a weight; 1: all
    rate: float  # of the direction
    coefficients: tuple[Any, ...]
    memory: tuple[float, ...]  # to be kept for the next step
    tails: tuple[tuple[Any, ...] | None, ...] = ()  # per tail, what it takes after its slots; None: nothing to do this step


class Rule(Technique, family="optimizer"):
    """The base of every optimizer rule.

    A subclass declares its state in ``slots`` and defines ``direction(p, g, *slots, *coefficients) -> (u, *slots)``, a static
    method without numeric literals and without a look at the carrier. A slot that the knobs switch off is named
    by ``idle`` and arrives as None.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    memory: ClassVar[tuple[str, ...]] = ()  # running numbers (not tensors) that a step leaves to the next
    decays: ClassVar[Literal["coupled", "decoupled", "inside"]] = "coupled"  # inside: direction does it
    elementwise: ClassVar[bool] = True  # False: direction needs whole tensors, so it is called for one at a time
    direction: ClassVar[Callable[..., tuple[Any, ...]]]

    lr: Rate

    @property
    def core(self) -> Rule:
        """The rule that makes the step: this one, unless it wraps another."""
        return self

    @property
    def tails(self) -> tuple[Wrapper, ...]:
        """The wrappers that do something after the step, in their order."""
        return ()

    @property
    def ascent(self) -> SAM | None:
        """What says where the gradient is wanted a second time, if it is."""
        return None

    def remember(self, t: int, *memory: float) -> tuple[float, ...]:  # noqa: ARG002 (rules with memory use it)
        """Return the ``memory`` of step ``t`` from that of the step before."""
        return memory

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002 (most rules use it)
        """Return the numbers that ``direction`` takes after the slots at step ``t`` = 1, 2, ...; a ``Share`` counts as one.

        memory: what ``remember`` returned for this step.
        """
        return ()

    def rate(self, t: int) -> float:  # noqa: ARG002 (rules with a rate of their own use it)
        """Return what multiplies the direction at step ``t``: the learning rate, unless the rule puts it elsewhere."""
        return self.lr

    def idle(self) -> frozenset[str]:
        """Return the slots that these knobs leave unused; they take no memory."""
        return frozenset()

    def initial(self, slot: str) -> float:  # noqa: ARG002 (rules that do not start from zero use it)
        """Return the value with which ``slot`` is filled, or a memory begins, before the first step."""
        return 0.0

    def extent(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape of ``slot`` for a parameter of ``shape``; None: it is not needed there."""
        return None if slot in self.idle() else shape

    def looks_ahead(self) -> bool:
        """Return whether the gradient is wanted at ``vantage`` instead of at the parameters."""
        return False

    def vantage(self, p: Any, slots: tuple[Any, ...]) -> Any:  # noqa: ARG002 (rules that look ahead use it)
        """Return the point at which the next gradient is to be taken."""
        return p

    def averages(self) -> bool:
        """Return whether ``answer`` differs from the parameters."""
        return False

    def answer(self, p: Any, slots: tuple[Any, ...]) -> Any:  # noqa: ARG002 (rules that average use it)
        """Return the point that training has found so far: the parameters, unless the rule keeps a better one."""
        return p

    def numbers(self, t: int, scale: float = 1.0, memory: tuple[float, ...] | None = None) -> Numbers:
        """Return everything that step ``t`` needs besides the elements.

        scale: multiplies the gradient. memory: what the step before left in ``Numbers.memory``; None before the first.
        """
        before = tuple(self.initial(name) for name in self.memory) if memory is None else memory
        memory = self.remember(t, *before)
        strength = getattr(self.core, "weight_decay", 0.0)
        l2 = strength if self.decays == "coupled" else 0.0
        shrink = 1.0 - self.lr * strength if self.decays == "decoupled" else 1.0
        tails = tuple(tail.due(t) for tail in self.tails)
        return Numbers(scale, l2, shrink, self.rate(t), self.coefficients(t, *memory), memory, tails)

    def needed(self, numbers: Numbers) -> tuple[str, ...]:
        """Return the slots that a step with ``numbers`` reads and writes, in the order of ``slots``."""
        own = {name for tail, due in zip(self.tails, numbers.tails, strict=True) if due is None for name in tail.own}
        return tuple(name for name in self.slots if name not in own | self.idle())


def move(rule: Rule, p: Any, g: Any, slots: tuple[Any, ...], numbers: Numbers) -> tuple[Any, tuple[Any, ...]]:
    """Return the parameters and slots after one step of ``rule``; pure, for every carrier but the compiled one.

    p, g, and each of ``slots`` (in the order of ``rule.slots``, idle ones None): floats, NumPy arrays, torch tensors or Stacks.
    """
    if numbers.scale != 1.0:
        g = g * numbers.scale
    if numbers.l2 != 0.0:
        g = add_scaled(g, p, numbers.l2)
    core = rule.core
    u, *after = core.direction(p, g, *slots[: len(core.slots)], *numbers.coefficients)
    if numbers.shrink != 1.0:
        p = p * numbers.shrink
    p = add_scaled(p, u, -numbers.rate)
    for tail, due in zip(rule.tails, numbers.tails, strict=True):
        own = slots[len(after) : len(after) + len(tail.own)]
        if due is not None:
            p, *own = tail.settle(p, *(np.zeros_like(p) if slot is None else slot for slot in own), *due)
        after.extend(own)
    return p, tuple(after)


def start(rule: Rule, p: Any) -> tuple[Any, ...]:
    """Return fresh slots for parameters ``p`` (a float or array), those not needed, or not yet, None."""
    late = {name: tail.copies for tail in rule.tails for name in tail.own}

    def fresh(name: str) -> Any:
        if name in late:
            return np.array(p) if late[name] else None
        extent = rule.extent(name, np.shape(p))
        return None if extent is None else np.full(extent, rule.initial(name))

    return tuple(fresh(name) for name in rule.slots)


def gradient(rule: Rule, p: Any, slots: tuple[Any, ...], at: Callable[[Any], Any]) -> Any:
    """Return the gradient of ``p``, one array and all there is, that the next step of ``rule`` wants; at: point -> gradient."""
    g = at(rule.vantage(p, slots))
    if rule.ascent is None:
        return g
    return at(rule.ascent.climb(p, g, float(norm(rule.ascent.pull(p, g)))))

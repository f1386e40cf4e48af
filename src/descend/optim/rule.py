"""What an optimizer rule is: knobs, a few numbers per step, and a direction per element.

A rule holds no parameters and no state. One step of any update rule, on floats, arrays or tensors, is the same five lines
(``Chain.move``):

    g = scale * g                       clipping, and the sign when the loss is maximized
    g = g + weight_decay * p            coupled decay: L2 seen by the moments (Adam), only where decays = "coupled"
    u, slots = direction(p, g, slots)   the rule itself
    p = p * (1 - lr * weight_decay)     decoupled decay (AdamW), only where decays = "decoupled"
    p = p - rate * u

so a rule writes nothing but its ``direction`` and the numbers that enter it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Lt

from descend.technique import Search, Technique, knobs

Rate = Annotated[float, Ge(0), Search(1e-5, 1.0, log=True)]
"""A learning rate: how far one step goes."""

Penalty = Annotated[float, Ge(0), Search(1e-6, 1e-1, log=True)]
"""A weight decay: how strongly weights are drawn to zero."""

Decay = Annotated[float, Ge(0), Lt(1), Search(0.5, 0.9999)]
"""The memory of a running average: 0 forgets at once, 0.999 remembers about a thousand steps."""

Tiny = Annotated[float, Ge(0), Search(1e-10, 1e-3, log=True)]
"""A guard against division by zero, which also sets the size below which gradients stop being amplified."""


IMPLEMENTATION = ("foreach", "fused", "capturable", "differentiable")
"""What torch's settings say about how a step is carried out; it has no bearing on where the step leads."""

ELSEWHERE = {
    "amsgrad": "It is a rule of its own, amsgrad.",
    "momentum": "It is a rule of its own, momentum.",
    "nesterov": "It is a rule of its own, nesterov.",
    "alpha": "It is called beta.",
    "rho": "It is called beta.",
    "maximize": "Write Optimizer(params, rule, maximize=True).",
    **dict.fromkeys(
        IMPLEMENTATION, "Leave it out: the optimizer chooses how a step is carried out, unless Optimizer(..., compiled=...) says."
    ),
}
"""Where the settings of torch.optim went that are no knob of the rule in question."""


class Rule(Technique, family="optimizer"):
    """What an ``Optimizer`` runs: an ``UpdateRule``, or a ``Wrapper`` around another rule.

    Every member describes this rule alone, without what it may wrap; ``Chain`` puts the parts together.
    """

    slots: ClassVar[tuple[str, ...]] = ()  # the tensors that it keeps for each parameter

    lr: Rate

    @classmethod
    def explain(cls, knob: str | None, value: Any) -> str:
        """Return what to write for a setting that people bring from torch.optim."""
        if knob is None and isinstance(value, float | int):
            return f"Write {cls.__name__}(lr={value})."
        if knob is None and isinstance(value, Rule):
            return f"Write {cls.__name__}(inner={type(value).__name__}(...))."
        if knob is None:
            return f"A rule holds no parameters: write Optimizer(params, {cls.__name__}(lr=...))."
        betas = [each.name for each in knobs(cls) if each.name.startswith("beta")]
        if knob == "betas" and isinstance(value, tuple | list) and len(value) == len(betas):
            return f"Write {', '.join(f'{name}={beta}' for name, beta in zip(betas, value, strict=True))}."
        return ELSEWHERE.get(knob, "")

    def initial(self, slot: str) -> float:  # noqa: ARG002 (rules that do not start from zero use it)
        """Return the value with which ``slot`` is filled, or a memory begins, before the first step."""
        return 0.0

    def slot_shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:  # noqa: ARG002 (most slots are alike)
        """Return the shape of ``slot`` for a parameter of ``shape``; None: it is not needed there."""
        return shape

    def averages(self) -> bool:
        """Return whether ``evaluation_weights`` differ from the parameters."""
        return False

    def evaluation_weights(self, p: Any, slots: tuple[Any, ...]) -> Any:  # noqa: ARG002 (rules that average use it)
        """Return the weights to evaluate and to save: the parameters, unless the rule keeps better ones in its slots."""
        return p


class UpdateRule(Rule):
    """The base of every rule that makes a step of its own.

    A subclass declares its state in ``slots`` and defines ``direction(p, g, *slots, *coefficients) -> (u, *slots)``, a static
    method without numeric literals that works on any kind of number. A slot that the knobs switch off is named by ``unused``
    and arrives as None.
    """

    memory: ClassVar[tuple[str, ...]] = ()  # running numbers (not tensors) that a step leaves to the next
    decays: ClassVar[Literal["coupled", "decoupled", "inside"]] = "coupled"  # inside: direction does it
    elementwise: ClassVar[bool] = True  # False: direction needs whole tensors, so it is called for one at a time
    direction: ClassVar[Callable[..., tuple[Any, ...]]]

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

    def unused(self) -> frozenset[str]:
        """Return the slots that these knobs leave unused; they take no memory."""
        return frozenset()

    def slot_shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape of ``slot`` for a parameter of ``shape``; None: it is not needed there."""
        return None if slot in self.unused() else shape

    def looks_ahead(self) -> bool:
        """Return whether the gradient is wanted at ``lookahead_point`` instead of at the parameters."""
        return False

    def lookahead_point(self, p: Any, slots: tuple[Any, ...]) -> Any:  # noqa: ARG002 (rules that look ahead use it)
        """Return the point at which the next gradient is to be taken."""
        return p

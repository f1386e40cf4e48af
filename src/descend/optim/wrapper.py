"""Tweaks around a rule: the rule steps as ever, and something is done before or after.

What is done after is ``settle``, which sees each weight right after it moved, in the same sweep of the same kernel, so
an average of weights costs no further pass over them. On steps without a ``due`` nothing is read or written at all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from descend.errors import KnobError
from descend.optim.rule import Rule
from descend.technique import knobs

if TYPE_CHECKING:
    from descend.optim.sharpness import SAM


class Wrapper(Rule):
    """The base of every rule around another, ``inner``; its knobs, slots and numbers are the inner rule's and its own.

    A subclass with state names its slots in ``own`` and defines ``settle(p, *own, *numbers) -> (p, *own)``, written like a
    ``direction`` (static, without numeric literals), and ``due``. Raises KnobError where both have a knob or slot of one name.
    """

    own: ClassVar[tuple[str, ...]] = ()
    copies: ClassVar[bool] = False  # own slots begin as copies of the first parameters; False: as zeros, when first due
    settle: ClassVar[Callable[..., tuple[Any, ...]]]

    inner: Rule

    def __post_init__(self) -> None:
        shared = set(plain_knobs(self)) & set(knob_names(self.inner)) | set(self.own) & set(self.inner.slots)
        if shared:
            raise KnobError(self.name, f"cannot wrap a rule that has {', '.join(sorted(shared))} too", got=str(self.inner))

    def due(self, t: int) -> tuple[Any, ...] | None:  # noqa: ARG002 (wrappers that settle use it)
        """Return what ``settle`` takes after the slots at step ``t``, coefficients of the same kind; None: nothing to do."""
        return None

    # ----------------------------------------------------------------------------------------- the rest is the inner rule's

    @property
    def core(self) -> Rule:
        """The innermost rule."""
        return self.inner.core

    @property
    def tails(self) -> tuple[Wrapper, ...]:
        """The wrappers that settle, innermost first."""
        return (*self.inner.tails, self) if self.own else self.inner.tails

    @property
    def ascent(self) -> SAM | None:
        """The wrapper that wants the gradient twice, if there is one."""
        return self.inner.ascent

    # Rules declare the following once for all settings; for a wrapper they depend on what it holds.

    @property
    def slots(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The slots of the inner rule and those of the wrapper."""
        return (*self.inner.slots, *self.own)

    @property
    def memory(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The running numbers of the inner rule."""
        return self.inner.memory

    @property
    def decays(self) -> Literal["coupled", "decoupled", "inside"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How the inner rule decays weights."""
        return self.inner.decays

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the inner rule works per element; what wrappers add always does."""
        return self.inner.elementwise

    @property
    def lr(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner rule's learning rate."""
        return self.inner.lr

    def remember(self, t: int, *memory: float) -> tuple[float, ...]:
        """Return the inner rule's memory."""
        return self.inner.remember(t, *memory)

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:
        """Return the inner rule's coefficients."""
        return self.inner.coefficients(t, *memory)

    def rate(self, t: int) -> float:
        """Return the inner rule's rate."""
        return self.inner.rate(t)

    def idle(self) -> frozenset[str]:
        """Return the slots that the inner rule leaves unused."""
        return self.inner.idle()

    def initial(self, slot: str) -> float:
        """Return what the inner rule fills its slots with; own slots that are not copies begin at zero."""
        return 0.0 if slot in self.own else self.inner.initial(slot)

    def extent(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the parameter's shape for own slots."""
        return shape if slot in self.own else self.inner.extent(slot, shape)

    def looks_ahead(self) -> bool:
        """Return whether the inner rule does."""
        return self.inner.looks_ahead()

    def vantage(self, p: Any, slots: tuple[Any, ...]) -> Any:
        """Return the inner rule's vantage."""
        return self.inner.vantage(p, slots[: len(self.inner.slots)])

    def averages(self) -> bool:
        """Return whether the inner rule does."""
        return self.inner.averages()

    def answer(self, p: Any, slots: tuple[Any, ...]) -> Any:
        """Return the inner rule's answer."""
        return self.inner.answer(p, slots[: len(self.inner.slots)])


# ----------------------------------------------------------------------------------------------------- knobs, seen through


def plain_knobs(rule: Rule) -> tuple[str, ...]:
    """Return the names of a rule's own knobs, without the rule that it wraps."""
    return _plain_knobs(type(rule))


@cache
def _plain_knobs(kind: type[Rule]) -> tuple[str, ...]:
    return tuple(knob.name for knob in knobs(kind) if knob.family is None)


def knob_names(rule: Rule) -> tuple[str, ...]:
    """Return the names of all knobs of a rule, seen through wrappers: its own, then those of the rules inside."""
    return plain_knobs(rule) + (knob_names(rule.inner) if isinstance(rule, Wrapper) else ())


def knob_values(rule: Rule) -> dict[str, Any]:
    """Return the values of all knobs of a rule, seen through wrappers, in the order of ``knob_names``."""
    own = {name: getattr(rule, name) for name in plain_knobs(rule)}
    return own | (knob_values(rule.inner) if isinstance(rule, Wrapper) else {})


def with_knobs(rule: Rule, **values: Any) -> Rule:
    """Return ``rule`` with other values for some knobs, each set where it belongs, be it inside a wrapper.

    Raises KnobError for a knob that nobody in the chain has, and for a value that is illegal.
    """
    own = {name: getattr(rule, name) for name in plain_knobs(rule)}
    rest = {name: value for name, value in values.items() if name not in own}
    if isinstance(rule, Wrapper):
        inner = with_knobs(rule.inner, **rest) if rest else rule.inner
        return type(rule)(**own | {name: values[name] for name in own.keys() & values.keys()} | {"inner": inner})
    if rest:
        raise KnobError(rule.name, f"has no knob {next(iter(rest))!r}", fix=f"Its knobs: {', '.join(own)}.")
    return type(rule)(**own | values)


def chain_of(rule: Rule) -> str:
    """Return the names of a rule and of those inside it: ``ema(adamw)``."""
    return f"{rule.name}({chain_of(rule.inner)})" if isinstance(rule, Wrapper) else rule.name

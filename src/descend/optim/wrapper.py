"""Rules around rules: the inner rule steps as ever, and something is added before or after.

What is added after is ``after_step``, which sees each weight right after it moved, in the same sweep of the same kernel, so
an average of weights costs no further pass over them. On steps without ``coefficients`` nothing is read or written at all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, ClassVar

from descend.errors import KnobError
from descend.optim.rule import Rule, UpdateRule
from descend.technique import knobs


class Wrapper(Rule):
    """The base of every rule around another: ``inner``, plus what is added to its step.

    What is added belongs to the steps of the whole optimizer, counted over all parameters: one that has no gradient stays where
    it is, and is averaged with the others. A subclass with state names the slots that it adds in ``slots``, which begin as copies
    of the parameters, and defines ``after_step(p, *slots, *coefficients) ->
    (p, *slots)``, written like a ``direction`` (static, without numeric literals). Raises KnobError where both rules have a knob
    or slot of one name.
    """

    after_step: ClassVar[Callable[..., tuple[Any, ...]]]

    inner: Rule

    def __post_init__(self) -> None:
        taken = {slot for part in parts(self.inner) for slot in part.slots}
        shared = set(plain_knobs(self)) & set(knob_names(self.inner)) | set(self.slots) & taken
        if shared:
            raise KnobError(self.name, f"cannot wrap a rule that has {', '.join(sorted(shared))} too", got=str(self.inner))

    @property
    def lr(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride] (no knob of its own)
        """The learning rate with which the inner rule steps."""
        return self.inner.lr

    def coefficients(self, t: int) -> tuple[Any, ...] | None:  # noqa: ARG002 (wrappers that act after the step use it)
        """Return the numbers that ``after_step`` takes after the slots at step ``t`` = 1, 2, ...; None: nothing to do."""
        return None

    def begun(self, t: int) -> bool:  # noqa: ARG002 (wrappers that begin later use it)
        """Return whether the slots are kept from step ``t`` on, or have been before; those not kept yet take no memory."""
        return True


class Perturbation(Wrapper):
    """The base of wrappers that want the gradient a second time, away from the parameters."""

    @abstractmethod
    def scaled_gradient(self, p: Any, g: Any) -> Any:
        """Return that of which the norm is taken, jointly over all parameters."""

    @abstractmethod
    def perturbed(self, p: Any, g: Any, norm: float) -> Any:
        """Return the point of the second gradient; norm: of what ``scaled_gradient`` returns, over all parameters."""


# ------------------------------------------------------------------------------------------- rules and knobs, seen through


def parts(rule: Rule) -> tuple[UpdateRule, *tuple[Wrapper, ...]]:
    """Return the rule that makes the step and the wrappers around it, innermost first."""
    if isinstance(rule, Wrapper):
        return (*parts(rule.inner), rule)
    if not isinstance(rule, UpdateRule):
        raise KnobError(type(rule).__name__, "a rule must extend UpdateRule or Wrapper", got=type(rule).__base__)
    return (rule,)


def plain_knobs(rule: Rule) -> tuple[str, ...]:
    """Return the names of a rule's own knobs, without the rule that it wraps."""
    return _plain_knobs(type(rule))


@cache
def _plain_knobs(kind: type[Rule]) -> tuple[str, ...]:
    return tuple(knob.name for knob in knobs(kind) if knob.family is None)


def knob_names(rule: Rule) -> tuple[str, ...]:
    """Return the names of all knobs of a rule, seen through wrappers: its own, then those of the rules inside."""
    return tuple(name for part in reversed(parts(rule)) for name in plain_knobs(part))


def knob_values(rule: Rule) -> dict[str, Any]:
    """Return the values of all knobs of a rule, seen through wrappers, in the order of ``knob_names``."""
    return {name: getattr(part, name) for part in reversed(parts(rule)) for name in plain_knobs(part)}


def with_knobs(rule: Rule, **values: Any) -> Rule:
    """Return ``rule`` with other values for some knobs, each set where it belongs, be it inside a wrapper.

    Raises KnobError for a knob that no part of the rule has, and for a value that is illegal.
    """
    names = plain_knobs(rule)
    here = {name: values.get(name, getattr(rule, name)) for name in names}
    inside = {name: value for name, value in values.items() if name not in names}
    if isinstance(rule, Wrapper):
        return type(rule)(**here | {"inner": with_knobs(rule.inner, **inside) if inside else rule.inner})
    if inside:
        raise KnobError(rule.name, f"has no knob {next(iter(inside))!r}", fix=f"Its knobs: {', '.join(names)}.")
    return type(rule)(**here)


def with_default_knobs(rule: Rule, names: Iterable[str]) -> Rule:
    """Return ``rule`` with some knobs as they are where nobody sets them, so that its text does not name them."""
    defaults = {knob.name: knob.default for part in reversed(parts(rule)) for knob in knobs(type(part))}
    return with_knobs(rule, **{name: defaults[name] for name in names})

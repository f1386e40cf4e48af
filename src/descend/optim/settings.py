"""Knobs as they live in ``param_groups``, where schedulers write them and groups override them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from descend.errors import KnobError, ModelError, nearest
from descend.optim.chain import Chain
from descend.optim.rule import Rule
from descend.optim.wrapper import knob_names, knob_values, with_knobs

LABELS = ("params", "param_names", "name", "lr_scale", "initial_lr", "maximize")
"""What a group may hold besides knobs: what it consists of, and what the training loop and torch's schedulers note there."""


class Group(dict[str, Any]):
    """A parameter group in which ``betas`` and ``beta1``, ``beta2``, ... are two spellings of the same numbers.

    torch's OneCycleLR and many training scripts write ``betas``; the knobs are single numbers.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if key == "betas":
            for position, beta in enumerate(value, start=1):
                super().__setitem__(f"beta{position}", beta)
        elif key in ("beta1", "beta2", "beta3") and "betas" in self:
            super().__setitem__("betas", betas_of(self))

    def update(self, *mappings: Any, **settings: Any) -> None:  # dict's own bypasses __setitem__
        """Set every given key, as ``dict.update``."""
        for key, value in dict(*mappings, **settings).items():
            self[key] = value


def betas_of(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return ``(beta1, beta2, ...)`` of knobs that have them, else ()."""
    names = ("beta1", "beta2", "beta3")
    return tuple(settings[name] for name in names if name in settings) if "beta2" in settings else ()


def settings_of(rule: Rule) -> dict[str, Any]:
    """Return a rule's knobs, those inside wrappers among them, as the defaults of its parameter groups."""
    plain = knob_values(rule)
    return plain | ({"betas": betas_of(plain)} if betas_of(plain) else {})


def checked_group(rule: Rule, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the group that a user wrote, with ``betas`` spelled out; an unknown or illegal setting is an error."""
    known = knob_names(rule)
    group = {key: value for key, value in given.items() if key != "betas"}
    if "betas" in given:
        names = [f"beta{position}" for position in range(1, len(betas_of(settings_of(rule))) + 1)]
        if len(names) != len(given["betas"]):
            raise KnobError(rule.name, f"betas of a group must be {len(names)} numbers", got=given["betas"])
        group |= dict(zip(names, given["betas"], strict=True))
    for key in group:
        if key not in known and key not in LABELS:
            raise KnobError(rule.name, f"has no knob {key!r} for a parameter group", fix=nearest(key, known))
    rule_of(rule, settings_of(rule) | group)
    return group


def check_saved(rule: Rule, saved: Mapping[str, Any], params: Sequence[Tensor]) -> None:
    """Raise where saved groups lack knobs of ``rule``, or a saved slot does not fit the parameter in its place."""
    who, rest = "Optimizer.load_state_dict", iter(params)
    for group in saved["param_groups"]:
        if missing := set(knob_names(rule)) - set(group):
            raise KnobError(who, f"groups must hold all knobs of {rule.name!r}, but one lacks {min(missing)!r}",
                            fix="State of torch.optim goes through optim.from_torch.")  # fmt: skip
        here = group_chain(rule, group)
        for key, parameter in zip(group["params"], rest, strict=False):  # torch says where their numbers differ
            shape, state = tuple(parameter.shape), saved["state"].get(key, {})
            for name in set(here.slots) & set(state):
                if here.slot_shape(name, shape) not in (None, tuple(state[name].shape)):
                    must = f"slot {name!r} of parameter {key} {shape} must have shape {here.slot_shape(name, shape)}"
                    raise ModelError(who, must, got=tuple(state[name].shape))


def rule_of(rule: Rule, group: Mapping[str, Any]) -> Rule:
    """Return the rule with the knobs that ``group`` holds now; an illegal one is a KnobError."""
    return group_chain(rule, group).rule


def group_chain(rule: Rule, group: Mapping[str, Any]) -> Chain:
    """Return the rule with the knobs that ``group`` holds now, taken apart; an illegal knob is a KnobError."""
    return _rebuilt(rule, tuple((name, _number(group[name])) for name in knob_names(rule)))


@lru_cache(maxsize=512)  # schedules change a knob every step, but all groups and many steps share values
def _rebuilt(rule: Rule, settings: Iterable[tuple[str, Any]]) -> Chain:
    return Chain(with_knobs(rule, **dict(settings)))


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value

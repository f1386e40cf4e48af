"""Knobs as they live in ``param_groups``, where schedulers write them and groups override them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from descend.errors import KnobError, ModelError, nearest
from descend.optim.chain import Chain
from descend.optim.rule import Rule
from descend.optim.wrapper import knob_names, knob_values, with_knobs
from descend.technique import Technique, build, registered

LABELS = ("params", "param_names", "name", "lr_scale", "initial_lr", "maximize")
"""What a group may hold besides knobs: what it consists of, and what the training loop and torch's schedulers note there."""


BETAS = ("beta1", "beta2", "beta3")


def betas_of(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return ``(beta1, beta2, ...)`` of knobs that have two or more of them, else ()."""
    numbers = tuple(settings[name] for name in BETAS if name in settings)
    return numbers if len(numbers) > 1 else ()


def agree_on_betas(rule: Rule, group: dict[str, Any], last: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make ``betas`` and ``beta1``, ``beta2``, ... of a group the same numbers, after either was written; return these numbers.

    torch's OneCycleLR and many training scripts write ``betas``; the knobs are single numbers. Groups are plain dicts, as
    torch.compile wants them, so what was written shows when they are read. last: the numbers on which they agreed before;
    ``betas`` wins where both differ from them. Raises KnobError for ``betas`` of another length.
    """
    single = betas_of(group)
    if not single:
        return ()
    both = tuple(group.get("betas", single))
    if both == single:
        return both
    if both == last:
        both = group["betas"] = single
    else:
        group |= _spelled_out(rule, both)
    return both


def _spelled_out(rule: Rule, betas: Sequence[Any]) -> dict[str, Any]:
    """Return ``beta1``, ``beta2``, ... for ``betas``."""
    names = BETAS[: len(betas_of(knob_values(rule)))]
    if not names:
        raise KnobError(rule.name, "has no knob 'betas'", fix=f"Its knobs: {', '.join(knob_names(rule))}.")
    if len(names) != len(betas):
        raise KnobError(rule.name, f"betas of a group must be {len(names)} numbers", got=tuple(betas))
    return dict(zip(names, betas, strict=True))


def read_rule(given: Any, settings: Mapping[str, Any]) -> Rule:
    """Return the rule that ``given`` stands for, with ``settings`` in place of its own knobs.

    Raises SpecError and KnobError; what people bring from torch.optim gets an error that says what to write.
    """
    kind = _kind(given)
    if issubclass(kind, torch.optim.Optimizer):
        known = {rule.name for rule in registered(Rule)}
        name = kind.__name__.lower()
        fix = f"Write Optimizer(params, {name!r}, lr=...)." if name in known else f"Rules: {', '.join(sorted(known))}."
        raise KnobError("Optimizer", "rule must be a rule of descend or its text", got=f"torch's {kind.__name__}", fix=fix)
    if isinstance(given, float | int):
        fix = f"Write Optimizer(params, 'adamw', lr={given})."
        raise KnobError("Optimizer", "rule must be a rule or its text", got=given, fix=fix)
    rule = build(given, Rule)
    settings = dict(settings)
    if "betas" in settings:
        settings |= _spelled_out(rule, settings.pop("betas"))
    known = knob_names(rule)
    for name, value in settings.items():
        if name not in known:
            raise KnobError(rule.name, f"has no knob {name!r}", fix=rule.explain(name, value) or nearest(name, known))
    return with_knobs(rule, **settings)


def _kind(given: Any) -> type:
    return given if isinstance(given, type) else type(given)


def check_parameters(params: Any) -> None:
    """Raise KnobError for what is often given in place of parameters."""
    if isinstance(params, nn.Module):
        raise KnobError("Optimizer", "params must be parameters", got=type(params).__name__, fix="Pass model.parameters().")
    if isinstance(params, str | Technique):
        raise KnobError("Optimizer", "params must be parameters", got=str(params), fix="Write Optimizer(params, rule).")


def settings_of(rule: Rule) -> dict[str, Any]:
    """Return a rule's knobs, those inside wrappers among them, as the defaults of its parameter groups."""
    plain = knob_values(rule)
    return plain | ({"betas": betas_of(plain)} if betas_of(plain) else {})


def checked_group(rule: Rule, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the group that a user wrote, complete; an unknown or illegal setting is an error.

    ``betas`` are spelled out, and ``lr_scale`` (of ``parameter_groups``) without ``lr`` sets it: ``lr_scale`` times the rule's.
    """
    known = knob_names(rule)
    group = dict(given)
    if "betas" in group:
        group |= _spelled_out(rule, group["betas"])
    if "lr_scale" in group:
        group.setdefault("lr", rule.lr * group["lr_scale"])
    for key in group:
        if key not in known and key not in (*LABELS, "betas"):
            raise KnobError(rule.name, f"has no knob {key!r} for a parameter group", fix=nearest(key, known))
    complete = settings_of(rule) | group
    rule_of(rule, complete)
    return group | ({"betas": betas_of(complete)} if betas_of(complete) else {})


def check_saved(rule: Rule, saved: Mapping[str, Any], params: Sequence[Tensor]) -> None:
    """Raise where saved groups are not of ``rule``, or a saved slot does not fit the parameter in its place.

    A group that names no rule has lost its mark on the way, or is another optimizer's, which shows by settings that are not ours.
    """
    who, rest = "Optimizer.load_state_dict", iter(params)
    for group in saved["param_groups"]:
        if missing := set(knob_names(rule)) - set(group):
            raise KnobError(who, f"groups must hold all knobs of {rule.name!r}, but one lacks {min(missing)!r}",
                            fix="State of torch.optim goes through optim.from_torch.")  # fmt: skip
        if "rule" not in group and (foreign := set(group) - {*knob_names(rule), *LABELS, "betas"}):
            raise KnobError(who, f"state must be of rule {rule.name!r}", got=f"a group with {min(foreign)!r}",
                            fix="State of torch.optim goes through optim.from_torch.")  # fmt: skip
        here = group_chain(rule, group)
        for key, parameter in zip(group["params"], rest, strict=False):  # torch says where their numbers differ
            shape, state = tuple(parameter.shape), saved["state"].get(key, {})
            for name in set(here.slots) & set(state):
                if here.slot_shape(name, shape) not in (None, tuple(state[name].shape)):
                    must = f"slot {name!r} of parameter {key} {shape} must have shape {here.slot_shape(name, shape)}"
                    raise ModelError(who, must, got=tuple(state[name].shape))


def by_names(saved: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a saved state in the order of ``groups``, where both name their parameters and the names agree.

    Where they differ, a name of one side only counts as a new name of what stands in its place; a name that both know must stand
    in one place, else KnobError is raised.
    """
    theirs: list[Any] = [group.get("param_names") for group in saved["param_groups"]]
    ours: list[Any] = [group.get("param_names") for group in groups]
    if theirs == ours or None in (*theirs, *ours):
        return dict(saved)
    found = {frozenset(names): group for names, group in zip(theirs, saved["param_groups"], strict=True)}
    if len(ours) == len(theirs) == len(found) and found.keys() == set(map(frozenset, ours)):
        ordered = []
        for names in ours:
            group = found[frozenset(names)]
            keys = dict(zip(group["param_names"], group["params"], strict=True))
            ordered.append({**group, "params": [keys[name] for name in names], "param_names": names})
        return {**saved, "param_groups": ordered}
    places = {name: place for place, name in enumerate(chain.from_iterable(theirs))}
    for place, name in enumerate(chain.from_iterable(ours)):
        if places.get(name, place) != place:
            raise KnobError("Optimizer.load_state_dict", f"the state of {name!r} must stand in its place, {place}",
                            got=f"place {places[name]}", fix="Make the groups as they were saved.")  # fmt: skip
    return dict(saved)


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

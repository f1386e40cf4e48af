"""State of ``torch.optim`` in ours and back: a run that began with one goes on with the other, on the same path.

>>> import torch
>>> from descend.optim import Optimizer, from_torch, to_torch
>>> model = torch.nn.Linear(4, 2)
>>> theirs = torch.optim.AdamW(model.parameters(), lr=0.003)
>>> model(torch.ones(1, 4)).sum().backward()
>>> theirs.step()
>>> ours = Optimizer(model.parameters(), "adamw")
>>> ours.load_state_dict(from_torch(theirs.state_dict(), "adamw"))
>>> ours.param_groups[0]["lr"]
0.003
>>> theirs.load_state_dict(to_torch(ours))

Both ways go from state dict to state dict, so they need no model and work on files. As with any ``load_state_dict``, the knobs
in the state (rate, betas, decay, per group) replace those the optimizer was made with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from descend.errors import KnobError, ModelError, nearest
from descend.optim.chain import chain_of
from descend.optim.optimizer import PENDING, Optimizer
from descend.optim.rule import IMPLEMENTATION, Rule
from descend.optim.settings import LABELS, rule_of, settings_of
from descend.optim.tensors import working_dtype
from descend.technique import build, knobs

LATER = ("decoupled_weight_decay",)
"""Settings that files written by older versions of torch lack; ``maximize``, a label of ours, is one more."""

NOTES = (*LABELS, "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr")
"""What may stand in a group besides: its parts, and what torch's schedulers note there."""


@dataclass(frozen=True)
class Switch:
    """A setting of torch's that must have one value for the two rules to be the same."""

    key: str
    value: Any
    unless: str = ""  # a setting which, at 0, makes the switch one without effect

    def holds(self, group: Mapping[str, Any]) -> bool:
        """Return whether a group of torch's is as our rule needs it; older versions of torch lack some switches."""
        idle = bool(self.unless) and not group.get(self.unless)
        return idle or group.get(self.key, self.value) == self.value


@dataclass(frozen=True)
class Counterpart:
    """What one of our rules is called in torch: its class, and for slots, memories and knobs ours -> theirs."""

    theirs: type[torch.optim.Optimizer]
    slots: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)  # knobs; the others keep their names
    fixed: Mapping[str, Any] = field(default_factory=dict)  # knobs that torch lacks, and what makes the rule torch's
    switches: tuple[Switch, ...] = ()
    counts: bool = True  # torch keeps the number of steps


_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}
_COUPLED = Switch("decoupled_weight_decay", False, unless="weight_decay")
_UNDAMPED = Switch("dampening", 0, unless="momentum")

COUNTERPARTS: Mapping[str, Counterpart] = {
    "sgd": Counterpart(torch.optim.SGD, switches=(Switch("momentum", 0),), counts=False),
    "momentum": Counterpart(
        torch.optim.SGD, {"v": "momentum_buffer"}, fixed={"form": "lr_outside"}, counts=False,
        switches=(Switch("nesterov", False, unless="momentum"), _UNDAMPED),
    ),
    "nesterov": Counterpart(
        torch.optim.SGD, {"v": "momentum_buffer"}, fixed={"form": "current"}, counts=False,
        switches=(Switch("nesterov", True, unless="momentum"), _UNDAMPED),
    ),
    "adagrad": Counterpart(torch.optim.Adagrad, {"s": "sum"}, {"start": "initial_accumulator_value"}),
    "rmsprop": Counterpart(
        torch.optim.RMSprop, {"v": "square_avg", "m": "grad_avg", "b": "momentum_buffer"}, {"beta": "alpha"},
        fixed={"eps_place": "outside"},
    ),
    "adadelta": Counterpart(torch.optim.Adadelta, {"v": "square_avg", "d": "acc_delta"}, {"beta": "rho"}),
    "adam": Counterpart(
        torch.optim.Adam, _MOMENTS, fixed={"debias": True}, switches=(Switch("amsgrad", False), _COUPLED)
    ),
    "adamw": Counterpart(
        torch.optim.AdamW, _MOMENTS,
        switches=(Switch("amsgrad", False), Switch("decoupled_weight_decay", True, unless="weight_decay")),
    ),
    "amsgrad": Counterpart(
        torch.optim.Adam, _MOMENTS | {"top": "max_exp_avg_sq"}, switches=(Switch("amsgrad", True), _COUPLED)
    ),
    "adamax": Counterpart(torch.optim.Adamax, {"m": "exp_avg", "v": "exp_inf"}),
    "nadam": Counterpart(torch.optim.NAdam, _MOMENTS | {"mu_product": "mu_product"}, switches=(_COUPLED,)),
    "radam": Counterpart(torch.optim.RAdam, _MOMENTS, switches=(_COUPLED,)),
}  # fmt: skip
"""Every rule that torch has too."""


def from_torch(state_dict: Mapping[str, Any], rule: Rule | str) -> dict[str, Any]:
    """Return the state of a ``torch.optim`` optimizer as ``Optimizer(params, rule).load_state_dict`` takes it.

    state_dict: what SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, NAdam or RAdam of torch returned, for the same
    parameters in the same groups and order. rule: the rule with which to go on, ``"adamw"`` or ``AdamW()``; its knobs are
    those of the state, group by group. SGD is ``sgd``, ``momentum`` or ``nesterov``, by its settings; Adam(amsgrad=True) is
    ``amsgrad``.

    Tensors are copied; slots of half-precision weights become float32. A scheduler's state is its own, and stays as it is.
    Raises KnobError where the state is another optimizer's, or has settings that the rule lacks (SGD's dampening, NAdam's and
    RAdam's decoupled decay, AdamW's amsgrad), ModelError where tensors are missing, unknown, or differ in shape.
    """
    rule = build(rule, Rule)
    match = _counterpart("from_torch", rule)
    if not {"state", "param_groups"} <= set(state_dict):
        raise KnobError("from_torch", "state must hold 'state' and 'param_groups'", got=sorted(map(str, state_dict)))
    groups, states = [], {}
    for number, group in enumerate(state_dict["param_groups"]):
        here = _our_rule(rule, match, number, group)
        notes = {key: value for key, value in group.items() if key in NOTES}
        groups.append(settings_of(here) | {"maximize": False} | notes | {"rule": rule.name})
        for key in group["params"]:
            if key in state_dict["state"]:
                states[key] = _our_state(here, match, key, state_dict["state"][key])
    if lost := set(state_dict["state"]) - set(states):
        raise ModelError("from_torch", "every state must belong to a parameter of a group", got=sorted(map(str, lost)))
    return {"state": states, "param_groups": groups}


def to_torch(optimizer: Optimizer) -> dict[str, Any]:
    """Return the state of ``optimizer`` as the ``load_state_dict`` of its rule's namesake in ``torch.optim`` takes it.

    For ``sgd``, ``momentum`` and ``nesterov`` that is torch.optim.SGD, for ``amsgrad`` Adam, for the others the one of their
    name, made for the same parameters in the same groups and order; its settings become those of ``optimizer``. Tensors are
    copied. When torch loads them it casts float32 slots to the dtype of half-precision weights.

    Raises KnobError where torch has no such rule, or not in this form (``lr_inside``, ``lookahead``, ``eps_place="inside"``,
    ``debias=False``), ModelError where parameters hold more state than torch has room for.
    """
    match = _counterpart("to_torch", optimizer.rule)
    optimizer._agree()  # a scheduler may have written ``betas`` since the last step
    defaults, eager = _defaults(match.theirs)
    groups, states, first = [], {}, 0
    for group in optimizer.param_groups:
        rule = rule_of(optimizer.rule, group)
        _check_form("to_torch", rule, match)
        keys = list(range(first, first := first + len(group["params"])))
        notes = {key: value for key, value in group.items() if key in NOTES}
        groups.append(defaults | _their_settings(rule, match) | notes | {"params": keys})
        for key, parameter in zip(keys, group["params"], strict=True):
            state = optimizer.state.get(parameter) or (_fresh(rule, match, parameter) if eager else None)
            if state:
                states[key] = _their_state(match, key, state)
    return {"state": states, "param_groups": groups}


def _counterpart(who: str, rule: Rule) -> Counterpart:
    if rule.name not in COUNTERPARTS:
        known = ", ".join(sorted(COUNTERPARTS))
        raise KnobError(who, "the rule must be one that torch.optim has too", got=rule.name, fix=f"These are: {known}.")
    match = COUNTERPARTS[rule.name]
    _check_form(who, rule, match)
    return match


def _check_form(who: str, rule: Rule, match: Counterpart) -> None:
    for name, value in match.fixed.items():
        if getattr(rule, name) != value:
            must = f"{rule.name}'s {name} must be {value!r}, the form that torch.optim.{match.theirs.__name__} has"
            raise KnobError(who, must, got=getattr(rule, name))


@cache
def _defaults(theirs: type[torch.optim.Optimizer]) -> tuple[dict[str, Any], bool]:
    """Return the settings of torch's optimizer in the installed version, and whether its state exists before the first step."""
    make: Any = theirs  # the base class, which the annotation names, wants defaults
    fresh = make([torch.zeros(1, requires_grad=True)])
    return dict(fresh.defaults), bool(fresh.state)


# ------------------------------------------------------------------------------------------------------------ theirs -> ours


def _names(rule: Rule, match: Counterpart) -> Iterator[tuple[str, str, int | None]]:
    """Yield each knob that torch has too: our name, torch's, and the place in it where it is one of several."""
    for knob in knobs(type(rule)):
        if knob.name in ("beta1", "beta2"):
            yield knob.name, "betas", int(knob.name[-1]) - 1
        elif knob.name not in match.fixed:
            yield knob.name, match.renamed.get(knob.name, knob.name), None


def _our_rule(rule: Rule, match: Counterpart, number: int, group: Mapping[str, Any]) -> Rule:
    """Return ``rule`` with the knobs of one group of torch's."""
    called = f"torch.optim.{match.theirs.__name__}"
    if "rule" in group:
        raise KnobError("from_torch", f"the state must be that of {called}, but is one of ours", got=group["rule"],
                        fix="Load it as it is.")  # fmt: skip
    known = {*_defaults(match.theirs)[0], *IMPLEMENTATION, *NOTES}
    needed = known - {*IMPLEMENTATION, *NOTES, *LATER} | {"params"}
    missing, unknown = needed - set(group), set(group) - known
    if missing or unknown:
        what = f"lacks {min(missing)!r}" if missing else f"has {min(unknown)!r}"
        raise KnobError("from_torch", f"the state must be that of {called}, but group {number} {what}", fix=_guess(group))
    for switch in match.switches:
        if not switch.holds(group):
            must = f"{switch.key} of group {number} must be {switch.value!r} for the rule {rule.name!r}"
            raise KnobError("from_torch", must, got=group[switch.key], fix=_alternative(match, group))
    values = {
        ours: _plain(group[theirs] if place is None else group[theirs][place], like=getattr(rule, ours))
        for ours, theirs, place in _names(rule, match)
    }
    return rule_of(rule, settings_of(rule) | values)


def _plain(value: Any, like: Any) -> Any:
    """Return a setting as the knob wants it: torch allows tensors, and 0 for 0.0."""
    value = value.item() if isinstance(value, Tensor) else value
    return float(value) if isinstance(like, float) and isinstance(value, int) else value


def _guess(group: Mapping[str, Any]) -> str:
    """Return whose settings these seem to be."""
    settings = set(group) - set(NOTES) - set(IMPLEMENTATION)
    for match in COUNTERPARTS.values():
        if settings == set(_defaults(match.theirs)[0]) - set(NOTES) - set(IMPLEMENTATION):
            return f"It looks like that of torch.optim.{match.theirs.__name__}."
    return "Keep settings of your own out of the groups."


def _alternative(match: Counterpart, group: Mapping[str, Any]) -> str:
    """Return which of our rules takes these settings."""
    settings = set(_defaults(match.theirs)[0])
    for name, other in COUNTERPARTS.items():
        if set(_defaults(other.theirs)[0]) == settings and all(switch.holds(group) for switch in other.switches):
            return f"Use the rule {name!r}."
    return "No rule of ours has this form; go on with torch's."


def _our_state(rule: Rule, match: Counterpart, key: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return one parameter's state; what torch has not begun yet is left out, as in ours."""
    who = f"{match.theirs.__name__} state of parameter {key}"
    ours = {theirs: ours for ours, theirs in match.slots.items()} | ({"step": "step"} if match.counts else {})
    given = {name: value for name, value in state.items() if value is not None}
    for name in given:
        if name not in ours:
            raise ModelError("from_torch", f"{who} must hold known entries only, not {name!r}", fix=nearest(name, ours))
    for theirs, name in ours.items():
        if match.counts and theirs not in given and name not in chain_of(rule).core.unused():
            raise ModelError("from_torch", f"{who} must hold {theirs!r}", got=sorted(given))
    if len(shapes := {tuple(given[name].shape) for name in given if ours[name] in rule.slots}) > 1:
        raise ModelError("from_torch", f"{who} must hold tensors of one shape", got=sorted(shapes))
    return {ours[name]: _our_value(rule, ours[name], value) for name, value in given.items()}


def _our_value(rule: Rule, name: str, value: Any) -> Any:
    if name in rule.slots:
        return value.detach().to(working_dtype(value.dtype), copy=True)
    return int(value) if name == "step" else float(value)


# ------------------------------------------------------------------------------------------------------------ ours -> theirs


def _their_settings(rule: Rule, match: Counterpart) -> dict[str, Any]:
    """Return the knobs of one group under torch's names."""
    settings: dict[str, Any] = {switch.key: switch.value for switch in match.switches if switch.key in _defaults(match.theirs)[0]}
    for ours, theirs, place in _names(rule, match):
        value = getattr(rule, ours)
        settings[theirs] = value if place is None else (*settings.get(theirs, ()), value)
    return settings


def _fresh(rule: Rule, match: Counterpart, parameter: Tensor) -> dict[str, Any]:
    """Return the state of a parameter before its first step."""
    return {"step": 0} | {name: torch.full_like(parameter, rule.initial(name)).detach() for name in match.slots}


def _their_state(match: Counterpart, key: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return one parameter's state under torch's names."""
    known = {**match.slots, "step": "step"}
    if extra := set(state) - set(known):
        must = f"parameter {key} must hold no state that torch.optim.{match.theirs.__name__} has no room for"
        raise ModelError("to_torch", must, got=sorted(extra), fix="Call flush() first." if PENDING in extra else "")
    number = torch.get_default_dtype()  # in which torch keeps counts
    return {
        known[name]: value.detach().clone() if isinstance(value, Tensor) else torch.tensor(float(value), dtype=number)
        for name, value in state.items()
        if name != "step" or match.counts
    }

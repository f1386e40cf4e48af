"""From what was asked for to what will be done: every open setting is chosen, with its reason; every dead one refused.

``resolve`` is a pure function of a recipe and a profile of the data: one loop over the settings, in which the transfer mode gives
the defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from descend.augment import expand
from descend.errors import KnobError
from descend.models import backbone
from descend.optim import GradientStage, Rule, knob_names, with_knobs
from descend.regularize import Regularizer, check_together, merged_knobs
from descend.schedule import History, Schedule
from descend.technique import Call, build, parse
from descend.train import cadence
from descend.train.modes import MODES
from descend.train.modes.mode import Default, Mode, asked_beyond
from descend.train.plan import DataProfile, Plan
from descend.train.recipe import SEARCH_ONLY, USUAL, Recipe
from descend.transfer import Head


def _regularizers(texts: Sequence[Any]) -> tuple[Regularizer, ...]:
    regularizers = tuple(build(text, Regularizer) for text in texts)
    check_together(regularizers)
    return regularizers


TECHNIQUES: dict[str, Callable[[Any], Any]] = {
    "backbone": backbone,
    "head": lambda text: build(text, Head),
    "augment": expand,
    "regularize": _regularizers,
    "optimizer": lambda text: build(text, Rule),
    "gradients": lambda texts: tuple(build(text, GradientStage) for text in texts),
    "schedule": lambda text: build(text, Schedule),
}
"""Settings that are spec text, and what turns it into techniques."""

WITHOUT_EFFECT = {
    "budget": None,
    "download": None,
    "weights": None,
    "feature_stages": "last",
    "freeze_to": None,
    "layer_decay": 1.0,
    "views": 0,
    "folds": None,
    "engine": "none",
    **USUAL,
}
"""What the plan says of settings that do not apply to its mode."""

AS_ASKED = (
    "init", "snapshots", "checkpoint_every", "background", "on_nan", "seed", "split_seed", "device", "threads", "data",
    "outside", "corrections", "steps", "latency", "max_size",
)  # fmt: skip
"""Settings that the plan takes as they are."""

ORDER = ("backbone", "download", "weights", "head", "feature_stages", "folds", "size", "fit", "crop_pct", "views", "augment",
         "regularize", "metric", "epochs", "batch_size", "optimizer", "gradients", "schedule", "norm", "freeze_to", "layer_decay",
         "engine", "budget")  # fmt: skip
"""A default may depend on the settings that stand before it."""


def check_specs(recipe: Recipe) -> None:
    """Raise SpecError or KnobError for text that names no technique or no cadence: before any picture is looked at."""
    for name, make in TECHNIQUES.items():
        value = getattr(recipe, name)
        if value not in (None, "auto", ("auto",)):
            make(value)
    cadence.check(recipe.checkpoint_every)


def resolve(recipe: Recipe, data: DataProfile) -> Plan:
    """Decide the run. Raises KnobError for a setting without effect, SpecError for text that names no technique."""
    reasons: dict[str, str] = {}
    mode = _mode(recipe, data, reasons).variant(recipe)
    _refuse_settings_without_effect(recipe, mode, reasons.get("transfer"))
    _check_fit(recipe, data)
    chosen: dict[str, Any] = {}
    for name in ORDER:
        value = getattr(recipe, name)
        if name not in mode.settings and name in WITHOUT_EFFECT:
            chosen[name] = WITHOUT_EFFECT[name]
            continue
        if name == "augment" and value == ("auto",):
            value, reasons[name] = mode.augment_by_size(data, chosen)
        elif name == "fit" and value == "auto" and recipe.crop_pct is not None:
            value, reasons[name] = "crop", "crop_pct is asked for"
        elif value is None or value == "auto":
            default = _default(mode, name, data, chosen)
            value = default.value
            if default.reason and (name in mode.settings or name == "norm"):
                reasons[name] = default.reason
        chosen[name] = TECHNIQUES[name](value) if name in TECHNIQUES else value
        if name == "backbone":
            chosen[name] = mode.prepared(chosen[name], recipe)
        elif name == "head":
            mode.check_head(chosen[name], chosen)
        elif name == "augment":
            mode.check_augment(chosen[name], chosen)
    _check_epochs(recipe, chosen)
    rule = chosen.pop("optimizer")
    return Plan(
        **chosen,
        optimizer=_with_regularizers_knobs(rule, recipe, chosen["regularize"]),
        rule=rule,
        transfer=mode.name,
        settings=mode.settings,
        reasons=reasons,
        **{name: getattr(recipe, name) for name in AS_ASKED},
    )


def mode_of(recipe: Recipe, data: DataProfile) -> str:
    """Return the name of the transfer mode that ``resolve`` will take."""
    return _mode(recipe, data, {}).name


def _mode(recipe: Recipe, data: DataProfile, reasons: dict[str, str]) -> Mode:
    if recipe.transfer != "auto":
        return MODES[recipe.transfer]
    _refuse_search_with_others(recipe)
    mode, reasons["transfer"] = next((mode, why) for mode in MODES.values() if (why := mode.suits(data, recipe)) is not None)
    return mode


def _refuse_search_with_others(recipe: Recipe) -> None:
    """Refuse a budget beside a setting that the search decides by itself: it belongs to one mode."""
    searching = next((name for name in SEARCH_ONLY if getattr(recipe, name) is not None), None)
    others = asked_beyond(recipe, MODES["auto"].settings)
    if searching is None or not others:
        return
    where = ", ".join(name for name, mode in MODES.items() if others[0] in mode.settings)
    raise KnobError(others[0], f"is decided by the search that {searching} asks for", got=getattr(recipe, others[0]),
                    fix=f"It belongs to transfer {where}: name one and leave {searching} out, or leave it out.")  # fmt: skip


def _default(mode: Mode, name: str, data: DataProfile, chosen: dict[str, Any]) -> Default:
    method = getattr(mode, f"default_{name}", None)
    if method is not None:
        return method(data, chosen)
    return Default(() if name in ("regularize", "gradients") else None, "")


def _refuse_settings_without_effect(recipe: Recipe, mode: Mode, why_mode: str | None) -> None:
    """Refuse what would change nothing. why_mode: why the pictures chose the mode, None where it was asked for."""
    for name in asked_beyond(recipe, mode.settings):
        value = getattr(recipe, name)
        if mode.name in MODES and name in MODES[mode.name].settings:  # another form of the mode has it
            raise KnobError(name, f"has no effect with {mode.described()}", got=value, fix=mode.instead)
        if name in SEARCH_ONLY and why_mode is not None:
            raise KnobError(name, f"has no effect here: {why_mode}", got=value,
                            fix="A network trained from scratch takes as long as its --epochs; leave it out.")  # fmt: skip
        if name in SEARCH_ONLY:
            raise KnobError(name, f"has no effect with transfer={mode.name!r}", got=value,
                            fix="It asks for a search: leave --transfer out, or leave it out.")  # fmt: skip
        where = ", ".join(sorted(one for one, other in MODES.items() if name in other.settings and one != "auto"))
        raise KnobError(name, f"has no effect with transfer={mode.name!r}", got=value,
                        fix=f"It belongs to transfer {where}: add --transfer, or leave it out.")  # fmt: skip


def _check_fit(recipe: Recipe, data: DataProfile) -> None:
    if recipe.fit in ("squash", "pad") and data.crop_loss.area == 0:
        raise KnobError("fit", "is about pictures that are not square, and all of these are", got=recipe.fit, fix="Leave it out.")
    if recipe.fit in ("squash", "pad") and recipe.crop_pct is not None:
        raise KnobError("crop_pct", f"has no effect with fit={recipe.fit!r}, which keeps all of a picture", got=recipe.crop_pct,
                        fix="Leave one of them out.")  # fmt: skip


def _check_epochs(recipe: Recipe, chosen: dict[str, Any]) -> None:
    epochs = chosen["epochs"]
    chosen["schedule"].decisions(History(n_epochs=epochs))  # it may need more epochs than there are
    if recipe.snapshots is not None and recipe.snapshots > epochs + 1:
        raise KnobError("snapshots", f"must be at most {epochs + 1}, one more than epochs", got=recipe.snapshots)


def _with_regularizers_knobs(rule: Rule, recipe: Recipe, regularize: tuple[Regularizer, ...]) -> Rule:
    """Return the rule with the knobs that regularizers set in it (l2 *is* weight decay); setting one twice is an error."""
    known = knob_names(rule)
    for name, value in merged_knobs(regularize, "optimizer_knobs").items():
        if name not in known:
            raise KnobError("regularize", f"sets {name}, which the optimizer {rule.name} does not have", got=value)
        if recipe.optimizer is not None and sets_knob(parse(recipe.optimizer), name):
            raise KnobError("regularize", f"and the optimizer both set {name}", got=recipe.optimizer, fix="Set it in one place.")
        rule = with_knobs(rule, **{name: value})
    return rule


def sets_knob(call: Call, knob: str) -> bool:
    """Return whether spec text sets ``knob``, in the rule itself or in one that it wraps."""
    nested = (*call.arguments, *call.settings.values())
    return knob in call.settings or any(sets_knob(part, knob) for part in nested if isinstance(part, Call))

"""The techniques of a recipe that can be left out, each with what the recipe is without it.

What is left out leaves everything else as it was: a complete recipe is changed, so no default fills the gap; the weight decay
that a regularizer has set is 0 without it, and what comes after a warm-up shares the whole run. Parts can be left out in any
order, so a recipe without any of them, and one with a single one, are made by the same functions.

setting                                     left out
augment, regularize, gradients              one item of the list
views                                       none, and the augmentation that they show
schedule                                    the warm-up, or the decay: a constant rate in its place
optimizer                                   a wrapper (``ema``, ``sam``, ...), or its weight decay
head                                        a linear one in its place
feature_stages, layer_decay, freeze_to      the last stage, one rate for all stages, nothing frozen
steps                                       one step of a search, all but the first look
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from descend.comparison.candidate import FAMILIES, changed
from descend.errors import KnobError
from descend.optim import Rule, Wrapper, knob_names, with_knobs
from descend.optim.wrapper import knob_values
from descend.regularize import Regularizer, merged_knobs
from descend.schedule import Constant, During, PerEpoch, Schedule, Then, Warmup
from descend.technique import build, parse
from descend.train.recipe import Recipe, from_settings

Change = Callable[[Recipe], Recipe]
ALONE = {"feature_stages": "last", "layer_decay": 1.0, "freeze_to": None}
"""Settings that are a technique by themselves, and their value without it."""


@dataclass(frozen=True)
class Part:
    """A technique of a recipe. without: returns a recipe without it."""

    name: str
    without: Change


def parts(recipe: Recipe) -> list[Part]:
    """Return the techniques of a complete recipe that can be left out, in the order of the module's table.

    Raises KnobError for a search whose answer has to keep a limit: which of its answers are shipped depends on all of them.
    """
    if recipe.transfer == "auto":
        return [*_steps(recipe)]
    found = [*_listed(recipe), *_scheduled(recipe), *_of_the_rule(recipe)]
    if recipe.head is not None and parse(recipe.head).name not in ("linear", "logistic"):
        found.append(Part(parse(recipe.head).name, partial(_set, head="linear()")))
    for name, value in ALONE.items():
        if getattr(recipe, name) not in (None, value):
            found.append(Part(name, partial(_set, **{name: value})))
    return found


def _set(recipe: Recipe, **settings: Any) -> Recipe:
    return from_settings(settings, recipe)


def _listed(recipe: Recipe) -> Iterator[Part]:
    for setting in FAMILIES:
        names = list(dict.fromkeys(parse(text).name for text in getattr(recipe, setting) or ()))
        if setting == "augment" and recipe.views:  # neither does anything without the other
            yield Part("views", partial(_set, views=0, augment=()))
            names = names if len(names) > 1 else []
        for name in names:
            yield Part(name, partial(_dropped, name=name, setting=setting))


def _dropped(recipe: Recipe, *, name: str, setting: str) -> Recipe:
    if not getattr(recipe, setting):  # left out with its views
        return recipe
    left = changed(f"drop:{name}", recipe, lambda complete: complete)
    if setting != "regularize" or left.optimizer is None:
        return left
    before, after = _set_by_regularizers(recipe), _set_by_regularizers(left)
    zeros = dict.fromkeys(before.keys() - after.keys(), 0.0)  # or the rule's own default would fill the gap
    return _set(left, optimizer=with_knobs(build(left.optimizer, Rule), **zeros)) if zeros else left


def _set_by_regularizers(recipe: Recipe) -> dict[str, Any]:
    """Return the knobs of the optimizer's rule that regularizers set."""
    return merged_knobs(tuple(build(text, Regularizer) for text in recipe.regularize or ()), "optimizer_knobs")


# ------------------------------------------------------------------------------------------------------------ schedule


def _scheduled(recipe: Recipe) -> Iterator[Part]:
    if recipe.schedule is None:
        return
    schedule = build(recipe.schedule, Schedule)
    rest = schedule.parts[1:] if isinstance(schedule, Then) and _is_warm(schedule) else (schedule,)
    if isinstance(schedule, Warmup) or _is_warm(schedule):
        yield Part("warmup", _without_warmup)
    if any(not isinstance(part, (Constant, Warmup)) for part in rest):
        yield Part(rest[-1].name, _without_decay)


def _is_warm(schedule: Schedule) -> bool:
    return isinstance(schedule, Then) and isinstance(schedule.parts[0], Warmup)


def _without_warmup(recipe: Recipe) -> Recipe:
    schedule = build(recipe.schedule or "constant", Schedule)
    if not _is_warm(schedule):
        return _set(recipe, schedule=Constant())
    assert isinstance(schedule, Then)  # as _is_warm says
    grown = 1 / (1 - (schedule.parts[0].share() or 0.0))
    rest = tuple(_with_more(part, grown) for part in schedule.parts[1:])
    return _set(recipe, schedule=_whole(rest[0]) if len(rest) == 1 else Then(parts=rest))


def _with_more(schedule: Schedule, grown: float) -> Schedule:
    """Return a part of a sequence whose share of the run, where it names one, is so many times as large."""
    if isinstance(schedule, PerEpoch):
        return PerEpoch(inner=_with_more(schedule.inner, grown))
    if isinstance(schedule, (During, Warmup)):
        return dataclasses.replace(schedule, fraction=min(schedule.fraction * grown, 1.0))  # pyright: ignore[reportArgumentType] (a technique is a dataclass)
    return schedule


def _whole(schedule: Schedule) -> Schedule:
    """Return what is left alone of a sequence, over the whole run."""
    if isinstance(schedule, PerEpoch):
        return PerEpoch(inner=_whole(schedule.inner))
    return schedule.inner if isinstance(schedule, During) else schedule


def _without_decay(recipe: Recipe) -> Recipe:
    schedule = build(recipe.schedule or "constant", Schedule)
    if isinstance(schedule, Then) and _is_warm(schedule):
        return _set(recipe, schedule=Then(parts=(schedule.parts[0], Constant())))
    return _set(recipe, schedule=Constant())


# ----------------------------------------------------------------------------------------------------------- optimizer


def _of_the_rule(recipe: Recipe) -> Iterator[Part]:
    if recipe.optimizer is None:
        return
    rule = build(recipe.optimizer, Rule)
    inner = rule
    while isinstance(inner, Wrapper):
        yield Part(inner.name, partial(_unwrapped, name=inner.name))
        inner = inner.inner
    is_set = "weight_decay" in _set_by_regularizers(recipe)
    if "weight_decay" in knob_names(rule) and knob_values(rule)["weight_decay"] and not is_set:
        yield Part("weight_decay", _without_weight_decay)


def _unwrapped(recipe: Recipe, *, name: str) -> Recipe:
    return _set(recipe, optimizer=_peeled(build(recipe.optimizer or "", Rule), name))


def _peeled(rule: Rule, name: str) -> Rule:
    if not isinstance(rule, Wrapper):
        return rule
    return rule.inner if rule.name == name else dataclasses.replace(rule, inner=_peeled(rule.inner, name))  # pyright: ignore[reportArgumentType] (every wrapper is a dataclass)


def _without_weight_decay(recipe: Recipe) -> Recipe:
    return _set(recipe, optimizer=with_knobs(build(recipe.optimizer or "", Rule), weight_decay=0.0))


# --------------------------------------------------------------------------------------------------- steps of a search


def _steps(recipe: Recipe) -> Iterator[Part]:
    """Yield the steps that can be left out: all but the share of the pictures, first looks at a part, and the first at all."""
    steps = [(text, parse(text)) for text in recipe.steps or ()]
    if any(call.name == "keep" for _, call in steps):
        raise KnobError("ablate", "cannot leave steps out of a search that keeps a limit", got=recipe.steps,
                        fix="Search without --latency and --max-size.")  # fmt: skip
    full = [(text, call) for text, call in steps if call.name != "part" and call.settings.get("share", 1.0) == 1.0]
    first = next((text for text, call in full if call.name == "features"), None)
    names: list[str] = []
    for text, call in full:
        if text == first:
            continue
        known = call.settings
        name = f"{call.name}:{known['size']}px" if "size" in known else call.name
        name += ",mirrored" if known.get("mirrored") else ""
        names.append(name)
        again = names.count(name)
        yield Part(name if again == 1 else f"{name}#{again}", partial(_without_step, text=text))


def _without_step(recipe: Recipe, *, text: str) -> Recipe:
    return _set(recipe, steps=tuple(step for step in recipe.steps or () if step != text))

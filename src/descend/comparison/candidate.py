"""What is compared, from the words that name it: a recipe file, settings, techniques added to a recipe or dropped from it.

base                                        the recipe that the others are changes of
optimizer=adam                              a setting of the recipe, several are separated by spaces
"transfer=finetune size=128"
add:mixup(alpha=0.2)                        one more augmentation, regularizer or gradient stage
drop:dropout                                one less
tuned.toml                                  a recipe of its own
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.augment import Augmentation
from descend.augment.policy_names import POLICIES
from descend.comparison.candidate_text import BASE, VERBS, named, require_two, split, words
from descend.errors import KnobError, SpecError, nearest
from descend.optim import GradientStage
from descend.regularize import Regularizer
from descend.technique import Technique, build, knobs, parse, registered
from descend.train.recipe import LISTS, Recipe, from_settings, read

OF_THE_COMPARISON = ("data", "outside", "corrections", "seed", "split_seed")  # settings that all candidates share
FAMILIES: dict[str, type[Technique]] = {"augment": Augmentation, "regularize": Regularizer, "gradients": GradientStage}
"""Settings that hold several techniques, to which one can be added, and their families."""

Completed = Callable[[Recipe], Recipe]
"""Gives a recipe with every setting that it leaves open decided for the data."""


@dataclass(frozen=True)
class Candidate:
    """One of the things compared. name: the words it was given by. recipe: what is asked for; each run has a seed of its own."""

    name: str
    recipe: Recipe


def candidates(texts: Sequence[str], base: Recipe, completed: Completed) -> list[Candidate]:
    """Return the candidates that texts name, as changes of ``base``.

    completed: as it says; used where a technique is added to a list that the recipe leaves open, or dropped from one, and to find
    candidates that differ in nothing. Raises KnobError or SpecError for what is unknown, has no effect, or is the same twice.
    """
    require_two(texts)
    made, known = list[Candidate](), dict[Recipe, str]()
    for text in texts:
        with named(text):
            candidate = Candidate(text, changed(text, base, completed))
            recipe = completed(candidate.recipe)
        made.append(candidate)
        if recipe in known:
            same = f"{known[recipe]!r} and {candidate.name!r}"
            raise KnobError("compare", "candidates must differ in what they train", got=same,
                            fix="A setting may be the default already: descend fit prints the plan.")  # fmt: skip
        known[recipe] = candidate.name
    return made


def changed(text: str, base: Recipe, completed: Completed) -> Recipe:
    """Return the recipe that one text names; arguments and errors as of ``candidates``."""
    recipe = base
    for word in words(text):
        if word == BASE:
            continue
        verb, colon, technique = word.partition(":")
        name, equals, value = word.partition("=")
        if colon and verb in VERBS:
            recipe = (_added if verb == "add" else _dropped)(technique, recipe, completed)
        elif equals and name.replace("-", "_").isidentifier():
            recipe = from_settings({name.replace("-", "_"): _value(name.replace("-", "_"), value)}, recipe)
        elif word.endswith(".toml"):
            shared = {name: getattr(base, name) for name in OF_THE_COMPARISON}
            recipe = dataclasses.replace(read(Path(word)), **shared)  # pyright: ignore[reportArgumentType] (a record is a dataclass)
        else:
            raise SpecError("compare", "a candidate must be base, setting=value, add:technique, drop:technique or a recipe.toml",
                            got=word, fix=nearest(word, [BASE]))  # fmt: skip
    return recipe


def _value(name: str, text: str) -> Any:
    """Return the value of a setting that text stands for; parts of a list are joined by ``+``, and ``none`` is an empty one."""
    known = {knob.name: knob for knob in knobs(Recipe)}
    if name in OF_THE_COMPARISON:
        raise KnobError("compare", f"{name} must be one for all candidates", got=text, fix=f"Give --{name.replace('_', '-')}.")
    if name not in known:
        raise KnobError("compare", f"the recipe has no setting {name!r}", fix=nearest(name, known))
    if name in LISTS:
        return () if text == "none" else tuple(part.strip() for part in split(text, "+"))
    kinds = getattr(known[name].type, "__args__", (known[name].type,))
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                raise KnobError("compare", f"{name} must be {known[name].interval}", got=text) from None
    if bool in kinds:
        return {"true": True, "false": False}.get(text.lower(), text)
    return text


def _added(text: str, recipe: Recipe, completed: Completed) -> Recipe:
    setting = _setting_of(parse(text).name)
    build(text, FAMILIES[setting])  # what is wrong with it is said here
    return from_settings({setting: (*_listed(recipe, setting, completed), text)}, recipe)


def _dropped(name: str, recipe: Recipe, completed: Completed) -> Recipe:
    setting = _setting_of(name)
    before = expanded(_listed(recipe, setting, completed))
    left = tuple(text for text in before if parse(text).name != name)
    if len(left) == len(before):
        held = ", ".join(parse(text).name for text in before) or "none"
        raise KnobError("compare", f"{name} must be in the recipe to be dropped", got=f"{setting}: {held}")
    return from_settings({setting: left}, recipe)


def expanded(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of techniques that texts, policies among them, stand for: ``light`` is a crop and a flip."""
    return tuple(each for text in texts for each in POLICIES.get(text.strip(), (text,)))


def _setting_of(name: str) -> str:
    for setting, family in FAMILIES.items():
        if any(technique.name == name for technique in registered(family)):
            return setting
    alone = next((technique.family for technique in registered() if technique.name == name), None)
    if alone in {knob.name for knob in knobs(Recipe)}:
        raise KnobError("compare", f"there is one {alone} in a recipe: {name} takes the place of another", got=name,
                        fix=f"Write {alone}={name}.")  # fmt: skip
    names = [technique.name for family in FAMILIES.values() for technique in registered(family)]
    raise SpecError("compare", "must name an augmentation, a regularizer or a gradient stage", got=name, fix=nearest(name, names))


def _listed(recipe: Recipe, setting: str, completed: Completed) -> tuple[str, ...]:
    asked = getattr(recipe, setting)
    if asked is None or asked == ("auto",):
        asked = getattr(completed(recipe), setting)
    return tuple(asked or ())

"""What of a candidate is tuned: knobs that are left open and have a range worth searching, taken from the knobs themselves.

Every candidate that trains by an optimizer has the learning rate, where its text does not write it. Beside it come the open knobs
of the techniques that a candidate alone brings: of ``add:mixup``, ``alpha``; of ``schedule=step``, ``every`` and ``gamma``. The
other knobs of a rule stay at their defaults: with a dozen trials, every further dimension thins out the rates. What is written is
never touched, and neither are the probability ``p`` of an augmentation that is always applied by default and what a policy such
as ``medium`` stands for. Where a list names a technique twice, the first that leaves a knob open is tuned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from descend.augment.policy_names import POLICIES
from descend.comparison.candidate import FAMILIES, Candidate, Completed, expanded
from descend.errors import DescendError
from descend.optim import Rule
from descend.optim.wrapper import knob_names, parts, with_knobs
from descend.schedule import Schedule
from descend.technique import Call, Knob, Technique, build, knobs, parse
from descend.train.recipe import Recipe, from_settings

LISTED: dict[str, type[Technique]] = {**FAMILIES, "schedule": Schedule}
"""Settings whose techniques may bring knobs, and their families."""
RATE = "lr"
Values = dict[str, float | int]
"""Name of a range -> the value of its knob."""


@dataclass(frozen=True)
class Range:
    """A knob that is tuned. setting: of the recipe. technique, knob: in that setting. whole: whole numbers only.

    low, high: both may be taken; log: on a logarithmic scale. written: the value without tuning.
    """

    setting: str
    technique: str
    knob: str
    low: float
    high: float
    log: bool
    whole: bool
    written: float

    @property
    def name(self) -> str:
        """What it is called: ``adamw.lr``."""
        return f"{self.technique}.{self.knob}"

    def __str__(self) -> str:
        return f"{self.name} from {self.low:g} to {self.high:g}{' (log)' * self.log}"


def search_space(candidate: Candidate, base: Recipe, completed: Completed) -> tuple[Range, ...]:
    """Return what is tuned of a candidate; empty where it leaves nothing open that has a range.

    base: the recipe that candidates are changes of. completed: as in ``candidates``.
    """
    full, common = completed(candidate.recipe), completed(base)
    found: dict[str, Range] = {}
    for each in (*_rate(candidate.recipe.optimizer, full.optimizer), *_brought(candidate.recipe, common)):
        found.setdefault(each.name, each)
    return tuple(found.values())


def applied(recipe: Recipe, space: tuple[Range, ...], values: Mapping[str, float | int], completed: Completed) -> Recipe:
    """Return the recipe with tuned knobs at these values; the text of a technique that is not tuned stays as it is."""
    change: dict[str, Any] = {}
    for setting in dict.fromkeys(each.setting for each in space):
        ranges = [each for each in space if each.setting == setting]
        if setting == "optimizer":
            text = recipe.optimizer or completed(recipe).optimizer
            assert text is not None  # a recipe without one has no rate to tune
            change[setting] = str(with_knobs(build(text, Rule), **{each.knob: values[each.name] for each in ranges}))
        else:
            texts = _with_values(_texts(getattr(recipe, setting)), ranges, values, LISTED[setting])
            change[setting] = texts if setting in FAMILIES else texts[0]
    return from_settings(change, recipe)


def _with_values(
    texts: tuple[str, ...], ranges: list[Range], values: Mapping[str, float | int], family: type[Technique]
) -> tuple[str, ...]:  # fmt: skip
    """Return the texts with every value in the first that leaves its knob open; what a later one of the name writes stays."""
    calls = [parse(text) for text in texts]
    tuned: dict[int, dict[str, Any]] = {}
    for each in ranges:
        open_ones = (at for at, call in enumerate(calls) if call.name == each.technique and each.knob not in call.settings)
        tuned.setdefault(next(open_ones), {})[each.knob] = values[each.name]
    return tuple(
        str(dataclasses.replace(build(text, family), **tuned[at])) if at in tuned else text  # pyright: ignore[reportArgumentType] (a technique is a dataclass)
        for at, text in enumerate(texts)
    )


def _rate(asked: str | None, full: str | None) -> Iterator[Range]:
    """Yield the learning rate of an optimizer, unless its text writes it. full: None where the mode has no optimizer."""
    if full is None or (asked is not None and _writes(parse(asked), RATE)):
        return
    rule = build(full, Rule)
    for part in parts(rule):
        knob = next((knob for knob in knobs(type(part)) if knob.name == RATE), None)
        if knob is not None and RATE in knob_names(rule):
            yield from _range("optimizer", part, knob)


def _writes(call: Call, knob: str) -> bool:
    """Return whether a text, or one inside it, gives a knob."""
    inner = [value for value in (*call.arguments, *call.settings.values()) if isinstance(value, Call)]
    return knob in call.settings or any(_writes(each, knob) for each in inner)


def _brought(recipe: Recipe, common: Recipe) -> Iterator[Range]:
    """Yield the open knobs of techniques that a recipe names and the common one has not."""
    for setting, family in LISTED.items():
        before = {parse(text).name for text in expanded(_texts(getattr(common, setting)))}
        for call in map(parse, _texts(getattr(recipe, setting))):
            if call.name in ("auto", *POLICIES) or call.name in before:
                continue
            technique = build(call, family)
            for knob in knobs(type(technique)):
                if knob.name not in call.settings and not _is_always(knob):
                    yield from _range(setting, technique, knob)


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()


def _is_always(knob: Knob) -> bool:
    """Return whether a knob is the probability of what is applied always: its strength is what matters."""
    return knob.name == "p" and knob.default == 1.0


def _range(setting: str, technique: Technique, knob: Knob) -> Iterator[Range]:
    value = getattr(technique, knob.name)
    if knob.search is None or knob.type not in (float, int) or isinstance(value, bool):
        return
    whole, low, high = knob.type is int, knob.search.low, knob.search.high
    while whole and high > low and not _takes(technique, knob.name, high):
        high -= 1
    yield Range(setting, technique.name, knob.name, low, high, knob.search.log, whole, value)


def _takes(technique: Technique, knob: str, value: float) -> bool:
    """Return whether a technique takes a whole value beside its other knobs: ``some_of`` has no more turns than transforms."""
    try:
        dataclasses.replace(technique, **{knob: int(value)})  # pyright: ignore[reportArgumentType] (a technique is a dataclass)
    except DescendError:
        return False
    return True

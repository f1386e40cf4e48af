"""The playground: one page, of one file, on which rules race over a surface while one turns the knobs.

The page holds rules, surfaces and schedules as JavaScript translated from their own Python (``javascript``). Written by hand is
only what is no formula of theirs: the loop of a walk and the shell around a direction (``page/walk.js``), which a test holds to
``Course.walk``, and drawing and controls. The page asks nothing of any network.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from descend.drawing import COLORS, check_path, write
from descend.errors import KnobError
from descend.landscape.course import Course
from descend.landscape.javascript import Library, Untranslatable, translated
from descend.landscape.racing import RATES
from descend.landscape.surface import Surface
from descend.optim import Rule, UpdateRule, Wrapper
from descend.optim.wrapper import Perturbation, parts
from descend.schedule import Schedule
from descend.technique import Knob, Technique, knobs, registered, spec

CORE = (
    "direction", "coefficients", "rate", "remember", "initial", "unused", "looks_ahead", "lookahead_point", "evaluation_weights"
)  # fmt: skip
AROUND = ("coefficients", "evaluation_weights")
SHAPE = ("loss", "gradient", "start", "minimum", "target", "window")
SCRIPTS = ("numbers.js", "spec.js", "walk.js", "race.js", "state.js", "canvas.js", "plot.js", "controls.js", "main.js")
"""What stands in the page after the translation, in this order."""

SUFFIX = (".html",)

MOST_STEPS, MOST_SEEDS, MOST_SCATTER = 2000, 200, 100
"""Of what the page walks: all of it is kept, so that every step can be looked at again."""


def write_page(course: Course, rules: Sequence[Rule], path: Path | str, *, n_seeds: int = 1) -> None:
    """Write the playground, as it begins on ``course`` with ``rules``, to ``path``; a file there is replaced whole or not at all.

    n_seeds: walks that are counted where something is random. Raises KnobError for more dimensions than two, for a rule or
    schedule that has no translation, for more or longer walks than a page keeps, and for a file that does not end in .html;
    RunError where it cannot be written.
    """
    path = Path(path)
    check_path(path, SUFFIX, who="page")
    write(playground(course, rules, n_seeds=n_seeds).encode(), path)


def playground(course: Course, rules: Sequence[Rule], *, n_seeds: int = 1) -> str:
    """Return the page. rules: at most as many as there are colors; raises as ``write_page``."""
    check(course, rules, n_seeds=n_seeds)
    state = {
        "surface": spec(course.surface),
        "rules": [spec(rule) for rule in rules],
        "schedule": None if course.schedule is None else spec(course.schedule),
        "steps": course.n_steps, "noise": course.noise, "spread": course.spread, "seeds": n_seeds if course.random else 100,
        "start": None if course.start is None else list(course.start), "target": course.target,
    }  # fmt: skip
    facts = {"state": state, "left_out": left_out(), "rates": list(RATES), "most_steps": MOST_STEPS, "most_seeds": MOST_SEEDS}
    facts["n_colors"] = len(COLORS)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(asset("playground.html"))
    return template.render(
        style=Markup(asset("playground.css")), colors=COLORS, script=Markup(script(facts)), left_out=left_out()
    )


def script(facts: dict[str, Any]) -> str:
    """Return the whole script of the page: the translation, ``facts`` as FACTS, and the files of ``page``."""
    given = json.dumps(facts).replace("<", "\\u003c")
    return "\n".join([translation(), f"const FACTS = {given};", *map(asset, SCRIPTS)])


def check(course: Course, rules: Sequence[Rule], *, n_seeds: int = 1) -> None:
    """Raise KnobError for what a page cannot show."""
    if len(course.surface.minimum()) != 2:
        raise KnobError("page", "the surface must have 2 dimensions", got=str(course.surface))
    if course.n_steps > MOST_STEPS:
        raise KnobError("page", f"steps must be {MOST_STEPS} or fewer", got=course.n_steps)
    if n_seeds > MOST_SEEDS:
        raise KnobError("page", f"seeds must be {MOST_SEEDS} or fewer", got=n_seeds)
    if course.noise > MOST_SCATTER or course.spread > MOST_SCATTER:
        raise KnobError("page", f"noise and spread must be {MOST_SCATTER} or less", got=max(course.noise, course.spread))
    if len(rules) > len(COLORS):
        raise KnobError("page", f"shows {len(COLORS)} optimizers or fewer", got=len(rules))
    for rule in rules:
        for part in parts(rule):
            if part.name in left_out():
                raise KnobError("page", "every optimizer must have a translation to JavaScript", got=part.name,
                                fix=left_out()[part.name])  # fmt: skip
    if course.schedule is not None:
        translated(type(course.schedule), _methods(type(course.schedule)), "scalar", Library())


def asset(name: str) -> str:
    """Return the text of one of the files that the page is made of."""
    return (resources.files("descend.landscape") / "page" / name).read_text(encoding="utf-8")


# -------------------------------------------------------------------------------------------------------- the translation


def left_out() -> dict[str, str]:
    """Return the rules that have no translation, with the reason."""
    return dict(_translations()[1])


@cache
def translation() -> str:
    """Return RULES, SURFACES and SCHEDULES as JavaScript, and the functions of ours that they call."""
    kinds, _, library = _translations()
    texts = [f"const {name} = {{\n{''.join(inside)}}};" for name, inside in kinds.items()]
    return "\n".join([library.text(), *texts])


@cache
def _translations() -> tuple[dict[str, list[str]], dict[str, str], Library]:
    library, missing = Library(), dict[str, str]()
    kinds: dict[str, list[str]] = {}
    for name, family in (("RULES", Rule), ("SURFACES", Surface), ("SCHEDULES", Schedule)):
        kinds[name] = []
        for cls in registered(family):
            try:
                methods = translated(cls, _methods(cls), _dialect(cls), library)
            except Untranslatable as error:
                if family is not Schedule:  # those that combine others or listen are known by having no ``at``
                    missing[cls.name] = str(error)
                continue
            kinds[name].append(f"{json.dumps(cls.name)}: {{ facts: {json.dumps(facts_of(cls))}, methods: {methods} }},\n")
    return kinds, missing, library


def _dialect(cls: type[Technique]) -> Any:
    return "vector" if issubclass(cls, Surface) or not getattr(cls, "elementwise", True) else "scalar"


def _methods(cls: type[Technique]) -> tuple[str, ...]:
    """Return the methods that a page needs of a technique; Untranslatable where the walk knows too little of it."""
    if issubclass(cls, UpdateRule):
        if cls.slot_shape is not UpdateRule.slot_shape:
            raise Untranslatable(cls.name, "slots must have the shape of the weights", got="a slot_shape of its own")
        return CORE
    if issubclass(cls, Wrapper):
        after = ("after_step",) if hasattr(cls, "after_step") else ()
        return (*AROUND, *after, *(("scaled_gradient", "perturbed") if issubclass(cls, Perturbation) else ()))
    if issubclass(cls, Surface):
        return (*SHAPE, "escaped") if cls.trap is not Surface.trap else SHAPE
    if issubclass(cls, Schedule) and cls.factor_at is not Schedule.factor_at:
        raise Untranslatable(cls.name, "the factor must be one of progress alone", got="a factor_at of its own")
    return ("at",)


def facts_of(cls: type[Technique]) -> dict[str, Any]:
    """Return what a page must know of a technique besides its methods."""
    shown = [knob for knob in knobs(cls) if knob.name != "n_dims"]
    facts: dict[str, Any] = {"doc": said(cls), "knobs": {knob.name: control(knob) for knob in shown}}
    if issubclass(cls, Surface):
        facts["trap"] = cls().trap()
    if issubclass(cls, Rule):
        facts |= {"slots": list(cls.slots), "wraps": issubclass(cls, Wrapper)}
    if issubclass(cls, UpdateRule):
        facts |= {"memory": list(cls.memory), "decays": cls.decays, "elementwise": cls.elementwise}
    if issubclass(cls, Wrapper):
        facts |= {"copies": cls.begun is Wrapper.begun, "perturbs": issubclass(cls, Perturbation)}
    return facts


def said(cls: type[Technique]) -> str:
    """Return what the first paragraph of a technique's documentation says."""
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split()).replace("``", "")


def control(knob: Knob) -> dict[str, Any]:
    """Return a knob as a control: its default, the range of its slider, the legal values, and their words."""
    if knob.family is not None:
        return {"default": spec(knob.default), "inner": True}
    control: dict[str, Any] = {"default": knob.default, "interval": knob.interval}
    if knob.choices:
        return control | {"choices": list(knob.choices)}
    if knob.search is not None:
        control |= {"low": knob.search.low, "high": knob.search.high, "log": knob.search.log}
    bounds = [[kind, getattr(bound, kind)] for bound in knob.bounds for kind in [type(bound).__name__.lower()]]
    return control | {"bounds": bounds, "whole": knob.type is int}

"""What the page of the lesson's second half computes with, as JavaScript from the Python that the product runs.

Draws of augmentations with the factors that they compose, the rounds of Philox, schedules, Adam, and formulas of the drop layers
are translated (``landscape.javascript``, ``landscape.array_javascript``). Shipped as numbers are the quantiles that noise is
made of, and nothing else. Written by hand are the loops over pixels (``lesson/pixels.js``), which a test holds to
``descend.augment``, and the small network (``lesson/network.js``), which a test holds to torch with the product's own layers.
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Sequence
from functools import cache
from typing import Any, get_args

from descend import rng
from descend.augment import Augmentation, Draws, Stage, factors, matrices
from descend.augment.apply import quantiles
from descend.landscape.array_javascript import ArrayLibrary, array_literal, array_method
from descend.landscape.javascript import Library, Untranslatable, translated
from descend.landscape.playground import control, facts_of, said
from descend.optim import Adam
from descend.pixels import IMAGENET_MEAN, IMAGENET_STD
from descend.regularize import DropConnectLinear, Dropout, StochasticDepth, dropconnect, stochastic_depth
from descend.schedule import Schedule
from descend.technique import knobs, registered

FACTORS = ("every", "note", "warp", "tint", "curve", "erase", "spread", "equalize", "taps", "shifts")
"""What translated draws, and the loops over pixels, ask of ``factors.Draws``."""

LAYERS = {"dropout": Dropout, "dropconnect": DropConnectLinear, "stochastic_depth": StochasticDepth}
"""The layers whose masks are shown, by the names of their techniques; their streams have the default names."""


@cache
def augmentations() -> tuple[dict[str, str], dict[str, str], str]:
    """Return transforms as objects of JavaScript, those that the page does without and why, and the functions they call."""
    library, shown, missing = ArrayLibrary(), dict[str, str](), dict[str, str]()
    for cls in registered(Augmentation):
        try:
            if reason := _unshown(cls):
                raise Untranslatable(cls.name, reason)
            methods = ("draw", "__post_init__") if "__post_init__" in cls.__dict__ else ("draw",)
            body = translated(cls, methods, "np", library)
        except Untranslatable as error:
            missing[cls.name] = _unshown(cls) or str(error)
            continue
        shown[cls.name] = f"{{ facts: {json.dumps(_facts(cls))}, methods: {body} }}"
    members = "\n".join(array_method(Draws, name, library) for name in FACTORS)
    made = {
        field.name: array_literal(field.default)
        for field in dataclasses.fields(Draws)
        if field.default is not dataclasses.MISSING
    }
    fields = " ".join(f"{name} = {value};" for name, value in made.items())
    start, fit = library.name(factors.neutral, "np"), library.name(matrices.fit, "np")
    more = [
        f"class Draws {{ {fields} parameters = {{}}; get length() {{ return this.ids.length; }}\n{members}\n}}",
        f"const neutralDraw = (...given) => Object.assign(new Draws(), {start}(...given)), fitted = {fit};",
    ]
    return shown, missing, "\n".join([library.text(), *more])


def _unshown(cls: type[Any]) -> str:
    """Return why the page cannot show a transform, known before its translation; "" where it may."""
    if cls.__module__.endswith((".auto", ".composition")):
        return "it is made of other transforms"
    if cls.stage == "mix":
        return "it mixes several pictures"
    if cls.stage == "neighborhood":
        return "it looks at neighboring pixels"
    if isinstance(cls.neutral, str) and cls.name != "resampling":
        return "it only sets the size or the constants of the output"
    return ""


def _facts(cls: type[Any]) -> dict[str, Any]:
    """Return what the page must know of a transform: its stage, and its knobs with the ranges of their sliders."""
    shown = {knob.name: control(knob) for knob in knobs(cls)}
    for name, (low, high) in _limits(cls).items():
        shown[name] |= {"range": True, "low": low, "high": high, "log": low > 0 and high / low >= 50}
    return {"doc": said(cls), "stage": cls.stage, "knobs": shown}


def _limits(cls: type) -> dict[str, tuple[float, float]]:
    """Return the limits of knobs that are ranges, as the class checks them: ``check_range(who, knob, value, low, high)``."""
    if "__post_init__" not in cls.__dict__:
        return {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls.__dict__["__post_init__"])))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check_range"]
    return {ast.literal_eval(call.args[1]): (_number(call.args[3]), _number(call.args[4])) for call in calls}


def _number(node: ast.expr) -> float:
    match node:
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _number(left) / _number(right)
    return float(ast.literal_eval(node))


@cache
def translation() -> str:
    """Return everything that is translated, and the facts of the product that go with it."""
    scalars, arrays = Library(), ArrayLibrary()
    transforms, missing, draws = augmentations()
    schedules = {cls.name: made for cls in registered(Schedule) if (made := _schedule(cls, scalars))}
    optimizer = translated(Adam, ("direction", "coefficients"), "scalar", scalars)
    philox = scalars.name(rng.philox_rounds, "scalar")
    named = {
        "linearDecay": stochastic_depth.linear_decay, "expectedDepth": stochastic_depth.expected_depth,
        "expectedRelu": dropconnect.expected_relu,
    }  # fmt: skip
    functions = [f"const {name} = {arrays.name(function, 'np')};" for name, function in named.items()]
    moments = translated(dropconnect._Masking, ("moments",), "np", arrays)
    return "\n".join([
        draws, scalars.text(), arrays.text(),
        _table("AUGMENTATIONS", transforms), _table("SCHEDULES", schedules),
        f"const ADAM = {{ facts: {json.dumps(facts_of(Adam))}, methods: {optimizer} }};",
        f"const MOMENTS = {moments};", f"const philoxRounds = {philox};", *functions,
        f"const CONSTANTS_OF = {json.dumps(_constants(missing))};",
    ])  # fmt: skip


def _table(name: str, entries: dict[str, str]) -> str:
    return f"const {name} = {{\n" + "".join(f"{json.dumps(key)}: {text},\n" for key, text in entries.items()) + "};"


def _schedule(cls: type[Any], library: Library) -> str | None:
    """Return a schedule that is a function of progress alone as an object; None for one that is not."""
    if cls.factor_at is not Schedule.factor_at:
        return None
    return f"{{ facts: {json.dumps(facts_of(cls))}, methods: {translated(cls, ('at',), 'scalar', library)} }}"


def _constants(missing: dict[str, str]) -> dict[str, Any]:
    """Return what the loops over pixels, the pipeline and the masks take from the product as it is."""
    normal = quantiles().astype("<f4").tobytes()
    return {
        "stages": list(get_args(Stage)),
        "mean": [255 * level for level in IMAGENET_MEAN], "std": [255 * level for level in IMAGENET_STD],
        "quantiles": base64.b64encode(normal).decode(), "missing": missing,
        "streams": {name: inspect.signature(layer).parameters["stream"].default for name, layer in LAYERS.items()},
        "drops": {cls.name: facts_of(cls) for cls in registered("regularizer") if cls.name in LAYERS},
    }  # fmt: skip


def reasons(missing: dict[str, str]) -> Sequence[tuple[str, list[str]]]:
    """Return the reasons why transforms are missing, each with their names.

    >>> from descend.report.lesson_translation import reasons
    >>> reasons({"a": "it is large", "b": "it is slow", "c": "it is large"})
    [('it is large', ['a', 'c']), ('it is slow', ['b'])]
    """
    return [(why, [name for name, said in missing.items() if said == why]) for why in dict.fromkeys(missing.values())]

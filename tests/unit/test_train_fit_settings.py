"""The keyword arguments of ``descend.fit`` are those of the recipe, by name and type, and a type checker sees them."""

from __future__ import annotations

import json
import subprocess
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest

import descend
from descend.technique import Technique, build, knobs
from descend.train.fit_settings import FitSettings
from descend.train.recipe import LISTS, Recipe, from_settings

RECIPE = {knob.name: knob.type for knob in knobs(Recipe) if knob.name != "data"}
SETTINGS = typing.get_type_hints(FitSettings)
EXAMPLES = {"backbone": "smallcnn", "head": "mlp", "augment": "flip", "regularize": "l1(strength=0.1)", "optimizer": "sgd",
            "gradients": "clip_norm", "schedule": "cosine"}  # fmt: skip


def _options(annotation: Any) -> set[Any]:
    return set(get_args(annotation)) if get_origin(annotation) in (Union, types.UnionType) else {annotation}


def _families(annotation: Any) -> set[type[Technique]]:
    """Return the families of techniques that an annotation admits, alone or in a sequence."""
    inner = {part for option in _options(annotation) for part in (option, *get_args(option))}
    return {part for part in inner for part in _options(part) if isinstance(part, type) and issubclass(part, Technique)}


def _as_in_a_recipe(name: str) -> set[Any]:
    """Return the types that a recipe would hold: texts for techniques, a tuple for a sequence and for a lone text."""
    options = SETTINGS[name]
    texts = {tuple[str, ...] if get_origin(option) is Sequence else option for option in _options(options)} - _families(options)
    return texts - {str} if name in LISTS else texts


def test_the_settings_are_those_of_the_recipe_in_its_order() -> None:
    assert list(SETTINGS) == list(RECIPE)


@pytest.mark.parametrize("name", RECIPE)
def test_types_are_those_of_the_recipe(name: str) -> None:
    assert _as_in_a_recipe(name) == _options(RECIPE[name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_technique_stands_for_its_text(name: str) -> None:
    (family,) = _families(SETTINGS[name])
    member = build(EXAMPLES[name], family)
    for given in (member, str(member)):
        value = getattr(from_settings({name: given}), name)
        assert value == ((str(member),) if name in LISTS else str(member))


def test_every_setting_that_takes_techniques_was_tried() -> None:
    assert {name for name, annotation in SETTINGS.items() if _families(annotation)} == set(EXAMPLES)


def test_a_type_checker_reads_the_settings(tmp_path: Path) -> None:
    lines = {
        'descend.fit("digits", epochs=3, augment=["flip()"], optimizer=descend.optim.SGD(lr=0.1))': None,
        'descend.fit("digits", epoch=3)': 'No parameter named "epoch"',
        'descend.fit("digits", epochs="3")': '"epochs"',
        'descend.fit("digits", transfer="freeze")': '"transfer"',
        'descend.fit("digits", optimizer=descend.schedule.Cosine())': '"optimizer"',
    }
    file = tmp_path / "uses.py"
    file.write_text("\n".join(["import descend", *lines]), encoding="utf-8")
    source = Path(descend.__file__).parents[1]
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(source)], "typeCheckingMode": "standard"}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    told = {entry["range"]["start"]["line"]: entry["message"] for entry in json.loads(done.stdout)["generalDiagnostics"]}
    for number, expected in enumerate(lines.values(), start=1):
        assert (number in told) == (expected is not None), told
        assert expected is None or expected in told[number]

"""The examples of the technique pages: the text makes the technique, the verb takes the command, Python the expression."""

from __future__ import annotations

import dataclasses
import re
import shlex

import pytest
from torch import nn

import descend
import descend.technique
from descend.cli import augment, fit, predict, surface
from descend.cli.technique_examples import command_of, python_of, text_of
from descend.technique import Technique, build, registered

OURS = [cls for cls in registered() if cls.__module__.startswith("descend.")]
PARSERS = {"augment": augment._parser, "fit": fit._parser, "predict": predict._parser, "surface": surface._parser}


def _names(value: object) -> set[str]:
    """Return the names of a technique and of all inside it."""
    if isinstance(value, (list, tuple)):
        return set[str]().union(*map(_names, value))
    if not isinstance(value, Technique):
        return set()
    assert dataclasses.is_dataclass(value)
    return {value.name}.union(*(_names(getattr(value, field.name)) for field in dataclasses.fields(value)))


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: f"{cls.family}-{cls.name}")
def test_the_example_of_a_technique_is_one(cls: type[Technique]) -> None:
    text, command, expression = text_of(cls), command_of(cls), python_of(cls)
    family = next(base for base in cls.__mro__ if "family" in vars(base))
    assert cls.name in _names(build(text, family))
    assert command or expression
    if command is not None:
        _, verb, *words = shlex.split(command)
        assert text in words
        PARSERS[verb]().parse_args(words)
    if expression is not None:
        assert text in expression
        model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        assert eval(expression, {"descend": descend, "model": model}) is not None


def test_every_technique_on_the_pages_has_an_example_beside_its_source() -> None:
    from descend.cli.pages import pages

    for name, text in pages().items():
        if name != "README.md":
            sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
            assert sections, name
            assert all("\n*Example:* `" in section and "\n*Source:* " in section for section in sections), name

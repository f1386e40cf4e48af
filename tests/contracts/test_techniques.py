"""The questions asked of every registered technique, whatever its family; nothing registered escapes."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt

from descend.errors import KnobError
from descend.technique import Knob, Technique, build, knobs, registered, spec

ALL = list(registered())
IDS = [f"{cls.family}-{cls.name}" for cls in ALL]
OURS = [cls for cls in ALL if cls.__module__.startswith("descend.")]  # other test files register some, too
BLOCK = re.compile(r"(?<=\n\n)    \S.*(?:\n    .*)*")  # of a docstring: indented, after an empty line
EXAMPLES: dict[str, str] = {  # a value for knobs that have no default, by the family they take
    "optimizer": "sgd()",
    "schedule": "cosine()",
    "augmentation": "flip()",
}


def example(cls: type[Technique]) -> Technique:
    """Return the technique at its defaults, required knobs filled with a plain member of their family."""
    given: dict[str, Any] = {}
    for knob in knobs(cls):
        if knob.default is dataclasses.MISSING:
            family = knob.family
            assert family is not None, f"{cls.name}.{knob.name} has no default and takes no technique"
            inner = build(EXAMPLES[family.family], family)
            given[knob.name] = (inner, inner) if "tuple" in str(knob.type) else inner
    return cls(**given)


@pytest.mark.parametrize("cls", ALL, ids=IDS)
def test_text_round_trips(cls: type[Technique]) -> None:
    made = example(cls)
    family = next(base for base in cls.__mro__ if "family" in base.__dict__)
    assert build(spec(made), family) == made


def _outside(knob: Knob) -> list[Any]:
    found: list[Any] = []
    for bound in knob.bounds:
        match bound:
            case Ge(ge=low):
                found.append(low - 1)
            case Gt(gt=low):
                found.append(low)
            case Le(le=high):
                found.append(high + 1)
            case Lt(lt=high):
                found.append(high)
            case _:
                pass
    return found


def _foreign(knob: Knob) -> list[Any]:
    """Return values of a wrong type for a knob that takes a number."""
    kinds = getattr(knob.type, "__args__", (knob.type,))
    if float in kinds and "tuple" not in str(knob.type):
        return ["1", math.nan, math.inf, True]
    return ["1", 1.5, True] if int in kinds and "tuple" not in str(knob.type) else []


@pytest.mark.parametrize("cls", ALL, ids=IDS)
def test_values_outside_the_interval_are_refused_by_name_interval_and_value(cls: type[Technique]) -> None:
    made = example(cls)
    for knob in knobs(cls):
        for value in _outside(knob) + _foreign(knob):
            with pytest.raises(KnobError) as caught:
                dataclasses.replace(made, **{knob.name: value})  # pyright: ignore[reportArgumentType]
            assert knob.name in str(caught.value)
            assert repr(value) in str(caught.value)


@pytest.mark.parametrize("cls", ALL, ids=IDS)
def test_search_ranges_lie_inside_the_legal_interval(cls: type[Technique]) -> None:
    for knob in knobs(cls):
        if knob.search is None:
            continue
        assert knob.search.low < knob.search.high
        for bound in knob.bounds:
            assert knob.search.low >= getattr(bound, "ge", -math.inf)
            assert knob.search.low > getattr(bound, "gt", -math.inf) or not knob.search.log
            assert knob.search.high <= getattr(bound, "le", math.inf)
            assert knob.search.high <= getattr(bound, "lt", math.inf)


def formula(cls: type) -> str:
    """Return the indented block of the technique's own docstring, as its page shows it; "" where there is none."""
    found = BLOCK.search(inspect.cleandoc(cls.__dict__.get("__doc__") or ""))
    return found[0] if found else ""


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: f"{cls.family}-{cls.name}")
def test_every_technique_has_its_formula(cls: type[Technique]) -> None:
    found = formula(cls)
    must = f"{cls.__qualname__} in {cls.__module__}: its docstring must hold its formula, or its definition in one line"
    assert found, f"{must}, as a block indented by four, after an empty line. Then run scripts/docs."
    assert ">>>" not in found, f"{must}; an example is none"
    assert re.search(r"=|<-|~|<|\bis\b|\bminimize\b", found), f"{must}; got {found!r}"


def test_a_docstring_without_block_has_no_formula() -> None:
    class Silent:
        """Halve the rate: ``factor = 0.5``."""

    class Spoken:
        """Halve the rate.

            factor = 0.5

        Everywhere.
        """

    class Heir(Spoken):
        pass

    assert [formula(cls) for cls in (Silent, Spoken, Heir)] == ["", "    factor = 0.5", ""]

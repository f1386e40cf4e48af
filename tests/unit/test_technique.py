"""The floor of every technique: validation, spec text, registry, and errors that say what to do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Lt

from descend import technique as floor
from descend.errors import DescendError, KnobError, SpecError
from descend.technique import Search, Technique, build, knobs, spec, technique


class Toy(Technique, family="toy"):
    """A family for this test alone."""


@technique("plain", source="test")
class Plain(Toy):
    """A technique with one knob of each kind."""

    lr: Annotated[float, Ge(0), Search(1e-5, 1e-1, log=True)] = 1e-3
    beta: Annotated[float, Ge(0), Lt(1)] = 0.9
    count: Annotated[int, Gt(0)] | None = None
    mode: Literal["inside", "outside"] = "inside"
    on: bool = True
    degrees_range: tuple[float, float] = (0.0, 1.0)
    slots: ClassVar = ("m",)


@technique("wrap", source="test")
class Wrap(Toy):
    """A technique that takes another."""

    inner: Toy
    k: Annotated[int, Ge(1)] = 5


@technique("chain", source="test")
class Chain(Toy):
    """A technique that takes several."""

    parts: tuple[Toy, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise KnobError("chain", "parts must be two techniques or more", got=len(self.parts))


@pytest.fixture(autouse=True, scope="module")
def _leave_no_trace() -> Iterator[None]:
    floor.load_all()
    yield
    for name in ("plain", "wrap", "chain"):
        floor._registry.pop(("toy", name), None)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("plain", Plain()),
        (" plain( lr=3e-4 ) ", Plain(lr=3e-4)),
        ("plain(lr=1)", Plain(lr=1.0)),
        ("plain(mode=outside, on=False)", Plain(mode="outside", on=False)),
        ("plain(mode='outside', count=3)", Plain(mode="outside", count=3)),
        ("plain(degrees_range=[-1, 2.5])", Plain(degrees_range=(-1, 2.5))),
        ("wrap(plain(lr=0.5), k=7)", Wrap(inner=Plain(lr=0.5), k=7)),
        ("wrap(inner=plain)", Wrap(inner=Plain())),
        ("chain(plain, wrap(plain, k=2))", Chain(parts=(Plain(), Wrap(inner=Plain(), k=2)))),
    ],
)
def test_text_reads_and_round_trips(text: str, made: Toy) -> None:
    assert build(text, Toy) == made
    assert build(spec(made), Toy) == made
    assert str(made) == spec(made)


def test_full_text_names_every_knob_at_every_depth_and_reads_as_the_same() -> None:
    full = "plain(lr=0.001, beta=0.9, count=None, mode='outside', on=True, degrees_range=[0.0, 1.0])"
    made = Chain(parts=(Plain(mode="outside"), Wrap(inner=Plain(mode="outside"))))
    assert spec(made, defaults=True) == f"chain(parts=[{full}, wrap(inner={full}, k=5)])"
    assert build(spec(made, defaults=True), Toy) == made


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("plain(lr=-1)", KnobError, ["plain", "lr", ">= 0", "-1"]),
        ("plain(beta=1.0)", KnobError, ["beta", "[0, 1)", "1.0"]),
        ("plain(lr='0.1')", KnobError, ["lr", "'0.1'"]),
        ("plain(lr=True)", KnobError, ["lr", "True"]),
        ("plain(lr=1e999)", KnobError, ["lr", "finite", "inf"]),
        ("plain(mode='insid')", KnobError, ["mode", "'inside', 'outside'"]),
        ("plain(mod='inside')", KnobError, ["no knob 'mod'", "Did you mean 'mode'?"]),
        ("plain(count=0)", KnobError, ["count", "a whole number > 0, or None", "0"]),
        ("plian", SpecError, ["position 1", "'plian'", "Did you mean 'plain'?"]),
        ("wrap(plian, k=2)", SpecError, ["position 6", "Did you mean 'plain'?"]),
        ("plain(0.1)", SpecError, ["by name", "lr"]),
        ("plain(lr=0.1, lr=0.2)", SpecError, ["lr"]),
        ("plain(lr=__import__('os'))", SpecError, ["lr"]),
        ("plain(lr=1+1)", SpecError, ["position 10", "a value must be"]),
        ("plain(", SpecError, ["position", "never closed"]),
        ("", SpecError, ["position 1"]),
        ("3", SpecError, ["must be a name"]),
        ("wrap()", KnobError, ["inner must be given", "'toy'"]),
        ("chain(plain)", KnobError, ["two techniques"]),
        ("wrap(inner=3)", KnobError, ["inner", "a technique of family 'toy'"]),
    ],
)
def test_bad_text_says_who_what_and_how(text: str, error: type[DescendError], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        build(text, Toy)
    for word in words:
        assert word in str(caught.value)


def test_error_points_at_the_character() -> None:
    with pytest.raises(SpecError) as caught:
        build("chain(plain, plian)", Toy)
    text, pointer = str(caught.value).splitlines()[-2:]
    assert text[pointer.index("^") :].startswith("plian")


def test_records_are_frozen_hashable_and_copy() -> None:
    made = Wrap(inner=Plain(lr=0.25))
    with pytest.raises(Exception, match="cannot assign"):
        made.k = 3  # pyright: ignore[reportAttributeAccessIssue]
    assert {made: 1}[Wrap(inner=Plain(lr=0.25))] == 1
    assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)


def test_positional_construction_is_refused_in_our_words() -> None:
    with pytest.raises(KnobError, match="given by name"):
        Plain(0.1)  # pyright: ignore[reportCallIssue]


def test_knobs_carry_interval_and_search() -> None:
    lr, beta, count, mode, *_ = knobs(Plain)
    assert lr.search == Search(1e-5, 1e-1, log=True)
    assert (lr.interval, beta.interval) == ("a finite number >= 0", "a finite number in [0, 1)")
    assert count.interval == "a whole number > 0, or None"
    assert mode.choices == ("inside", "outside")


def test_one_name_one_technique() -> None:
    with pytest.raises(SpecError, match="new name"):

        @technique("plain", source="test")
        class Other(Toy):
            """A second claim to the name."""


def test_errors_survive_pickling() -> None:
    with pytest.raises(KnobError) as caught:
        Plain(lr=-1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.who) == (KnobError, str(caught.value), "plain")


@pytest.mark.parametrize("knob", ["self", "cls", "args", "__dataclass_self__", "x" * 3000])
def test_a_knob_may_be_called_anything_and_is_still_unknown(knob: str) -> None:
    for name, family in (("adamw", "optimizer"), ("cosine", "schedule")):
        cls = next(cls for cls in floor.registered(family) if cls.name == name)
        with pytest.raises(KnobError, match="has no knob") as caught:
            floor.build(f"{name}({knob}=1)", cls)
        assert len(str(caught.value)) < 500
        with pytest.raises(KnobError, match="has no knob"):
            cls(**{knob: 1})


def test_scalars_of_numpy_are_what_python_calls_them_and_no_more_is_let_through() -> None:
    drawn = Plain(lr=np.float64(0.25), count=np.arange(1, 4)[-1], on=np.bool_(False), mode=np.str_("outside"))
    assert drawn == Plain(lr=0.25, count=3, on=False, mode="outside")
    assert type(drawn.count) is int
    assert build(str(drawn), Toy) == drawn
    for knob, value in {"count": np.float64(3.0), "lr": np.bool_(True), "mode": np.int64(1), "on": np.int64(1)}.items():
        with pytest.raises(KnobError, match=knob):
            Plain(**{knob: value})

"""The address of the playground, and what its fields refuse: run in Node, against the Python that the commands are read by."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.test_landscape_javascript import STATE, node  # pyright: ignore[reportMissingImports]

from descend.errors import KnobError
from descend.landscape import playground
from descend.optim import Rule
from descend.schedule import Schedule
from descend.technique import Technique, build

CONTROLS = playground.asset("controls.js")
COMBINATIONS: list[tuple[type[Technique], str, bool]] = [
    (Schedule, "wsd(warmup=0.6, decay=0.6)", False),
    (Schedule, "wsd(warmup=0.4, decay=0.6)", True),
    (Rule, "sam(inner=nesterov(form='lookahead'))", False),
    (Rule, "ema(inner=sam(inner=nesterov(form='lookahead')))", False),
    (Rule, "sam(inner=ema(inner=nesterov(form='lookahead')))", False),
    (Rule, "sam(inner=nesterov)", True),
    (Rule, "ema(inner=nesterov(form='lookahead'))", True),
    (Rule, "ema(inner=swa)", False),
    (Rule, "lookahead(inner=lookahead)", False),
    (Rule, "lookahead(inner=ema(inner=sgd))", True),
]


def test_what_is_switched_off_stays_so_in_the_address_of_a_page_that_was_written_with_it() -> None:
    written = STATE | {"schedule": "cosine", "target": 0.5, "spread": 0.3, "noise": 0.1, "seeds": 40}
    off = STATE | {"seeds": 12}
    body = """
    FACTS.state = GIVEN[0];
    const state = read(GIVEN[1]), hash = toHash(state);
    answer([state, fromHash(hash), fromHash(""), hash]);
    """
    state, again, plain, hash_ = node(body, [written, off])
    assert {name: again[name] for name in off if name != "rules"} == {name: state[name] for name in off if name != "rules"}
    assert (again["schedule"], again["target"], again["spread"], again["seeds"]) == (None, None, 0, 12)
    assert (plain["schedule"]["name"], plain["target"], plain["spread"]) == ("cosine", 0.5, 0.3)
    assert "schedule=" in hash_


def test_a_target_of_0_is_a_target() -> None:
    body = "FACTS.state = GIVEN; answer(fromHash(toHash(read({ ...GIVEN, target: 0 }))).target)"
    assert node(body, STATE) == 0


def test_combinations_are_refused_in_the_page_as_in_python() -> None:
    body = """
    answer(GIVEN.map(([table, text]) => {
      try { checked(table === "Rule" ? RULES : SCHEDULES, parsed(text)); return ""; } catch (error) { return error.message; }
    }));
    """
    said = node(body, [(family.__name__, text) for family, text, _ in COMBINATIONS])
    for (family, text, legal), why in zip(COMBINATIONS, said, strict=True):
        assert (why == "") == legal, (text, why)
        if legal:
            build(text, family)
        else:
            with pytest.raises(KnobError) as refused:
                build(text, family)
            assert why in str(refused.value)


def test_a_knob_whose_value_is_refused_stays_as_it_was() -> None:
    body = """
    const decay = parsed("wsd(warmup=0.2)"), rule = parsed("ema(inner=sam(inner=nesterov))"), core = nested(rule).at(-1);
    answer([
      set(decay, SCHEDULES, "decay", 0.9), specText(decay), set(decay, SCHEDULES, "decay", 0.5), specText(decay),
      set(core, RULES, "form", "lookahead", rule), specText(rule), set(core, RULES, "momentum", 0.5, rule), specText(rule),
    ]);
    """
    answers: list[Any] = node(CONTROLS + body)
    assert answers == [
        "wsd: warmup + decay must be <= 1",
        "wsd(warmup=0.2)",
        "",
        "wsd(warmup=0.2, decay=0.5)",
        "sam: the inner rule must take its gradient at the parameters",
        "ema(inner=sam(inner=nesterov))",
        "",
        "ema(inner=sam(inner=nesterov(momentum=0.5)))",
    ]

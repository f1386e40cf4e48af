"""What may be shipped: of all heads and networks the best mixture within the limits, and what a stopped replay keeps of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from descend.errors import KnobError
from descend.search import limits, mixture
from descend.search.findings import Findings
from descend.search.steps import KeepStep
from descend.search.study import Answer

LABELS = np.arange(60) % 3


def answer(n_kilobytes: int, *, frozen: bool, share: float = 1.0, mirrored: bool = False) -> Answer:
    """Return an answer whose network is so large."""
    made: Any = SimpleNamespace(n_kilobytes=n_kilobytes)
    return Answer(made, made, 64, mirrored, share, frozen)


class Found:
    """Findings of steps that are right with such a probability. best: place of the best head among them."""

    def __init__(self, *taken: tuple[Answer, float], best: int) -> None:
        self.labels, self.counts, self.quality = LABELS, None, {id(one.classifier): quality for one, quality in taken}
        made = [one for one, _ in taken]
        self.heads = [one for one in made if one.frozen]
        self.answers = [self.heads[best], *(one for one in made if not one.frozen)]
        self.judged = [one for one in self.answers if not one.saw_val]
        self._once: dict[Answer, Answer] = {}

    looking_once = Findings.looking_once

    def on_val(self, one: Answer) -> np.ndarray:
        p = np.full((60, 3), (1 - self.quality[id(one.classifier)]) / 2, np.float32)
        p[np.arange(60), LABELS] = self.quality[id(one.classifier)]
        return p


@pytest.fixture(autouse=True)
def _sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network has as many kilobytes, and takes as many seconds, as its members say together."""

    def joined(answers: list[Answer], weights: list[float]) -> Any:
        assert len(answers) == len(weights)
        return sum(int(one.classifier.n_kilobytes) * (1 + one.mirrored) for one in answers)

    monkeypatch.setattr(limits, "joined", joined)
    monkeypatch.setattr(limits, "state_bytes", lambda network: 1000 * network)
    monkeypatch.setattr(limits, "answer_s", lambda network, size: float(network))


def limited(**limit: str) -> Any:
    plan = SimpleNamespace(**{"size": 64, "latency": None, "max_size": None, "limited": bool(limit), **limit})
    return SimpleNamespace(plan=plan, log=SimpleNamespace(record=SimpleNamespace(notes=[])))


def chosen(found: Any, **limit: str) -> tuple[KeepStep, list[str]]:
    study = limited(**limit)
    return limits.choose(study, found), study.log.record.notes


def test_a_head_that_is_too_large_gives_way_to_the_best_that_is_not() -> None:
    small, large, part = (answer(n, frozen=True, share=share) for n, share in ((10, 1.0), (30, 1.0), (1, 0.2)))
    found: Any = Found((part, 0.9), (small, 0.6), (large, 0.8), best=2)
    assert chosen(found, max_size="40KB") == (KeepStep(members=(0,)), [])
    step, notes = chosen(found, max_size="20KB")
    assert step == KeepStep(members=(0,), head=1)  # not the one that saw a part only
    assert notes == []
    assert limits.selected(found, step) == ([small], [1.0])


def test_a_network_joins_the_head_that_leaves_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "weights", lambda answers, *_: np.full(len(answers), 1 / len(answers)))
    small, large, tuned = answer(10, frozen=True), answer(30, frozen=True), answer(10, frozen=False)
    found: Any = Found((small, 0.6), (large, 0.8), (tuned, 0.7), best=1)
    assert chosen(found, max_size="25KB")[0] == KeepStep(members=(1,))  # beside the small head it is likelier to be wrong
    assert chosen(found, max_size="100KB")[0] == KeepStep(members=(0,))
    assert limits.selected(found, KeepStep(members=(0, 1), head=0))[0] == [small, tuned]


def test_one_look_where_two_take_too_long() -> None:
    head = answer(10, frozen=True, mirrored=True)
    step, _ = chosen(Found((head, 0.8), best=0), latency="12s")
    assert step == KeepStep(members=(0,), mirrored=False)


def test_on_a_machine_that_has_become_busier_the_quickest_is_kept_and_it_is_said() -> None:
    slow, quick = answer(30, frozen=True, mirrored=True), answer(10, frozen=True)
    step, notes = chosen(Found((quick, 0.6), (slow, 0.8), best=1), latency="5s")
    assert step == KeepStep(members=(0,), head=0)
    assert "the quickest is kept" in notes[0]


def test_a_replay_that_was_stopped_keeps_what_is_there() -> None:
    found: Any = Found((answer(1, frozen=True), 0.6), (answer(1, frozen=False), 0.7), best=0)
    assert limits.among_found(found, KeepStep(members=(0, 1, 2), head=3)) == KeepStep(members=(0, 1))
    assert limits.among_found(found, KeepStep(members=(2,), mirrored=False)) == KeepStep(members=(0,), mirrored=False)


def test_what_a_recipe_keeps_is_held_to_a_limit_beside_it_where_its_steps_were_all_taken() -> None:
    found: Any = Found((answer(3, frozen=True), 0.6), (answer(9, frozen=False), 0.7), best=0)
    asked, study = KeepStep(members=(1,)), limited(max_size="4KB")
    assert limits.kept(limited(), found, None, finished=True, lost=False) is None
    assert limits.kept(limited(), found, asked, finished=True, lost=True) == asked
    with pytest.raises(KnobError, match=r"max_size: must allow what the recipe's keep\(members=\(1,\)\) ships, 0\.0MB"):
        limits.kept(study, found, asked, finished=True, lost=False)
    assert limits.kept(study, found, asked, finished=False, lost=False) == asked  # Ctrl-C: what there is, is kept
    assert limits.kept(study, found, asked, finished=True, lost=True) == KeepStep(members=(0,))  # its places mean others
    assert limits.kept(study, found, None, finished=False, lost=False) == KeepStep(members=(0,))


def test_what_learned_from_validation_is_not_among_what_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could say how good a mixture with it is: a recipe of a search without limits may be taken again within some."""
    monkeypatch.setattr(mixture, "weights", lambda answers, *_: np.full(len(answers), 1 / len(answers)))
    head, tuned = answer(1, frozen=True), answer(1, frozen=False)
    blind = replace(answer(1, frozen=False), saw_val=True)
    step, _ = chosen(Found((head, 0.6), (tuned, 0.6), (blind, 1.0), best=0), max_size="9KB")
    assert 2 not in step.members


def test_a_member_is_timed_once_and_mixtures_that_cannot_be_quick_enough_never(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int] = []

    def answer_s(network: int, size: int) -> float:
        timed.append(network)
        return float(network)

    monkeypatch.setattr(limits, "answer_s", answer_s)
    monkeypatch.setattr(mixture, "weights", lambda answers, *_: np.full(len(answers), 1 / len(answers)))
    head, *networks = answer(10, frozen=True), answer(20, frozen=False), answer(40, frozen=False)
    step, _ = chosen(Found((head, 0.6), *((one, 0.7) for one in networks), best=0), latency="12s")
    assert step == KeepStep(members=(0,))
    assert sorted(timed) == [10, 10, 20, 40]  # the first time each alone

"""The simulation of verdicts: its worlds have the difference they say, and a small run of it finds what the large one claims."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def validity() -> Iterator[ModuleType]:
    """Benchmarks import each other by name; what they imported must not stay for tests of other folders."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("verdict_validity")
    for name in set(sys.modules) - before:
        if BENCHMARKS in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("shape", ["normal", "skewed", "heavy"])
def test_a_world_has_the_accuracies_it_says(validity: ModuleType, shape: str) -> None:
    draw = np.random.default_rng(3)
    sides = [validity.answers(draw, shape, 40, 1000, (0.93, 0.9)) for _ in range(12)]
    a, b = np.mean(sides, axis=(0, 2, 3))
    assert a == pytest.approx(0.93, abs=0.008)  # 12,000 pictures: 3 standard errors
    assert b == pytest.approx(0.9, abs=0.009)


def test_a_small_run_keeps_the_level(validity: ModuleType) -> None:
    draw = np.random.default_rng(1)
    counts = {gain: validity.Count(gain) for gain in (0.0, 0.05)}
    for gain, count in counts.items():
        for _ in range(150):
            a, b = validity.answers(draw, "skewed", 5, 300, (0.9 + gain, 0.9))
            known = validity.difference(a, b).interval
            count.add(known.low, known.high)
    assert counts[0.0].row()["false verdicts, %"] <= 10
    assert counts[0.0].row()["power, %"] == "-"
    assert counts[0.05].row()["power, %"] > 60
    assert min(count.row()["coverage, %"] for count in counts.values()) >= 90


def test_what_is_counted_as_false(validity: ModuleType) -> None:
    equal, better = validity.Count(0.0), validity.Count(0.02)
    for low, high in ((-1.0, 1.0), (0.01, 0.05), (-0.05, -0.01), (0.03, 0.05)):
        equal.add(low, high)
        better.add(low, high)
    assert (equal.wrong, equal.covered, equal.found) == (3, 1, 0)
    assert (better.wrong, better.covered, better.found) == (1, 2, 2)


def test_the_sequence_that_was_not_chosen_is_one(validity: ModuleType) -> None:
    draw = np.random.default_rng(0)
    d = np.clip(draw.normal(0.2, 0.3, (300, 2000)), -1, 1)
    low, high = validity.bernstein(d)
    truth = d.mean()
    assert np.mean((low > truth).any(1) | (high < truth).any(1)) <= 0.05
    assert (high - low)[:, -1].max() < 0.1
    assert (high - low)[:, 19].min() > 0.6  # twenty seeds: wider than any difference of settings


def test_until_decided_stops_at_the_look_that_decides(validity: ModuleType) -> None:
    a, b = validity.answers(np.random.default_rng(0), "normal", 8, 400, (0.97, 0.8))
    parts = {n: validity.crossed(a[:n] - b[:n]) for n in (3, 5, 8)}
    count = validity.Count(0.17)
    assert validity.decide(parts, {3: 1 - 1e-12, 5: 0.95, 8: 0.95}, count) == 5
    assert count.found == 1
    assert set(validity.rules()["pocock, 5 looks"]) == set(validity.FEW_LOOKS)


def test_several_candidates_are_decided_together(validity: ModuleType) -> None:
    known = validity.decide_several(np.random.default_rng(0), (0.08, 0.0), (3, 6))
    assert known[0].distinguishable
    assert not known[1].distinguishable

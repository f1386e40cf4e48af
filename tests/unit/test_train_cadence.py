"""Checkpoints by steps, by time, or as often as costs little; what cannot be a cadence is one sentence."""

from __future__ import annotations

import itertools
import time

import pytest
from torch import nn

from descend.errors import KnobError
from descend.train.cadence import Cadence, interval_s

SMALL = nn.Linear(3, 2)


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def written_at(cadence: Cadence, clock: Clock, *, until: float, cost: float = 0.0, step_s: float = 0.5) -> list[float]:
    """Return when checkpoints were written, seconds from the beginning, with steps of ``step_s``."""
    began, written = clock.now, list[float]()
    while clock.now < began + until:
        clock.now += step_s
        if cadence.due():
            written.append(clock.now - began)
            with cadence.writing():
                clock.now += cost
    return written


def test_steps_are_counted_from_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert written_at(Cadence("3", SMALL), clock, until=5.0) == [1.5, 3.0, 4.5]


@pytest.mark.parametrize(("every", "expected"), [("2s", [2.5, 5.0, 7.5]), ("2000ms", [2.5, 5.0, 7.5]), ("1h", [])])
def test_time_counts_from_the_end_of_the_last_one(every: str, expected: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert written_at(Cadence(every, SMALL), clock, until=9.0) == expected


def test_the_first_comes_soon_and_the_rest_every_thirty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert written_at(Cadence(None, SMALL), clock, until=70.0) == [2.5, 33.0, 63.5]


@pytest.mark.parametrize("cost", [0.1, 1.0, 7.0])
def test_they_cost_less_than_a_fiftieth_of_the_time(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    times = written_at(Cadence(None, SMALL), clock, until=4000.0, cost=cost)
    assert len(times[1:]) * cost < 0.02 * 4000
    assert max(b - a for a, b in itertools.pairwise(times)) <= max(30.0, 50 * cost) + cost + 1.0
    assert interval_s(cost) == max(30.0, 50 * cost)


def test_the_first_of_a_large_network_waits_until_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    large = nn.Linear(5000, 500)  # 10 MB, 40 MB with slots and the best epoch: 0.4 s on a slow disk
    assert written_at(Cadence(None, large), clock, until=30.0) == [20.5]


@pytest.mark.parametrize("every", ["0", "-3", "30 steps", "1.5", "0s", "nan s", "²", ""])
def test_what_is_no_cadence_is_one_sentence(every: str) -> None:
    with pytest.raises(KnobError, match=r"checkpoint_every: must be a number of steps, or a time in ms, s, m, h.*Write 200, 30s"):
        Cadence(every, SMALL)

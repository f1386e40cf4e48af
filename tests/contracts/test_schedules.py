"""The same questions, asked of every registered schedule."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt
from tests.oracles import schedule_curves as oracles

from descend.errors import KnobError
from descend.schedule import Constant, Cosine, Exponential, History, Linear, Schedule, Step, Warmup, Watch
from descend.technique import Knob, build, knobs, registered, spec

KINDS = list(registered(Schedule))
POINTS = [k / 240 for k in range(241)]
N_EPOCHS = 48  # five steps each


def history(noise: float) -> History:
    """Falls, halts with noise, at last creeps down without: something for every knob of every listener to hear."""
    loss = [0.8 ** min(k, 2) * (1 + noise * math.sin(2.4 * k * k)) for k in range(24)]
    loss += [0.9 * min(loss) * 0.9998**k for k in range(N_EPOCHS - len(loss))]
    return History(
        n_epochs=N_EPOCHS,
        train_loss=tuple(0.8 * value * 0.98**k for k, value in enumerate(loss)),
        val_loss=tuple(loss),
        val_metric=tuple(0.9 - value / 2 if k < 20 else 0.8 for k, value in enumerate(loss)),
    )


HISTORIES = [history(noise) for noise in (0.01, 0.03, 0.04, 0.05, 0.2)]
HISTORY = HISTORIES[1]


def curve_of(schedule: Schedule, history: History = HISTORY) -> list[float]:
    return [schedule.factor(progress, history) for progress in POINTS]


def plain(kind: Any) -> Schedule:
    """The schedule as it comes; where it takes schedules, with typical ones."""
    given: dict[str, Any] = {}
    for knob in knobs(kind):
        if knob.default is dataclasses.MISSING:
            given[knob.name] = (Warmup(), Cosine()) if knob.name == "parts" else Cosine()
    return kind(**given)


def other_values(knob: Knob) -> Iterator[Any]:
    """Legal values of a knob, besides its default."""
    if knob.name == "parts":
        yield from ((Linear(), Cosine()), (Warmup(fraction=0.1), Constant(), Exponential()), (Warmup(), Watch(window=4)))
    elif knob.family is not None:
        yield from (Linear(), Exponential(), Step(), Watch(window=4))
    elif knob.name == "milestones":
        yield from ((0.2,), (0.1, 0.3, 0.6))
    for choice in knob.choices:
        if choice != knob.default:
            yield choice
    if knob.search is not None:
        for value in (knob.search.low, (knob.search.low + knob.search.high) / 2, knob.search.high):
            if value != knob.default:
                yield round(value) if knob.type is int else float(value)


def where_it_shows(kind: type[Schedule], knob: Knob) -> Any:
    """A schedule on which the knob can act: the least number of epochs to look at only does where looks begin early."""
    return Watch(earliest=0.0) if (kind, knob.name) == (Watch, "window") else plain(kind)


def changed(kind: type[Schedule]) -> list[tuple[str, Schedule, Schedule]]:
    """Every knob at other values: its name, the schedule before, the schedule after."""
    return [
        (knob.name, before, dataclasses.replace(before, **{knob.name: value}))
        for knob in knobs(kind)
        for before in [where_it_shows(kind, knob)]
        for value in other_values(knob)
    ]


VARIANTS = [schedule for kind in KINDS for schedule in (plain(kind), *(after for *_, after in changed(kind)))]


def settings(schedule: Schedule) -> Any:
    """The schedule as an oracle takes it: its name and knobs, those inside as well."""

    def plainly(value: Any) -> Any:
        if isinstance(value, tuple) and any(isinstance(item, Schedule) for item in value):
            return [settings(item) for item in value]
        return settings(value) if isinstance(value, Schedule) else value

    return schedule.name, {knob.name: plainly(getattr(schedule, knob.name)) for knob in knobs(type(schedule))}


def check_oracle(schedule: Schedule) -> None:
    """Compare a schedule with the formula of its name at every point; its absence is a failure that says where one goes."""
    assert hasattr(oracles, schedule.name), (
        f"{schedule.name} has no independent oracle. Write `def {schedule.name}(p, run, ...)`, the factor on the learning rate at"
        f" progress p, from its paper's formula in {inspect.getfile(oracles)}, which imports nothing of descend."
    )
    run = oracles.Run(N_EPOCHS, HISTORY.train_loss, HISTORY.val_loss, HISTORY.val_metric)
    expected = [oracles.factor(settings(schedule), progress, run) for progress in POINTS]
    assert curve_of(schedule) == pytest.approx(expected, rel=1e-9, abs=1e-9), f"{schedule} is not its oracle"


@pytest.mark.parametrize("schedule", VARIANTS, ids=str)
def test_agrees_with_its_oracle(schedule: Schedule) -> None:
    check_oracle(schedule)


def test_a_new_schedule_without_an_oracle_is_told_where_to_put_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cubic(Cosine):
        """Not registered, so that no other test meets it."""

        def at(self, progress: float) -> float:
            """Return the cube of what is left."""
            return (1 - progress) ** 3

    Cubic.name = "cubic"
    with pytest.raises(AssertionError, match=r"cubic has no independent oracle.*def cubic.*schedule_curves\.py"):
        check_oracle(Cubic())
    monkeypatch.setattr(oracles, "cubic", lambda p, run, floor: (1 - p) ** 3, raising=False)
    check_oracle(Cubic())
    monkeypatch.setattr(oracles, "cubic", lambda p, run, floor: (1 - p) ** 2, raising=False)
    with pytest.raises(AssertionError, match="is not its oracle"):
        check_oracle(Cubic())


@pytest.mark.parametrize("schedule", VARIANTS, ids=str)
def test_factors_are_finite_and_between_zero_and_one(schedule: Schedule) -> None:
    assert all(0 <= factor <= 1 + 1e-12 for factor in curve_of(schedule))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_knob_changes_something(kind: type[Schedule]) -> None:
    tried = set()
    for name, before, after in changed(kind):
        tried.add(name)
        assert any(curve_of(before, history) != curve_of(after, history) for history in HISTORIES), f"{name}: {after}"
    assert tried == {knob.name for knob in knobs(kind)}


@pytest.mark.parametrize("schedule", VARIANTS, ids=str)
def test_closed_form_is_stepwise_is_resumed(schedule: Schedule) -> None:
    """What was decided at a step stays decided: the whole history, the history by then, and a new object all agree."""
    closed, stepwise = curve_of(schedule), list[float]()
    for n in range(N_EPOCHS + 1):
        by_then = History(N_EPOCHS, HISTORY.train_loss[:n], HISTORY.val_loss[:n], HISTORY.val_metric[:n])
        again = build(str(schedule), Schedule)
        assert again.decisions(by_then) == [found for found in schedule.decisions(HISTORY) if found.epoch <= n]
        stepwise += [again.factor(progress, by_then) for progress in POINTS[5 * n : 5 * n + 5]]
    assert closed == stepwise


@pytest.mark.parametrize("schedule", VARIANTS, ids=str)
def test_who_listens_says_so_and_all_others_need_no_history(schedule: Schedule) -> None:
    if schedule.needs_history():
        with pytest.raises(KnobError, match="needs the history of the run"):
            [schedule.factor(progress) for progress in POINTS]
    else:
        assert [schedule.factor(progress) for progress in POINTS] == curve_of(schedule)
        assert schedule.decisions(HISTORY) == []


@pytest.mark.parametrize("schedule", VARIANTS, ids=str)
def test_text_round_trips(schedule: Schedule) -> None:
    assert build(spec(schedule), Schedule) == schedule


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_progress_outside_the_run_is_an_error(kind: type[Schedule]) -> None:
    for progress in (-0.01, 1.01, math.nan):
        with pytest.raises(KnobError, match=rf"{kind.name}: progress must be a number in \[0, 1\], got"):
            plain(kind).factor(progress)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_illegal_knobs_say_name_interval_and_value(kind: Any) -> None:
    for knob in knobs(kind):
        for bound in knob.bounds:
            illegal = {Ge: lambda b: b.ge - 1.0, Gt: lambda b: b.gt - 1.0, Le: lambda b: b.le + 1.0, Lt: lambda b: float(b.lt)}
            value: Any = illegal[type(bound)](bound)
            value = int(value) if knob.type is int else value
            with pytest.raises(KnobError) as caught:
                dataclasses.replace(plain(kind), **{knob.name: value})
            assert f"{kind.name}: {knob.name} must be {knob.interval}, got {value!r}." in str(caught.value)

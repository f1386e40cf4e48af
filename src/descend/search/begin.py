"""The first seconds of a search: how fast this machine is, which engine computes, how many pictures and pixels fit."""

from __future__ import annotations

import bisect
import math
import time
from dataclasses import dataclass, replace

import numpy as np

from descend.data import Dataset, decode_resized, room_for_test
from descend.data.pool import in_order, n_threads
from descend.durations import duration
from descend.errors import KnobError, PictureError
from descend.models import Backbone
from descend.progress import Progress
from descend.search.clock import CLOSING_S, Clock
from descend.search.features import quick_fit_s, set_s
from descend.search.steps import PartStep
from descend.search.study import FIT_PACE, nested, view_cost
from descend.train.plan import Plan
from descend.transfer import Engine, choose, make_engine, measure, remembered

LOOKED_AT = 24  # pictures decoded to see how long one takes
LEAST_PER_CLASS = 8  # pictures of all splits, for a first answer
SMALLER = (192, 160, 128, 96)
"""Pixels of a first view, where there is no time for all pictures in the network's own. In 96 px all of them take as long as a
fifth in 224. A head then has 92% of hands instead of 81 to 87 (an eighth, a quarter of them in 224 px), 77% of blurred flowers
instead of 69 to 70, but 88% of ants and bees instead of 90 to 91 (`benchmarks/view_sizes.py`); and all of test is answered.
"""
FIRST_SHARE = 0.9  # of the time left that decoding, first features and their head may take: more pictures help most
MARGIN = 1.2  # of every estimate: the machine may get busier
QUICK_MARGIN = 1.5  # of one quick fit, which nothing can follow: it waits for memory where much else runs
EXPORT_S = 2.0  # that an engine takes to start with a network that is new to it; torch's own starts at once
WORTH_EXPORT_S, LOOKS = 8.0, 2
"""Of torch's time, from which another engine may repay its start, and how often a search looks at each picture at least: mirror
images or a larger view follow. With torch's own, 398 ants and bees had time for neither in half a minute."""
CHOOSING_STARTS = 2  # of engines, before they can be measured against each other
CHOOSING_CHUNKS = 12  # of torch's, as long as which measuring them takes where another is twice as fast
USUAL_GAIN = 2.0  # of another engine over torch's: of OpenVINO's 1.8 to 2.5 in the same precision
CHOOSING_SHARE = 0.5  # of the time left, that measuring them may take: on a machine that is as slow, torch's computes


@dataclass(frozen=True)
class Speeds:
    """Pictures per second: decoded, and computed by torch and by the fastest engine known. engine: that one; reason: why it."""

    decoded: float
    torch: float
    computed: float
    engine: Engine
    reason: str

    def first_s(self, n: int, *, cost: float = 1.0) -> float:
        """Return the seconds that decoding n pictures and computing their first features take.

        cost: of the view, as times that of the view that was measured.
        """
        return n * (1 / self.decoded + cost / self.computed)

    def slowed(self, by: float) -> Speeds:
        """Return what they are on a machine that has become so many times slower."""
        return replace(self, decoded=self.decoded / by, torch=self.torch / by, computed=self.computed / by)


@dataclass(frozen=True)
class Beginning:
    """How a search begins. size: pixels of the first view of a picture. part: of the pictures that it looks at, None for all."""

    size: int
    part: PartStep | None = None


def speeds(dataset: Dataset, plan: Plan, backbone: Backbone, resolution: int, clock: Clock, progress: Progress) -> Speeds:
    """Measure what a plan's pictures cost here. backbone: with the first view set.

    The fastest engine is known from an earlier run, or measured where the pictures are many and the budget allows; else torch's,
    which starts at once, computes. Nothing is measured that would take the time of a first answer.
    """
    decoded = _decoded_per_s(dataset, resolution, n_threads(plan.threads))
    taps = backbone.every_tap
    torch = make_engine("torch", backbone, size=plan.size, taps=taps)
    torch_rate = _computed_per_s(torch)
    known = remembered(backbone, size=plan.size, taps=taps)
    if plan.engine != "auto":
        engine = torch if plan.engine == torch.name else make_engine(plan.engine, backbone, size=plan.size, taps=taps)
        rate = torch_rate if engine is torch else known and known.images_per_s.get(plan.engine)
        return Speeds(decoded, torch_rate, rate or _computed_per_s(engine), engine, "")
    n = int((dataset.splits >= 0).sum())
    by_torch = Speeds(decoded, torch_rate, torch_rate, torch, "it starts at once, which counts for so few pictures")
    is_worth = known is None and min(LOOKS * n / torch_rate, clock.left() / 2) > WORTH_EXPORT_S
    if is_worth and not _may_choose(dataset, plan, backbone, by_torch, clock):
        return replace(by_torch, reason="it starts at once: to measure the others takes too long here now")
    if is_worth:
        progress.say("  choosing the engine (measured once for this network and machine) ...")
        known = choose(backbone, size=plan.size, taps=taps)
    if known is None:
        return by_torch
    rates = known.images_per_s
    shown = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    best = known.engine
    return Speeds(decoded, rates.get("torch", torch_rate), rates[best.name], best, f"the fastest here, pictures/s: {shown}")


def _may_choose(dataset: Dataset, plan: Plan, backbone: Backbone, by_torch: Speeds, clock: Clock) -> bool:
    """Return whether there is time to measure the engines, and then still for a first answer, whatever the fastest would be.

    Nor may it be from fewer pictures than torch's own can look at meanwhile.
    """
    native = min(plan.size, backbone.native_size)
    start_s = EXPORT_S * clock.closing_s / CLOSING_S[0]  # longer, as everything that one core does here now
    choosing_s = CHOOSING_STARTS * start_s + CHOOSING_CHUNKS * by_torch.engine.chunk / by_torch.torch
    at_best = replace(by_torch, computed=math.inf)
    rest_s = least_s(dataset, backbone, native, at_best, clock)
    if choosing_s > CHOOSING_SHARE * clock.left() or choosing_s + rest_s > clock.left():
        return False
    smallest, n, room_s = first_sizes(backbone, native)[-1], int((dataset.splits >= 0).sum()), clock.left() - clock.closing_s
    faster = replace(by_torch, computed=USUAL_GAIN * by_torch.torch)
    torch_s, other_s = (_First(dataset, backbone, native, each, clock).looks_s(smallest, n) for each in (by_torch, faster))
    return (room_s - choosing_s - start_s) / other_s >= min(1.0, room_s / torch_s)


def beginning(dataset: Dataset, backbone: Backbone, native: int, measured: Speeds, clock: Clock) -> Beginning:
    """Return the largest view in which all pictures can be looked at; where time does not allow any, a part in the smallest.

    native: pixels of the view that was measured, the largest to begin with. Raises KnobError where the time does not allow enough
    for a first answer.
    """
    n, n_train = int((dataset.splits >= 0).sum()), len(dataset.indices("train"))
    least = _least(dataset)
    first = _First(dataset, backbone, native, measured, clock)

    def tried_s(looked_at: int) -> float:
        """Return the seconds that trying one set of features takes."""
        n_fitted = round(n_train * _shares(dataset, looked_at)[0])
        return set_s(backbone, n_fitted, n_classes, FIT_PACE * clock.slowdown)

    def comfortable(size: int) -> bool:
        """Return whether all pictures in a view leave time for a head that is chosen on a set of features, and to close."""
        chosen_s = MARGIN * (first.looks_s(size, n) + tried_s(n))
        return chosen_s + clock.closing_s <= FIRST_SHARE * left

    def fits(looked_at: int) -> bool:
        """Return whether so many, in the smallest view, leave time for an answer, and for a head chosen on one set or more."""
        chosen_s = MARGIN * (first.looks_s(smallest, looked_at) + tried_s(looked_at))
        return first.answer_s(smallest, looked_at) <= left and chosen_s <= FIRST_SHARE * left

    left, n_classes, sizes = clock.left(), len(dataset.classes), first_sizes(backbone, native)
    smallest = sizes[-1]
    if first.answer_s(smallest, least) > left:
        raise _too_short("about", first.answer_s(smallest, least), clock)
    size = next((size for size in sizes if comfortable(size)), smallest)
    if size != smallest or fits(n):
        return Beginning(size)
    too_many = bisect.bisect_left(range(least, n), True, key=lambda looked_at: not fits(looked_at))
    return Beginning(size, _part(dataset, least + max(too_many - 1, 0)))


def check_time(dataset: Dataset, backbone: Backbone, native: int, clock: Clock) -> None:
    """Raise KnobError where not even pictures that cost nothing would leave time for a first answer: before all measurements."""
    needed_s = least_s(dataset, backbone, native, None, clock)
    if needed_s > clock.left():
        raise _too_short("more than", needed_s, clock)


def _too_short(by: str, needed_s: float, clock: Clock) -> KnobError:
    must = f"must leave time for a first answer: {by} {duration(clock.used() + needed_s, estimated=True)} here"
    return KnobError("budget", must, got=duration(clock.budget_s), fix="Raise --budget.")


def least_or_more(dataset: Dataset, backbone: Backbone, native: int, measured: Speeds, clock: Clock) -> Beginning:
    """Return the beginning that fits, or the least one where none does: a run that has begun is not refused any more."""
    try:
        return beginning(dataset, backbone, native, measured, clock)
    except KnobError:
        return Beginning(first_sizes(backbone, native)[-1], _part(dataset, _least(dataset)))


def least_s(dataset: Dataset, backbone: Backbone, native: int, measured: Speeds | None, clock: Clock) -> float:
    """Return the seconds that the least first answer takes, with what is looked at for it decoded. measured: as of ``_First``."""
    return _First(dataset, backbone, native, measured, clock).answer_s(first_sizes(backbone, native)[-1], _least(dataset))


def _least(dataset: Dataset) -> int:
    """Return how many pictures are looked at for a first answer at least."""
    return min(int((dataset.splits >= 0).sum()), LEAST_PER_CLASS * len(dataset.classes))


@dataclass(frozen=True)
class _First:
    """How long first answers take. native: pixels of the view that was measured. measured: None as if pictures cost nothing."""

    dataset: Dataset
    backbone: Backbone
    native: int
    measured: Speeds | None
    clock: Clock

    def looks_s(self, size: int, looked_at: int) -> float:
        """Return the seconds that looking at so many pictures takes, of all splits, with the start of an engine for that size."""
        if self.measured is None:
            return 0.0
        start_s = EXPORT_S * (size != self.native and self.measured.engine.name != "torch")
        return start_s + self.measured.first_s(looked_at, cost=view_cost(size) / view_cost(self.native))

    def answer_s(self, size: int, looked_at: int) -> float:
        """Return the seconds that a first answer in one fit takes."""
        n_fitted = round(len(self.dataset.indices("train")) * _shares(self.dataset, looked_at)[0])
        fit_s = quick_fit_s(self.backbone, n_fitted, len(self.dataset.classes), FIT_PACE * self.clock.slowdown)
        return MARGIN * self.looks_s(size, looked_at) + QUICK_MARGIN * fit_s + self.clock.closing_s


def _part(dataset: Dataset, room: int) -> PartStep:
    """Return the step that leaves all but so many pictures aside."""
    share, test = _shares(dataset, room)
    return PartStep(share=_rounded(share), test=None if test is None else _rounded(test))


def _rounded(share: float) -> float:
    """Return a share with four digits, above 0."""
    return max(round(share, 4), 1e-4)


def _shares(dataset: Dataset, room: int) -> tuple[float, float | None]:
    """Return which share of train and validation is looked at among so many pictures, and of test where that was given."""
    n, n_test = int((dataset.splits >= 0).sum()), len(dataset.indices("test"))
    if not (dataset.given_split and n_test):
        return room / n, None
    for_test = room_for_test(room, n_test, n - n_test)
    return (room - for_test) / max(n - n_test, 1), for_test / n_test


def first_sizes(backbone: Backbone, native: int) -> list[int]:
    """Return the views that a search may begin with, the largest first."""
    smaller = [] if backbone.fixed_size else [size for size in SMALLER if backbone.min_size <= size < native]
    return [native, *smaller]


def taken_part(dataset: Dataset, step: PartStep, seed: int) -> Dataset:
    """Return the part of the data set that takes part: of every split and class its share, one picture or more."""
    rows = []
    for split in ("train", "val", "test"):
        order = nested(dataset, split, seed)
        share = step.test if split == "test" and step.test is not None else step.share
        rows.append(order[: max(min(len(order), len(dataset.classes)), round(share * len(order)))])
    return dataset.only(np.sort(np.concatenate(rows)), why="the budget does not suffice to look at all")


def _computed_per_s(engine: Engine) -> float:
    """Return the pictures per second of an engine."""
    return measure({engine.name: engine}, rounds=1)[engine.name]


def _decoded_per_s(dataset: Dataset, resolution: int, threads: int) -> float:
    rows = np.flatnonzero(dataset.splits >= 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).astype(int)]

    def work(row: int) -> None:
        try:
            decode_resized(dataset.source(row), resolution, name=dataset.name_of(row), policy=dataset.policy)
        except PictureError:  # counted when everything is decoded
            return

    started = time.perf_counter()
    for _ in in_order(work, map(int, rows), threads):
        pass
    return len(rows) / max(time.perf_counter() - started, 1e-6)

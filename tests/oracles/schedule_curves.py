"""Every schedule from its formula, in plain numbers: imports nothing of ours.

A function bears the name of its schedule. It takes progress p in [0, 1] of the stretch that the schedule rules, the ``Run`` with
that stretch, and the schedule's knobs; schedules inside are (name, knobs). It returns the factor on the learning rate. At a
border the later part speaks, and numbers within 1e-9 of a border have reached it.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import Any

from tests.oracles.schedule_trend import averaged

NEAR = 1e-9
Spec = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run: the epochs planned, one number per finished epoch, and the stretch of the run that a schedule rules."""

    n_epochs: int
    train_loss: tuple[float, ...] = ()
    val_loss: tuple[float, ...] = ()
    val_metric: tuple[float, ...] = ()
    begin: float = 0.0
    end: float = 1.0

    def part(self, begin: float, end: float) -> Run:
        length = self.end - self.begin
        return dataclasses.replace(self, begin=self.begin + begin * length, end=self.begin + end * length)

    def epochs(self) -> list[int]:
        """The epochs that lie within the stretch as a whole."""
        inside = (self.begin * self.n_epochs - NEAR, self.end * self.n_epochs + NEAR)
        return [epoch for epoch in range(self.n_epochs) if inside[0] <= epoch and epoch + 1 <= inside[1]]

    def heard(self, p: float, monitor: str) -> list[float]:
        """The numbers of the stretch's epochs that have finished at its progress p."""
        finished = (self.begin + p * (self.end - self.begin)) * self.n_epochs + NEAR
        values = getattr(self, monitor)
        return [values[epoch] for epoch in self.epochs() if epoch + 1 <= finished]

    def passed(self, epoch: int) -> float:
        """The part of the stretch that has passed when ``epoch`` epochs of the run have finished."""
        return (epoch / self.n_epochs - self.begin) / (self.end - self.begin)


def factor(spec: Spec, p: float, run: Run) -> float:
    name, knobs = spec
    return globals()[name](min(max(p, 0.0), 1.0), run, **knobs)


def constant(p: float, run: Run) -> float:
    return 1.0


def step(p: float, run: Run, every: float, gamma: float) -> float:
    drops = 0
    while (drops + 1) * every <= p + NEAR:
        drops += 1
    return math.prod([gamma] * drops)


def multi_step(p: float, run: Run, milestones: tuple[float, ...], gamma: float) -> float:
    return math.prod(gamma for milestone in milestones if milestone <= p + NEAR)


def exponential(p: float, run: Run, final: float) -> float:
    return math.exp(math.log(final) * p)


def inverse_time(p: float, run: Run, decline: float) -> float:
    return (1 + decline * p) ** -1


def inverse_sqrt(p: float, run: Run, decline: float) -> float:
    return (1 + decline * p) ** -0.5


def linear(p: float, run: Run, floor: float) -> float:
    return (1 - p) + p * floor


def polynomial(p: float, run: Run, power: float, floor: float) -> float:
    height = (1 - p) ** power
    return height + (1 - height) * floor


def cosine(p: float, run: Run, floor: float) -> float:
    height = math.cos(math.pi * p / 2) ** 2
    return height + (1 - height) * floor


def cosine_restarts(p: float, run: Run, n_cycles: int, stretch: float, floor: float) -> float:
    whole, begin = sum(stretch**k for k in range(n_cycles)), 0.0
    for k in range(n_cycles):
        end = begin + stretch**k / whole
        if p < end - NEAR or k == n_cycles - 1:
            return cosine(max(p - begin, 0.0) / (end - begin), run, floor)
        begin = end
    raise AssertionError


def one_cycle(p: float, run: Run, peak_at: float, start: float, floor: float, anneal: str) -> float:
    low, way = (start, 1 - p / peak_at) if p < peak_at else (floor, (p - peak_at) / (1 - peak_at))
    return cosine(way, run, low) if anneal == "cosine" else linear(way, run, low)


def wsd(p: float, run: Run, warmup: float, decay: float, start: float, floor: float, form: str) -> float:
    if p < warmup:
        return start + (1 - start) * p / warmup
    return 1.0 if p <= 1 - decay else way_down(form, (p - 1 + decay) / decay, floor)


def way_down(form: str, p: float, floor: float) -> float:
    height = {"linear": 1 - p, "cosine": (1 + math.cos(math.pi * p)) / 2, "sqrt": 1 - math.sqrt(p)}[form]
    return floor + (1 - floor) * height


def warmup(p: float, run: Run, fraction: float, start: float) -> float:
    return 1.0 if p >= fraction else start + (1 - start) * p / fraction


def during(p: float, run: Run, inner: Spec, fraction: float) -> float:
    return factor(inner, p / fraction, run.part(0, fraction))


def share(spec: Spec) -> float | None:
    """The part of the run that a schedule claims."""
    name, knobs = spec
    return share(knobs["inner"]) if name == "per_epoch" else knobs["fraction"] if name in ("warmup", "during") else None


def then(p: float, run: Run, parts: list[Spec]) -> float:
    claims = [share(part) for part in parts]
    rest = (1 - sum(claim or 0 for claim in claims)) / max(claims.count(None), 1)
    begins = [sum(rest if claim is None else claim for claim in claims[:k]) for k in range(len(parts))]
    turn = max(k for k, begin in enumerate(begins) if begin <= p + NEAR)
    begin, length = begins[turn], rest if claims[turn] is None else 1.0  # one that claims its share finds its end itself
    return factor(parts[turn], (p - begin) / length, run.part(begin, begin + length))


def repeat(p: float, run: Run, inner: Spec, n_cycles: int) -> float:
    cycle = max(k for k in range(n_cycles) if k / n_cycles <= p + NEAR)
    return factor(inner, p * n_cycles - cycle, run.part(cycle / n_cycles, (cycle + 1) / n_cycles))


def per_epoch(p: float, run: Run, inner: Spec) -> float:
    finished = math.floor((run.begin + p * (run.end - run.begin)) * run.n_epochs + NEAR)
    return factor(inner, run.passed(finished), run)


def plateau(
    p: float, run: Run, monitor: str, gamma: float, patience: int, threshold: float, cooldown: int, floor: float
) -> float:
    """ReduceLROnPlateau of torch's documentation, threshold_mode rel: bad epochs are counted, none of them during a cooldown."""
    best, rate, bad, cooling = None, 1.0, 0, 0
    for value in run.heard(p, monitor):
        worth = value if monitor == "val_metric" else -value
        better = math.isfinite(worth) and (best is None or worth > best + threshold * abs(best))
        best, bad = (worth, 0) if better else (best, bad + 1)
        if cooling > 0:
            cooling, bad = cooling - 1, 0
        if bad > patience:
            rate, bad, cooling = max(rate * gamma, floor), 0, cooldown
    return rate


CORRELATIONS = [math.sin((2 * k + 1) / 64 * math.pi) for k in range(16)]


@cache
def fall_p(losses: tuple[float, ...], worth: float) -> float:
    y, bar = [math.log(loss) for loss in losses], math.log(1 - worth)
    if all(abs(a - 2 * b + c) < 1e-13 for a, b, c in zip(y, y[1:], y[2:], strict=False)):  # a line without noise
        return 0.0 if y[1] - y[0] > bar else 1.0
    return averaged(y, bar, CORRELATIONS)[1]


def watch(
    p: float, run: Run, monitor: str, worth: float, window: int, level: float, confirm: int, earliest: float, latest: float,
    floor: float, form: str,
) -> float:  # fmt: skip
    """Decay begins when ``confirm`` tests in a row have rejected a fall of ``worth``, at ``latest`` at the latest."""
    first = run.epochs()[0]
    passed = [run.passed(first + n) for n in range(len(run.epochs()) + 1)]
    looks = [n for n, part in enumerate(passed) if n >= window and earliest - NEAR <= part <= latest + NEAR]
    bar, told, agreeing = level / (len(looks) // confirm), run.heard(p, monitor), 0
    begin = passed[looks[-1]]
    for n in looks:
        if n > len(told):
            break
        agreeing = agreeing + 1 if fall_p(tuple(told[n - max(window, n // 2) : n]), worth) <= bar else 0
        if agreeing == confirm:
            begin = passed[n]
            break
    return 1.0 if p <= begin else way_down(form, (p - begin) / (1 - begin), floor)

"""Rules against each other on one course: rates tuned at equal cost, then counts over seeds, and no verdicts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from descend.errors import KnobError
from descend.landscape.course import Course, Trace, at_rate
from descend.optim import Rule
from descend.optim.chain import chain_of
from descend.spec_text import Call
from descend.technique import build, knobs, parse, spec

RATES = tuple(float(f"{10 ** (k / 6):.1e}") for k in range(-24, 7))
"""The rates that tuning tries, for every rule alike: 0.0001 to 10, six in every decade."""

TUNING_SEEDS = tuple(range(1_000_000, 1_000_016))
"""Walkers that tuning looks at. Races use others, so that nothing is reported on what it was chosen by."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one rule did on a course.

    picture: the walk of seed 0, the first of the n. steps: for each of the n walkers, its first step at the target or below, inf
    for never. n_reached, n_escaped, n_diverged: counts of the n walkers; n_escaped is None where there is no trap. final: (n)
    losses after the last step. tuned: whether the rate was tuned, rather than given; at_edge: whether the tuned rate is the
    lowest or highest tried, so that the best may lie outside.
    """

    rule: Rule
    tuned: bool
    at_edge: bool
    picture: Trace
    n: int
    steps: tuple[float, ...]
    n_reached: int
    n_escaped: int | None
    n_diverged: int
    final: tuple[float, ...]

    @property
    def label(self) -> str:
        """The rule's text, its rate always in it; that of a wrapped rule shows where it is not the default."""
        if chain_of(self.rule).wrappers:
            return spec(self.rule)
        default = next(knob.default for knob in knobs(type(self.rule)) if knob.name == "lr")
        others = spec(at_rate(self.rule, default))
        inner = others.removeprefix(f"{self.rule.name}(").removesuffix(")")
        return f"{self.rule.name}(lr={self.rule.lr:g}{', ' if inner else ''}{inner})"


def tune(course: Course, rule: Rule, *, rates: Sequence[float] = RATES, seeds: Sequence[int] = TUNING_SEEDS) -> Rule:
    """Return ``rule`` at the one of ``rates`` that serves it best on ``course``.

    Best: the least mean logarithm of the loss, over all steps and walkers; losses below the target count as the target, and a
    walk that diverges rules its rate out. So it pays to be fast, and to stay where one has arrived.
    Costs len(rates) * len(seeds) walks; one per rate where nothing is random.
    """
    if len(rates) == 0:
        raise KnobError("tune", "needs one rate or more", got=list(rates))

    def badness(lr: float) -> float:
        losses = course.walk(at_rate(rule, lr), seeds if course.random else seeds[:1]).losses
        if not np.isfinite(losses).all():
            return math.inf
        return float(np.log(np.maximum(losses, max(course.goal, _LEAST))).mean())

    return at_rate(rule, min(rates, key=badness))


_LEAST = 1e-300  # so that a target of 0 has a logarithm


def race(
    course: Course,
    rules: Sequence[str | Rule],
    *,
    n_seeds: int = 100,
    rates: Sequence[float] = RATES,
    watch: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Let every rule walk ``course`` with the same ``n_seeds`` walkers, its rate tuned first where none is given.

    rules: spec text, tuned unless it names lr, or rules, taken as they are. watch: told each rule's text before its turn.
    Raises SpecError and KnobError for text that names no rule or a wrong knob; KnobError for fewer than one rule or seed, and for
    more than one seed on a course without randomness.
    """
    if not rules:
        raise KnobError("race", "needs one optimizer or more", got=list(rules))
    if n_seeds > 1 and not course.random:
        raise KnobError("race", "n_seeds has no effect without noise and spread: every walk is the same", got=n_seeds)
    if not 1 <= n_seeds <= TUNING_SEEDS[0]:
        raise KnobError("race", f"n_seeds must be a whole number in [1, {TUNING_SEEDS[0]}]", got=n_seeds)
    entered = [(build(rule, Rule), isinstance(rule, str) and not _names_rate(parse(rule))) for rule in rules]
    outcomes: list[Outcome] = []
    for rule, untuned in entered:
        watch(str(rule))
        outcomes.append(_run(course, tune(course, rule, rates=rates) if untuned else rule, untuned, n_seeds, rates))
    return outcomes


def _names_rate(call: Call) -> bool:
    """Return whether spec text gives a rate, its own or that of a rule inside."""
    inside = (*call.settings.values(), *call.arguments)
    return "lr" in call.settings or any(_names_rate(value) for value in inside if isinstance(value, Call))


def _run(course: Course, rule: Rule, tuned: bool, n_seeds: int, rates: Sequence[float]) -> Outcome:
    trace = course.walk(rule, range(n_seeds))
    steps = trace.steps_to(course.goal)
    return Outcome(
        rule=rule,
        tuned=tuned,
        at_edge=tuned and rule.lr in (min(rates), max(rates)),
        picture=trace.of(0),
        n=n_seeds,
        steps=tuple(steps.tolist()),
        n_reached=int(np.isfinite(steps).sum()),
        n_escaped=int(trace.escaped().sum()) if course.surface.trap() else None,
        n_diverged=int(trace.diverged().sum()),
        final=tuple(trace.losses[-1].tolist()),
    )

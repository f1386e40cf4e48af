"""One course for all rules: the same surface, start, noise and number of steps, walked by one loop.

The loop is the whole of training without the network: ask the rule where it wants the gradient, add noise, move. Walkers are
the rows of one float64 array, so a hundred seeds cost about what one costs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from scipy.special import ndtri

from descend import rng
from descend.errors import KnobError
from descend.landscape.surface import Floats, Surface, fixed
from descend.optim import Rule, with_knobs
from descend.optim.chain import Chain, chain_of
from descend.optim.ops import norm
from descend.schedule import Schedule
from descend.technique import build, record


@dataclasses.dataclass(frozen=True)
class Trace:
    """Where N walkers went under one rule.

    points: (T + 1, N, D) float64, the evaluation weights after 0, 1, ..., T steps: where the walker stands, or the mean
    that a rule keeps. losses: (T + 1, N), there and without noise; a walk that has diverged holds inf or NaN.
    """

    surface: Surface
    rule: Rule
    seeds: tuple[int, ...]
    points: Floats
    losses: Floats

    def of(self, seed: int) -> Trace:
        """Return the walk of one of ``seeds`` alone."""
        at = self.seeds.index(seed)
        return dataclasses.replace(
            self, seeds=(seed,), points=self.points[:, at : at + 1].copy(), losses=self.losses[:, at : at + 1].copy()
        )

    def steps_to(self, target: float) -> Floats:
        """Return each walker's first step with a loss of ``target`` or less: (N,) float64, inf for never."""
        there = self.losses <= target
        return np.where(there.any(0), there.argmax(0), np.inf)

    def escaped(self) -> NDArray[np.bool_]:
        """Return whether each walker ended outside the surface's trap and at a finite loss: (N,) bool."""
        return np.isfinite(self.losses[-1]) & self.surface.escaped(self.points[-1])

    def diverged(self) -> NDArray[np.bool_]:
        """Return whether each walker ended higher than ten times where it began, or nowhere at all: (N,) bool."""
        return ~(self.losses[-1] <= 10 * np.maximum(self.losses[0], 1))


@record("course")
class Course:
    """What every rule meets alike; two rules are compared on one course or not at all.

    surface: what is walked on. n_steps: length of every walk. noise: standard deviation of the Gaussian number added to every
    coordinate of every gradient, in units of the gradient: a mini-batch of one; one of B samples has noise / sqrt(B).
    spread: standard deviation of the starting points around ``start``. start: D numbers, default the surface's. target: the loss
    at which a walk has arrived, default the surface's. schedule: factor on every rule's rate.

    The noise of walker ``seed`` at step t is a function of (seed, t): every rule meets the same, at every rate.
    """

    surface: Surface
    n_steps: Annotated[int, Ge(1), Le(1_000_000)] = 200
    noise: Annotated[float, Ge(0)] = 0.0
    spread: Annotated[float, Ge(0)] = 0.0
    start: tuple[float, ...] | None = None
    target: Annotated[float, Ge(0)] | None = None
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        n_dims = len(self.surface.minimum())
        if self.start is not None and len(self.start) != n_dims:
            raise KnobError("course", f"start must be {n_dims} numbers on {self.surface}", got=self.start)
        if self.schedule is not None and self.schedule.needs_history():
            raise KnobError("course", "schedule must not need the history of epochs: a walk has none", got=str(self.schedule),
                            fix="Use a fixed decay such as cosine().")  # fmt: skip

    @property
    def goal(self) -> float:
        """The target in force."""
        return self.surface.target() if self.target is None else self.target

    @property
    def random(self) -> bool:
        """Whether walkers differ; without noise and spread they all walk the same."""
        return bool(self.noise or self.spread)

    def starts(self, seeds: Sequence[int]) -> Floats:
        """Return the starting points of ``seeds``: (N, D) float64."""
        here = np.array(self.surface.start() if self.start is None else self.start, np.float64)
        if not self.spread:
            return np.tile(here, (len(seeds), 1))
        return here + self.spread * ndtri(rng.uniform(0, "landscape/start", ids=seeds, n=here.size))

    def walk(self, rule: str | Rule, seeds: Sequence[int] = (0,)) -> Trace:
        """Let one walker per seed take ``n_steps`` steps of ``rule`` (a rule or its spec text).

        seeds: whole numbers that name the walkers. Raises KnobError where there is none, SpecError for an unknown rule.
        """
        rule = build(rule, Rule)
        if len(seeds) == 0:
            raise KnobError("course", "a walk needs one seed or more", got=list(seeds))
        x = self.starts(seeds)
        noise = _noises(tuple(seeds), self.n_steps, x.shape[1]) * self.noise if self.noise else None
        points = np.empty((self.n_steps + 1, *x.shape))
        points[0] = x
        with np.errstate(all="ignore"):  # a walk may diverge; that is a result
            walkers = _Walkers(chain_of(rule), x)
            for t in range(1, self.n_steps + 1):
                walkers.rule = chain_of(self._at(rule, t))  # a rule that looks ahead does so at the rate of this step
                push = 0.0 if noise is None else noise[t - 1]
                g = walkers.gradient(lambda at, push=push: self.surface.gradient(at) + push)
                points[t] = walkers.step(g)
            losses = self.surface.loss(points)
        return Trace(self.surface, rule, tuple(seeds), points, losses)

    def _at(self, rule: Rule, t: int) -> Rule:
        if self.schedule is None:
            return rule
        return at_rate(rule, rule.lr * self.schedule.factor((t - 1) / self.n_steps))


def at_rate(rule: Rule, lr: float) -> Rule:
    """Return ``rule`` with another learning rate, that of the rule inside where it wraps one."""
    return with_knobs(rule, lr=lr)


class _Walkers:
    """The walkers of one rule: one array for all where the rule works per element, else one vector each.

    ``rule`` is theirs at its current rate, set before the gradient of a step is asked for.
    """

    def __init__(self, rule: Chain, x: Floats) -> None:
        self.together = rule.core.elementwise
        self.p: list[Any] = [x] if self.together else list(x)
        self.slots = [rule.start(p) for p in self.p]
        self.rule, self.t = rule, 0
        self.memory: tuple[float, ...] | None = None

    def _joined(self, parts: list[Any]) -> Floats:
        return parts[0] if self.together else np.stack(parts)

    def gradient(self, at: Callable[[Floats], Floats]) -> Floats:
        """Return the gradients (N, D) that the rule wants; at: points (N, D) -> gradients there."""
        g = at(self._joined([self.rule.lookahead_point(p, slots) for p, slots in zip(self.p, self.slots, strict=True)]))
        perturbation = self.rule.perturbation
        if perturbation is None:
            return g
        pairs = zip(self._joined(self.p), g, strict=True)  # each walker is perturbed by the norm of its own gradient
        lengths = ((p, part, float(norm(perturbation.scaled_gradient(p, part)))) for p, part in pairs)
        return at(np.stack([perturbation.perturbed(p, part, length) for p, part, length in lengths]))

    def step(self, g: Floats) -> Floats:
        """Move everybody by one step of ``rule``; return the evaluation weights (N, D)."""
        self.t, rule = self.t + 1, self.rule
        scalars = rule.scalars(self.t, memory=self.memory)
        self.memory = scalars.memory
        pairs = zip(self.p, [g] if self.together else list(g), self.slots, strict=True)
        moved = [rule.move(p, part, slots, scalars) for p, part, slots in pairs]
        self.p, self.slots = [p for p, _ in moved], [slots for _, slots in moved]
        return self._joined([rule.evaluation_weights(p, slots) for p, slots in moved])


@lru_cache(maxsize=4)
def _noises(seeds: tuple[int, ...], n_steps: int, n_dims: int) -> Floats:
    """Return standard normal numbers (n_steps, N, D) of (seed, step); kept, because every rule and rate meets the same."""
    steps = range(1, n_steps + 1)
    return fixed(np.stack([ndtri(rng.uniform(0, "landscape/noise", ids=seeds, n=n_dims, epoch=t)) for t in steps]))

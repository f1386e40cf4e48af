"""Learning-rate decay as pure functions of progress.

``factor(progress)`` multiplies the learning rate. ``progress`` runs from 0 (before the first step) to 1 (after the last), so
the step with number k = 0, 1, ... of n is taken at ``factor(k / n)``, and a schedule does not know how long the run is: the
same curve fits ten minutes and ten hours, and a resumed run continues on it by construction. Some
(``plateau``, ``watch``) also need the history of the run, and are pure functions of both.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from descend.errors import KnobError
from descend.schedule.history import ROUNDING, Decision, History
from descend.technique import Search, Technique, technique

Floor = Annotated[float, Ge(0), Le(1), Search(0.0, 0.2)]
"""The factor at which a schedule ends."""

Drop = Annotated[float, Gt(0), Lt(1), Search(0.05, 0.8)]
"""What one drop leaves of the learning rate."""

Decline = Annotated[float, Ge(0), Search(1.0, 100.0, log=True)]
"""How much a slow decay loses over the run."""

Fraction = Annotated[float, Gt(0), Lt(1), Search(0.01, 0.5)]
"""A part of the run."""

Form = Literal["linear", "cosine", "sqrt"]
"""The way down: a straight line, half a cosine, or 1 - sqrt."""


class Schedule(Technique, family="schedule"):
    """The base of every schedule. Subclasses define ``at``; ``factor_at`` and the rest where the history or parts count."""

    def factor(self, progress: float, history: History | None = None) -> float:
        """Return what multiplies the learning rate at ``progress`` in [0, 1].

        history: the history of the run, of which only the epochs finished by then count; needed where ``needs_history()``. Raises
        KnobError for progress outside [0, 1], for a history with gaps, and for one that is missing.
        """
        if not 0 <= progress <= 1:
            raise KnobError(self.name, "progress must be a number in [0, 1]", got=progress)
        return self.factor_at(progress, None if history is None else history.until(progress))

    def at(self, progress: float) -> float:
        """Return the factor at ``progress``, which is in [0, 1]."""
        raise NotImplementedError

    def factor_at(self, progress: float, history: History | None) -> float:  # noqa: ARG002 (a shape knows progress alone)
        """Return the factor at ``progress``, given the history recorded by then."""
        return self.at(progress)

    def needs_history(self) -> bool:
        """Return whether this schedule cannot do without ``history``."""
        return False

    def decisions(self, history: History) -> list[Decision]:  # noqa: ARG002
        """Return what the schedule has decided from ``history``, in order; nothing where it decides nothing."""
        return []

    def required(self, history: History | None) -> History:
        """Return ``history``; KnobError where there is none."""
        if history is None:
            raise KnobError(self.name, "needs the history of the run: factor(progress, history)", got=None,
                            fix="Where there are no epochs, use a fixed decay such as cosine().")  # fmt: skip
        return history

    def share(self) -> float | None:
        """Return the part of the run that this schedule is made for; None: it stretches over whatever it is given."""
        return None


@technique("constant", source="Robbins & Monro 1951 ask for decay; a constant rate is where one watches first")
class Constant(Schedule):
    """Keep the rate.

        factor = 1

    Prefer it for a first look, or where ``watch`` may decide when to decay.
    """

    def at(self, progress: float) -> float:  # noqa: ARG002
        """Return 1."""
        return 1.0


@technique("step", source="He et al. 2016, arXiv:1512.03385, section 3.4 (divided by 10 when the error plateaus)")
class Step(Schedule):
    """Drop the rate at equal distances.

        factor = gamma ** floor(progress / every)

    Prefer it where a published recipe uses it. every: distance between drops, as a part of the run.
    """

    every: Fraction = 0.3
    gamma: Drop = 0.1

    def at(self, progress: float) -> float:
        """Return ``gamma`` to the number of drops so far."""
        return self.gamma ** math.floor(progress / self.every + ROUNDING)


@technique("multi_step", source="He et al. 2016, arXiv:1512.03385, section 4.2 (drops at 32k and 48k of 64k steps)")
class MultiStep(Schedule):
    """Drop the rate at given points.

        factor = gamma ** (number of milestones <= progress)

    milestones: increasing, each in (0, 1), as parts of the run.
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: Drop = 0.1

    def __post_init__(self) -> None:
        ordered = all(low < high for low, high in zip((0.0, *self.milestones), (*self.milestones, 1.0), strict=True))
        if not self.milestones or not ordered:
            raise KnobError("multi_step", "milestones must be increasing numbers in (0, 1)", got=self.milestones)

    def at(self, progress: float) -> float:
        """Return ``gamma`` to the number of milestones reached."""
        return self.gamma ** sum(progress + ROUNDING >= milestone for milestone in self.milestones)


@technique("exponential", source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 11.2")
class Exponential(Schedule):
    """Lose the same share of the rate in every step.

        factor = final ** progress

    In the lecture's form ``exp(-k t)``, k is ``-log(final)`` over the run. final: factor at the end.
    """

    final: Annotated[float, Gt(0), Le(1), Search(1e-4, 0.5, log=True)] = 1e-2

    def at(self, progress: float) -> float:
        """Return ``final ** progress``."""
        return self.final**progress


@technique("inverse_time", source="Robbins & Monro 1951; Bottou 2012, Stochastic Gradient Descent Tricks, section 5.2")
class InverseTime(Schedule):
    """Let the rate fall as 1/t.

        factor = 1 / (1 + decline * progress)        at the end 1 / (1 + decline)

    The decay that convergence proofs of SGD ask for; in practice it spends most of the run at small rates.
    """

    decline: Decline = 20.0

    def at(self, progress: float) -> float:
        """Return ``1 / (1 + decline * progress)``."""
        return 1 / (1 + self.decline * progress)


@technique("inverse_sqrt", source="Vaswani et al. 2017, arXiv:1706.03762, eq. (3)")
class InverseSqrt(Schedule):
    """Let the rate fall as 1/sqrt(t).

        factor = 1 / sqrt(1 + decline * progress)        at the end 1 / sqrt(1 + decline)

    After a warm-up of the part w of a run, ``decline = (1 - w) / w`` is the paper's curve.
    """

    decline: Decline = 20.0

    def at(self, progress: float) -> float:
        """Return ``1 / sqrt(1 + decline * progress)``."""
        return 1 / math.sqrt(1 + self.decline * progress)


@technique("linear", source="Goyal et al. 2017, arXiv:1706.02677; as a decay: Defazio et al. 2023, arXiv:2310.07831")
class Linear(Schedule):
    """Fall on a straight line from 1 to ``floor``.

        factor = 1 - (1 - floor) progress

    Prefer it for short runs: of all schedules it has the best worst case (Defazio et al.).
    """

    floor: Floor = 0.0

    def at(self, progress: float) -> float:
        """Return the height of the line."""
        return 1 - (1 - self.floor) * progress


@technique("polynomial", source="Chen et al. 2018, arXiv:1606.00915, section 4.1.2 (the 'poly' policy)")
class Polynomial(Schedule):
    """Fall as a power of what is left.

        factor = floor + (1 - floor) (1 - progress) ** power

    Power 1 is ``linear``; a higher one falls sooner and ends flatter. The paper takes 0.9.
    """

    power: Annotated[float, Gt(0), Search(0.5, 4.0)] = 2.0
    floor: Floor = 0.0

    def at(self, progress: float) -> float:
        """Return the power of what is left, lifted to the floor."""
        return self.floor + (1 - self.floor) * (1 - progress) ** self.power


@technique("cosine", source="Loshchilov & Hutter 2017, arXiv:1608.03983, eq. (5), without restarts")
class Cosine(Schedule):
    """Fall along half a cosine.

        factor = floor + (1 - floor) (1 + cos(pi progress)) / 2

    The usual choice: it stays high long enough to explore and ends flat.
    """

    floor: Floor = 0.0

    def at(self, progress: float) -> float:
        """Return the half cosine, lifted to the floor."""
        return _half_cosine(1.0, self.floor, progress)


@technique("cosine_restarts", source="Loshchilov & Hutter 2017, arXiv:1608.03983, eq. (5), SGDR")
class CosineRestarts(Schedule):
    """Fall along a half cosine several times, jumping back to 1 in between.

        factor = floor + (1 - floor) (1 + cos(pi u)) / 2        u: 0 to 1 within each cycle

    Prefer it where the weights at the end of each cycle are wanted (snapshots, ensembles). n_cycles: how many; stretch: each
    cycle is this many times as long as the one before (T_mult of the paper).
    """

    n_cycles: Annotated[int, Ge(1), Search(1, 6)] = 3
    stretch: Annotated[float, Ge(1), Search(1.0, 3.0)] = 1.0
    floor: Floor = 0.0

    def at(self, progress: float) -> float:
        """Return the half cosine of the current cycle."""
        lengths = [self.stretch ** (number - self.n_cycles + 1) for number in range(self.n_cycles)]  # of the last: none overflows
        position = progress * sum(lengths)
        for length in lengths[:-1]:
            if position < length * (1 - ROUNDING):
                return _half_cosine(1.0, self.floor, position / length)
            position = max(position - length, 0.0)
        return _half_cosine(1.0, self.floor, min(position / lengths[-1], 1.0))


@technique("one_cycle", source="Smith & Topin 2018, arXiv:1708.07120; the cosine form: fastai, Howard & Gugger 2020")
class OneCycle(Schedule):
    """Rise from ``start`` to 1 until ``peak_at``, then fall to ``floor``.

        factor = start + (1 - start) (1 - cos(pi u)) / 2        u = progress / peak_at, up to the peak
        factor = floor + (1 - floor) (1 + cos(pi u)) / 2        u = (progress - peak_at) / (1 - peak_at), after it

    Prefer it with SGD and a high rate: the rise is a long warm-up. anneal: the form of both flanks.
    Differs from torch's OneCycleLR: momentum is left alone.
    """

    peak_at: Fraction = 0.3
    start: Annotated[float, Ge(0), Le(1), Search(0.01, 0.3)] = 0.04
    floor: Floor = 4e-6
    anneal: Literal["cosine", "linear"] = "cosine"

    def at(self, progress: float) -> float:
        """Return the height of the flank."""
        flank = _half_cosine if self.anneal == "cosine" else _line
        if progress < self.peak_at:
            return flank(self.start, 1.0, progress / self.peak_at)
        return flank(1.0, self.floor, (progress - self.peak_at) / (1 - self.peak_at))


@technique(
    "wsd",
    source="Hu et al. 2024, arXiv:2404.06395, section 4.2; square-root form: Haegele et al. 2024, arXiv:2405.18392, eq. (1)",
)
class WarmupStableDecay(Schedule):
    """Warm up, stay at 1, and fall to ``floor`` at the end.

        factor = 1 - (1 - floor) u        u = (progress - (1 - decay)) / decay, from where it is 0
        "sqrt": sqrt(u) for u        "cosine": (1 - cos(pi u)) / 2 for u        before it: 1, after a straight rise from start

    Prefer it where the length of the run may change: everything before the fall can be reused.

    warmup, decay: parts of the run. start: factor of the first step. form: of the fall; ``sqrt`` is 1 - sqrt.
    """

    warmup: Annotated[float, Ge(0), Lt(1), Search(0.0, 0.2)] = 0.05
    decay: Annotated[float, Gt(0), Le(1), Search(0.1, 0.5)] = 0.2
    start: Annotated[float, Ge(0), Le(1), Search(0.0, 0.2)] = 0.01
    floor: Floor = 0.0
    form: Form = "linear"

    def __post_init__(self) -> None:
        if self.warmup + self.decay > 1 + ROUNDING:
            raise KnobError("wsd", "warmup + decay must be <= 1", got=self.warmup + self.decay)

    def at(self, progress: float) -> float:
        """Return the height of the rise, the plain or the fall."""
        if progress < self.warmup:
            return _line(self.start, 1.0, progress / self.warmup)
        return fall(self.form, self.floor, max(progress - (1 - self.decay), 0.0) / self.decay)


def fall(form: Form, floor: float, progress: float) -> float:
    """Return the height, from 1 to ``floor``, of a fall of which the part ``progress`` is done; rounding may carry it past 1."""
    progress = min(progress, 1.0)
    if form == "cosine":
        return _half_cosine(1.0, floor, progress)
    return _line(1.0, floor, math.sqrt(progress) if form == "sqrt" else progress)


def _line(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2

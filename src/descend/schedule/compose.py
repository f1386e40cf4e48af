"""Warm-up and sequences: schedules made of schedules.

How parts share the run. A part says by ``share()`` which part of the whole it is made for: ``warmup(fraction=0.05)`` and
``during(cosine(), fraction=0.5)`` do, plain shapes do not. In ``then(a, b, ...)`` every part that names its share gets it; what
is left is divided equally among the others. A plain shape sees its own progress from 0 to 1 on its stretch. ``then`` and
``repeat`` are plain shapes themselves, so shares inside them are shares of their stretch. At a border the later part speaks.
A part that needs the history reads the epochs that lie wholly within its own stretch.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from descend.errors import KnobError
from descend.schedule.history import ROUNDING, Decision, History
from descend.schedule.shapes import Schedule
from descend.technique import Search, technique

Part = Annotated[float, Gt(0), Le(1), Search(0.01, 0.5)]
"""A part of the run, at most all of it."""


@technique("warmup", source="Goyal et al. 2017, arXiv:1706.02677, section 2.2")
class Warmup(Schedule):
    """Rise on a straight line from ``start`` to 1 during the first ``fraction`` of the run, then stay at 1.

        factor = min(start + (1 - start) progress / fraction, 1)

    Prefer it before any schedule with a high rate, with Adam and its kin, and with large batches. Used as
    ``then(warmup(fraction=0.05), cosine())``.
    start: factor of the very first step; 0 would waste it.
    """

    fraction: Part = 0.05
    start: Annotated[float, Ge(0), Le(1), Search(0.0, 0.2)] = 0.01

    def at(self, progress: float) -> float:
        """Return the height of the rise."""
        return min(self.start + (1 - self.start) * progress / self.fraction, 1.0)

    def share(self) -> float:
        """Return ``fraction``."""
        return self.fraction


@technique("during", source="descend: gives a plain shape a share of the run")
class During(Schedule):
    """Run ``inner`` over the first ``fraction`` of the run, then hold its last value.

        factor = inner(min(progress / fraction, 1))

    Used to give a plain shape its share: ``then(during(constant(), fraction=0.5), cosine())``.
    """

    inner: Schedule
    fraction: Part = 0.5

    def factor_at(self, progress: float, history: History | None) -> float:
        """Return the factor of ``inner`` at its own progress."""
        return self.inner.factor_at(min(progress / self.fraction, 1.0), history and history.within(0, self.fraction))

    def needs_history(self) -> bool:
        """Return whether ``inner`` does."""
        return self.inner.needs_history()

    def decisions(self, history: History) -> list[Decision]:
        """Return those of ``inner``."""
        return self.inner.decisions(history.within(0, self.fraction))

    def share(self) -> float:
        """Return ``fraction``."""
        return self.fraction


@technique("then", source="descend: concatenation, as torch.optim.lr_scheduler.SequentialLR")
class Then(Schedule):
    """Run schedules one after another; the module's text says how they share the run.

        factor = part((progress - begin) / (end - begin))        part: the one with begin <= progress < end

    Every part's factor applies to the run's learning rate, not to where the part before it ended.
    Raises KnobError unless there are two parts or more and their shares fill the run exactly.
    """

    parts: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise KnobError("then", "parts must be two schedules or more", got=len(self.parts))
        claimed = sum(part.share() or 0.0 for part in self.parts)
        if any(part.share() is None for part in self.parts):
            if claimed > 1 - ROUNDING:
                raise KnobError("then", "shares must leave room for the parts that name none, their sum must be < 1", got=claimed)
        elif abs(claimed - 1) > ROUNDING:
            raise KnobError("then", "shares must add up to 1 where every part names one", got=claimed,
                            fix="End with a plain shape such as cosine(), which takes what is left.")  # fmt: skip

    def stretches(self) -> list[tuple[float, float]]:
        """Return (begin, end) of every part, as parts of the run."""
        shares = [part.share() for part in self.parts]
        plain = (1 - sum(share or 0.0 for share in shares)) / max(shares.count(None), 1)
        ends = [0.0]
        for share in shares:
            ends.append(ends[-1] + (plain if share is None else share))
        return list(zip(ends[:-1], [*ends[1:-1], 1.0], strict=True))

    def factor_at(self, progress: float, history: History | None) -> float:
        """Return the factor of the part whose turn it is."""
        stretches = self.stretches()
        turn = sum(progress + ROUNDING >= end for _, end in stretches[:-1])
        begin, end = stretches[turn]
        passed = min(max(progress - begin, 0.0), end - begin)
        part = self.parts[turn]
        if part.share() is None:
            return part.factor_at(passed / (end - begin), history and history.within(begin, end))
        return part.factor_at(passed, history and history.within(begin, begin + 1))  # it finds its own end, by its share

    def needs_history(self) -> bool:
        """Return whether a part does."""
        return any(part.needs_history() for part in self.parts)

    def decisions(self, history: History) -> list[Decision]:
        """Return those of the parts, in order."""
        decisions: list[Decision] = []
        for part, (begin, end) in zip(self.parts, self.stretches(), strict=True):
            decisions += part.decisions(history.within(begin, end if part.share() is None else begin + 1))
        return decisions


@technique("repeat", source="Loshchilov & Hutter 2017, arXiv:1608.03983 (restarts), for any shape")
class Repeat(Schedule):
    """Run ``inner`` from its beginning ``n_cycles`` times.

        factor = inner(u),  u = n_cycles * progress - cycle        cycle: whole number, so that u is in [0, 1)

    As in ``repeat(then(warmup(fraction=0.2), linear()), n_cycles=4)``.
    """

    inner: Schedule
    n_cycles: Annotated[int, Ge(1), Search(1, 8)] = 2

    def factor_at(self, progress: float, history: History | None) -> float:
        """Return the factor of ``inner`` at its own progress in the current cycle."""
        position = progress * self.n_cycles
        cycle = min(int(position + ROUNDING), self.n_cycles - 1)
        return self.inner.factor_at(min(max(position - cycle, 0.0), 1.0), history and self._cycle(history, cycle))

    def needs_history(self) -> bool:
        """Return whether ``inner`` does."""
        return self.inner.needs_history()

    def decisions(self, history: History) -> list[Decision]:
        """Return those of ``inner`` in every cycle."""
        return [one for cycle in range(self.n_cycles) for one in self.inner.decisions(self._cycle(history, cycle))]

    def _cycle(self, history: History, cycle: int) -> History:
        return history.within(cycle / self.n_cycles, (cycle + 1) / self.n_cycles)


@technique("per_epoch", source="descend: torch's schedulers stepped once per epoch, for any shape")
class PerEpoch(Schedule):
    """Hold the factor of ``inner`` within each epoch: it changes only where an epoch begins.

        factor = inner(progress where the epoch began)

    Prefer the plain shape, which changes at every step; this is for recipes that were published so. It needs the history,
    because only that knows how many epochs there are.
    """

    inner: Schedule

    def factor_at(self, progress: float, history: History | None) -> float:
        """Return the factor of ``inner`` at the start of the epoch."""
        history = self.required(history)
        return self.inner.factor_at(history.epoch_start(progress), history)

    def needs_history(self) -> bool:
        """Return True: it must know the epochs."""
        return True

    def decisions(self, history: History) -> list[Decision]:
        """Return those of ``inner``."""
        return self.inner.decisions(history)

    def share(self) -> float | None:
        """Return that of ``inner``."""
        return self.inner.share()

"""Does a transform change what a picture means? The counts behind the answer, for one transform at several strengths.

A network that was trained on the pictures as they are answers 9 for a 6 that stands on its head, and a network that is merely
thrown by a transform answers anything. Both show as *flips*: pictures answered right as they are and wrong when transformed.
Counting needs a network, so the package ``train`` does it; what is counted, at which strengths, and what follows from it stands
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from annotated_types import Le

from descend.augment.composition import Composition
from descend.augment.transform import Augmentation
from descend.errors import KnobError
from descend.stats import Interval, proportion
from descend.technique import Knob, knobs

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the strength that the transform names


def each_part(transforms: Sequence[Augmentation]) -> tuple[Augmentation, ...]:
    """Return transforms with the parts of compositions in their place, each of which is to be looked at by itself.

    Drawn for one picture in three, a part that flips every answer looks like one that flips a third, and its strength is its own.
    """
    return tuple(
        part for item in transforms for part in (each_part(item.transforms) if isinstance(item, Composition) else (item,))
    )


def strengths(transform: Augmentation) -> tuple[Augmentation, ...]:
    """Return the transform at rising strengths, always done (``p`` is 1): a quarter to four times what its knobs say.

    Scaled are the knobs whose search range begins at 0, where nothing happens, and intervals around 1 of geometry and tone, on
    their logarithm. A transform without such knobs, as ``flip`` and ``randaugment``, has one strength. Strengths beyond the legal
    interval end at its border, or are left out where it has none. transform: a single one; see ``each_part``.
    """
    given = {knob.name: getattr(transform, knob.name) for knob in knobs(type(transform))}
    sure = given | {name: 1.0 for name in given if name == "p"}
    scaled = [knob for knob in knobs(type(transform)) if _is_strength(knob, transform)]
    rungs = [_legal(type(transform), sure | {k.name: _times(sure[k.name], f, k) for k in scaled}) for f in FACTORS if scaled]
    return tuple(dict.fromkeys(rung for rung in rungs if rung is not None)) or (type(transform)(**sure),)


def _legal(kind: type[Augmentation], settings: dict[str, Any]) -> Augmentation | None:
    try:
        return kind(**settings)
    except KnobError:  # an open interval, or one whose ends are checked by the transform itself
        return None


def _is_strength(knob: Knob, transform: Augmentation) -> bool:
    value = getattr(transform, knob.name)
    if isinstance(value, tuple):
        around_one = len(value) == 2 and all(isinstance(end, float) for end in value) and value[0] <= 1 <= value[1]
        return around_one and value[0] < value[1] and bool(transform.stages & {"geometry", "tone"})
    return knob.name != "p" and knob.search is not None and knob.search.low == 0 and value > 0


def _times(value: Any, factor: float, knob: Knob) -> Any:
    if isinstance(value, tuple):
        return tuple(float(f"{end**factor:.2g}") for end in value)
    tops: list[Any] = [bound.le for bound in knob.bounds if isinstance(bound, Le)]
    if isinstance(value, int):
        return min(max(1, round(value * factor)), *tops) if tops else max(1, round(value * factor))
    return float(f"{min([value * factor, *tops]):.3g}")


@dataclass(frozen=True)
class Flips:
    """How many of ``n`` pictures of a class, all answered right as they are, were answered otherwise when transformed.

    to: the commonest of the other answers, with its count ``n_to``; None where there was no flip. A class that becomes mostly one
    other class has probably changed its meaning; answers all over the place point to a network that is merely confused.
    """

    label: str
    k: int
    n: int
    to: str | None
    n_to: int

    def share(self, level: float = 0.95) -> Interval:
        """Return the share of flips with Wilson's interval."""
        return proportion(self.k, self.n, level)


@dataclass(frozen=True)
class Trial:
    """One strength: the transform as it was applied, and the flips of every class that had a picture answered right."""

    transform: Augmentation
    classes: tuple[Flips, ...]

    @property
    def overall(self) -> Interval:
        """The share of flips among all pictures."""
        return proportion(sum(flips.k for flips in self.classes), sum(flips.n for flips in self.classes))

    @property
    def worst(self) -> Flips:
        """The class with the largest share of flips."""
        return max(self.classes, key=lambda flips: (flips.k / flips.n, flips.n))

    def unsafe(self, tolerance: float) -> tuple[Flips, ...]:
        """Return the classes whose share of flips surely lies above ``tolerance``, the worst first.

        Surely: the whole interval does, at 95% for all classes together (Bonferroni), so that many classes raise no false alarm.
        """
        level = 1 - 0.05 / len(self.classes)
        harmed = [flips for flips in self.classes if flips.share(level).low > tolerance]
        return tuple(sorted(harmed, key=lambda flips: -flips.k / flips.n))


@dataclass(frozen=True)
class Safety:
    """One transform as it was given, its trials from weak to strong, and the strength up to which no class is surely harmed."""

    transform: Augmentation
    trials: tuple[Trial, ...]
    tolerance: float

    @property
    def limit(self) -> Augmentation | None:
        """The strongest trial with nothing unsafe at it or below, with the ``p`` that the transform was given.

        None if the weakest is unsafe already.
        """
        safe = list(takewhile(lambda trial: not trial.unsafe(self.tolerance), self.trials))
        if not safe:
            return None
        kind = type(self.transform)
        return kind(**{k.name: getattr(self.transform if k.name == "p" else safe[-1].transform, k.name) for k in knobs(kind)})

    def advice(self) -> str:
        """Return in one sentence what to do: keep it, lessen it to a limit, or leave it out, and which class says so."""
        if self.limit is None:
            return f"leave {self.transform.name} out: {self._culprit(self.trials[0])}"
        broken = next((trial for trial in self.trials if trial.unsafe(self.tolerance)), None)
        if broken is None:
            return f"{self.limit} is safe as far as these pictures can tell" + (", the strongest tried" if self._many else "")
        return f"at most {self.limit}: with {broken.transform} {self._culprit(broken)}"

    @property
    def _many(self) -> bool:
        return len(self.trials) > 1

    def _culprit(self, trial: Trial) -> str:
        flips = trial.unsafe(self.tolerance)[0]
        share = flips.share()
        return (
            f"{flips.label!r} flips in {share.mean:.0%} [{share.low:.0%}, {share.high:.0%}] of its pictures, "
            f"{flips.n_to} of {flips.k} times to {flips.to!r}"
        )

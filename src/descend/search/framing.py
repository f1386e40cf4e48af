"""How a picture becomes the square that the network sees: measured on a part of the pictures, where nobody has said it.

Photographers frame their subject, so of photographs the middle is enough, and a margin left out shows the subject larger.
Drawings and scans fill their pictures to the border. Shapes do not tell the two apart; a head on frozen features does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from descend.data import Dataset, decode_resized
from descend.data.pool import in_order, n_threads
from descend.errors import PictureError
from descend.models import Backbone, Classifier
from descend.pixels import Fit
from descend.progress import Progress
from descend.search.begin import EXPORT_S, Speeds
from descend.search.clock import Clock, OutOfTime
from descend.search.features import set_s
from descend.search.study import FIT_PACE, nested
from descend.train import prepare
from descend.train.failure import in_words
from descend.train.initial_run import TAKEN
from descend.train.modes.auto import Auto
from descend.train.plan import Plan
from descend.train.record_types import Preprocessing
from descend.transfer import Searched, Trial, axes_of, offered

SHARE, MOST_SHARE = 0.05, 0.15  # of the time left, that comparing two ways is planned to take, and that all may take
MOST, FEWEST = 600, 100  # training pictures that they are compared on
ENOUGH = 200  # of more, that they are compared on at least: a difference on fewer is seldom clear
PER_CLASS = 4  # pictures at least, in the mean: of fewer a head learns too little to tell
SEEN_WHOLE = 0.05  # of the area, that a center crop must lose before other shapes are tried
N_FOLDS = 5
_AT_ONCE = 64  # pictures that are held as pixels


@dataclass(frozen=True)
class Framing:
    """A way to make a picture square. crop_pct: the share of the center square's side that is looked at, 1 but for ``crop``."""

    fit: Fit
    crop_pct: float

    def __str__(self) -> str:
        """Return it in words."""
        return f"crop of {self.crop_pct:.0%}" if self.fit == "crop" else self.fit


def stored_side(plan: Plan, network: Classifier, before: Preprocessing | None = None) -> int:
    """Return the side of stored pictures, as even as a view: the mirror image of its center is the center of the mirror image.

    before: of the run that goes on.
    """
    side = prepare.stored_side(plan, Auto(), network, before)
    return side - (side - plan.size) % 2


def framings(dataset: Dataset, plan: Plan, own: float) -> list[list[Framing]]:
    """Return the ways that are open, by whether they cut, the plan's own first of all: that alone where somebody has said it.

    own: ``crop_pct`` of the network.
    """
    usual = Framing(plan.fit, (plan.crop_pct or own) if plan.fit == "crop" else 1.0)
    reason = plan.reasons.get("fit")
    if plan.crop_pct is not None or reason == TAKEN or (reason is None and plan.fit != "crop"):
        return [[usual]]
    cropped = list(dict.fromkeys([Framing("crop", own), Framing("crop", 1.0)]))
    if reason is None or dataset.crop_loss.area <= SEEN_WHOLE:
        return [cropped]
    whole = [Framing("squash", 1.0), Framing("pad", 1.0)]
    return [cropped, whole] if plan.fit == "crop" else [whole, cropped]


def measured(
    dataset: Dataset, plan: Plan, network: Classifier, speeds: Speeds, clock: Clock, progress: Progress
) -> Plan:  # fmt: skip
    """Return the plan with the way decided, where there is time to measure it, and say what was found.

    The plan's own stays where its held-out loss is not clearly above another's. All are judged on the same pictures and folds, by
    the features that heads are offered first. network: its backbone with the first view set.
    """
    backbone, n_classes = network.backbone, len(dataset.classes)
    ways = framings(dataset, plan, backbone.crop_fraction)
    rows = nested(dataset, "train", plan.seed)
    rows = rows[: _n_affordable(len(rows), n_classes, backbone, speeds, clock)]
    if sum(map(len, ways)) < 2 or len(np.unique(dataset.evidence(rows))) < max(FEWEST, PER_CLASS * n_classes):
        return plan
    progress.say(f"  comparing ways to make pictures square, on {len(rows):,} of them ...")
    compared = _Comparison(dataset, plan, network, rows, speeds, clock, (1 - MOST_SHARE) * clock.left(), progress)
    try:
        trials = compared.trials(ways)
    except Exception as error:  # the plan is complete without
        progress.say(f"    it failed and is dropped: {str(in_words(error, plan)).partition(chr(10))[0]}")
        return plan
    if len(trials) < 2:
        progress.say("    too few could be compared in its time: dropped")
        return plan
    (first, usual), *_ = trials.items()
    better = {way: trial for way, trial in trials.items() if usual.clearly_worse(trial)}
    best = min(better, key=lambda way: better[way].loss, default=first)
    losses = ", ".join(f"{way} {trial.loss:.3f}" for way, trial in trials.items())
    why = f"held-out loss on {usual.n:,} pictures: {losses}"
    plan = plan.decided("fit", best.fit, why) if "fit" in plan.reasons else plan
    plan = plan.decided("crop_pct", best.crop_pct, f"measured with fit, as {best}") if best.fit == "crop" else plan
    progress.say(f"  {'fit':<10} {best}  ({why})")
    return plan


def _n_affordable(n_train: int, n_classes: int, backbone: Backbone, speeds: Speeds, clock: Clock) -> int:
    """Return how many pictures two ways may be compared on in ``SHARE`` of the time left; 0 where those would tell little."""
    room, n = SHARE * clock.left() - EXPORT_S * (not speeds.engine.started), min(n_train, MOST)
    least = min(n, ENOUGH)
    while n >= least and 2 * (speeds.first_s(n) + set_s(backbone, n, n_classes, FIT_PACE)) > room:
        n = int(0.9 * n)
    return n if n >= least else 0


@dataclass(frozen=True)
class _Comparison:
    """What all ways are compared by. rows: of the pictures. latest: seconds that must be left, or the comparison ends."""

    dataset: Dataset
    plan: Plan
    network: Classifier
    rows: NDArray[np.int64]
    speeds: Speeds
    clock: Clock
    latest: float
    progress: Progress

    def trials(self, ways: Iterable[Iterable[Framing]]) -> dict[Framing, Trial]:
        """Return how a head is judged in each way, the first of all at the beginning, as far as time reaches.

        Of ways that are alike the later one is tried unless the one before was clearly worse than the best so far.
        """
        trials = dict[Framing, Trial]()
        for alike in ways:
            for way in alike:
                best = min(trials.values(), key=lambda trial: trial.loss, default=None)
                began = self.clock.left()
                try:
                    trial = self._trial(way, around=best and best.strength)
                except OutOfTime:
                    return trials
                if trial is None or (best is not None and trial.n != best.n):  # a picture was readable in one way alone
                    return trials
                trials[way] = trial
                if 2 * self.clock.left() - began < self.latest:  # as long a time again
                    return trials
                if best is not None and trial.clearly_worse(best):
                    break
        return trials

    def _check(self) -> None:
        if self.clock.left() < self.latest:
            raise OutOfTime

    def _trial(self, way: Framing, *, around: float | None) -> Trial | None:
        """Return how a head on the features of the pictures is judged by folds; None where that tells nothing.

        around: a strength that did well in another way.
        """
        n_classes = len(self.dataset.classes)
        width = self.network.backbone.n_columns(next(iter(offered(self.network.backbone, len(self.rows)).values())))
        parts, kept = list[NDArray[np.float32]](), list[NDArray[np.int64]]()
        for pictures, readable in self._squares(way):
            if len(readable):
                parts.append(self.speeds.engine(pictures)[:, -width:].copy())  # not a view of all
                kept.append(readable)
        read = np.concatenate([*kept, self.rows[:0]])
        if len(np.unique(self.dataset.labels[read])) < 2:
            return None
        (axes,) = axes_of([np.concatenate(parts)[:, None]], n_classes=n_classes, n_folds=[N_FOLDS])
        return Searched.of(
            axes, self.dataset.labels[read], n_classes, units=self.dataset.evidence(read), around=around, n_folds=N_FOLDS,
            seed=self.plan.seed, check=self._check,
        ).best  # fmt: skip

    def _squares(self, way: Framing) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Yield pictures as the network would see them, (n, S, S, 3), and their rows; unreadable ones are left out."""
        data, size = self.dataset.fitted(way.fit), self.plan.size
        side = stored_side(replace(self.plan, fit=way.fit, crop_pct=way.crop_pct), self.network)
        seen = slice((side - size) // 2, (side + size) // 2)

        def square(row: int) -> NDArray[np.uint8] | None:
            try:
                return decode_resized(data.source(row), side, name=data.name_of(row), policy=data.policy)[seen, seen]
            except PictureError:  # named when everything is decoded
                return None

        at_once = int(min(max(self.speeds.decoded, 8), _AT_ONCE))  # so that the clock is read every second
        for at in range(0, len(self.rows), at_once):
            self._check()
            self.progress.update(f"as {way}", at, len(self.rows))
            part = self.rows[at : at + at_once]
            found = [*in_order(square, map(int, part), n_threads(self.plan.threads))]
            pictures = [picture for picture in found if picture is not None]
            readable = part[[picture is not None for picture in found]]
            yield np.stack(pictures) if pictures else np.empty(0, np.uint8), readable
        self.progress.update(f"as {way}", len(self.rows), len(self.rows))

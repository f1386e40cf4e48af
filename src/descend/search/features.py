"""The step that fits a head to cached features; cross-validation on training pictures decides which stages and which views."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from descend.errors import KnobError
from descend.models import Backbone, Classifier
from descend.search.clock import OutOfTime
from descend.search.steps import FeatureStep
from descend.search.study import Answer, Crops, Study, TriedHead
from descend.transfer import (
    AROUND,
    Axes,
    Engine,
    Logistic,
    LogisticFit,
    Searched,
    Trial,
    are_tiny,
    axes_cost,
    axes_of,
    fit_logistic,
    folds_cost,
    n_searched,
    offered,
)

FEW, REPEATS = 300, 3
"""Training pictures, below which the folds are drawn so often: one draw of five folds would decide by chance."""
MANY, FITTED_OF_MANY = 1000, 2
"""Training pictures, from which three folds do, and how many of those are fitted: two threads share two evenly. On 1,444 pictures
of hands the held-out loss of three was 0.070 where five had 0.068; two chose a head in 4.7 s where three took 5.6, and
searched two sets of features of 1,721 pictures of 81 classes in the 12.5 s in which three had searched one."""
FEWEST_CROPS, MOST_CROPS, ROWS = 4, 16, 1500
"""Crops per picture, and rows of them that a head is fitted to. On 5 pictures per class of hands, 4, 8 and 16 crops took plain
views from 59 to 71, 72 and 74%, on 10 per class 16 from 79 to 81%; with 50 per class 6 crops lost a point, in minutes."""
FOLD, TINY_FOLD = 250_000, 50_000
"""What a fold costs however few its pictures are, in pictures times axes: 0.05 s where those take 2e-7 s each, and 0.01 s where
all are solved as one."""
QUICK_S = 0.5  # that a fit takes however few the pictures are
UNTRIED = 0.1
"""The strength of a head that nothing was tried for. In 96 px, with late stages: 87.6% of ants and bees, 91.5% of hands, 76.4% of
blurred flowers; with 0.01 and the last stage alone 85.0, 87.1 and 71.0%."""
QUICK_SHARE = 0.12  # of the budget, that one fit may take where another set of features needs less


def fitted(study: Study, step: FeatureStep, *, told: Callable[[FeatureStep], None]) -> Answer:
    """Return the answer of a head on features of a view: with mirror images, crops to learn from, late stages, where they help.

    Every choice here is made by cross-validation on training pictures, so validation stays untouched. Raises OutOfTime where the
    study's watch says so, also in the middle of a fit. told: called with the step that was taken where time ran out after a part
    of it that is a step by itself.
    """
    engine = study.frozen_engine(step.size)
    rows = study.rows("train", step.share)
    crops = Crops(step.crops, flipped=step.mirrored) if step.crops else None
    features = study.features(engine, rows, mirrored=step.mirrored, crops=crops)
    backbone = study.backbone(step.size)
    if step.quick:
        sets = backbone.feature_sets
        if step.stages not in sets:
            raise KnobError("stages", f"must be one of {', '.join(sets)} for this backbone", got=step.stages)
        backbone.tap(sets[step.stages])
        columns = features[:, :, -backbone.n_features :]
        labels, check = study.dataset.labels[rows], study.watch.check
        fit = fit_logistic(columns, labels, study.n_classes, strength=step.strength, check=check)
        return _answer(step, engine, backbone, fit, None, FeatureStep(size=step.size), why="")
    choice = _Choice(study, step, features, rows)
    best, look, why = choice.made(told)
    backbone.tap(choice.sets[best.stages])
    answer = _answer(step, engine, backbone, choice.fit(best, look), best.best, look, why=why)
    study.strengths.update(choice.strengths())
    return answer


class _Choice:
    """The choice of a step's head by cross-validation: first among sets of features, then of further views.

    features: of the plain view, of the mirror image where the step offers it, then of its crops.
    """

    def __init__(self, study: Study, step: FeatureStep, features: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        self.study, self.step, self.features, self.rows = study, step, features, rows
        self.backbone = study.backbone(step.size)
        self.sets = study.offered(len(rows))
        self.axes: dict[str, Axes] = {}  # of the sets that are about to be tried
        repeated = _may_repeat(study, len(rows))
        self.n_folds, self.n_repeats = _folds(len(rows), repeated=repeated)
        self.n_fitted = _n_fitted(len(rows), study.n_classes, repeated=repeated)
        self.n_tried = 0

    def made(self, told: Callable[[FeatureStep], None]) -> tuple[TriedHead, FeatureStep, str]:
        """Return the best head, the look that it has, and why: the step with what did not help left out."""
        study, step, words = self.study, self.step, list[str]()
        started, names = time.perf_counter(), list(self.sets)[: step.n_sets]
        n_offered = len(names)
        look = taken = replace(step, mirrored=False, crops=0)
        best: TriedHead | None = None
        try:
            with study.watch.keeping(last_fit_s(study, step)):
                while len(names) > 1 and self._rotated_first(names[-1]) and self._plain_s(len(names)) > study.watch.spare():
                    names.pop()
                expected = fit_s(study, step if len(names) == n_offered else replace(step, n_sets=len(names)))
                self._rotate(look, names)
                for n, name in enumerate(names, 1):
                    best = self._better(best, self._tried(look, name, best.strength if best else study.strengths.get(name)))
                    taken = replace(look, n_sets=step.n_sets if n == n_offered else n)
                assert best is not None  # a network has features
                for name, setting in (("mirror images", "mirrored"), ("crops", "crops")):
                    if getattr(step, setting):
                        richer = replace(look, **{setting: getattr(step, setting)})
                        self._rotate(richer, [best.stages])
                        other = self._tried(richer, best.stages, best.strength)
                        used = other.loss < best.loss or (setting == "crops" and not _clearly_worse(other, best))
                        words.append(_said(name, best, other, used=used))
                        (best, look), lost = ((other, richer), best) if used else ((best, look), other)
                        lost.searched = None
                        taken = replace(taken, **{setting: getattr(step, setting)})
            study.note_fit(time.perf_counter() - started, expected)
            if len(names) < n_offered:
                told(taken)
        except OutOfTime:
            if best is None or not self.n_tried:
                raise
            told(taken)
        return best, look, "; ".join(words)

    def fit(self, best: TriedHead, look: FeatureStep) -> LogisticFit:
        """Return a head that was tried, fitted to all pictures; once, however often it is chosen."""
        if best.fitted is None:
            searched = best.searched
            if searched is None:  # it had lost: a recipe that somebody wrote may ask for less than what beat it
                n_classes, features = self.study.n_classes, self._read(look, best.stages)
                (axes,) = axes_of([features], n_classes=n_classes, n_folds=[0])
                labels, check = self.study.dataset.labels[self.rows], self.study.watch.check
                searched = Searched.of(axes, labels, n_classes, strength=best.strength, check=check)
            best.fitted, best.searched = searched.fit(), None
        return best.fitted

    def strengths(self) -> dict[str, float]:
        """Return the strength that cross-validation found for each set of plain features that was tried."""
        plain = replace(self.step, mirrored=False, crops=0, n_sets=None)
        tried = {name: self.study.tried.get((plain, name, False)) for name in self.sets}
        return {name: head.strength for name, head in tried.items() if head is not None and head.best is not None}

    def _read(self, look: FeatureStep, name: str) -> NDArray[np.float32]:
        """Return one set of the features of a look: (n, V, D)."""
        n_asked, n_views = 1 + look.mirrored, self.features.shape[1]
        views = [*range(n_asked), *range(1 + self.step.mirrored, n_views)] if look.crops else [*range(n_asked)]
        return self.features[:, views, -self.backbone.n_columns(self.sets[name]) :]

    def _rotated_first(self, name: str) -> bool:
        """Return whether a set of plain features is rotated, which nothing can stop, and before any set is tried."""
        n, n_columns = len(self.rows), self.backbone.n_columns(self.sets[name])
        return axes_cost(n, n_columns, self.study.n_classes, self._folds_worth(name)).rotated

    def _folds_worth(self, name: str) -> float:
        """Return how many whole searches of a fold searching a set amounts to."""
        return _folds_worth(self.study, name, next(iter(self.sets)), self.n_fitted)

    def _plain_s(self, n_sets: int) -> float:
        """Return the seconds that trying the first sets of plain features is expected to take."""
        return fit_s(self.study, replace(self.step, mirrored=False, crops=0, n_sets=n_sets))

    def _rotate(self, look: FeatureStep, names: Sequence[str]) -> None:
        """Standardize and rotate the sets of features of a look that have not been tried."""
        new = [name for name in names if self._key(look, name) not in self.study.tried]
        if new:
            sets = [self._read(look, name) for name in new]
            n_folds = [self._folds_worth(name) for name in new]
            found = axes_of(sets, n_classes=self.study.n_classes, n_folds=n_folds)
            self.axes = dict(zip(new, found, strict=True))

    def _key(self, look: FeatureStep, name: str) -> tuple[FeatureStep, str, bool]:
        """Return what tells a head that was tried from others: crops are flipped where the step offers mirror images."""
        return replace(look, n_sets=None), name, look.crops > 0 and self.step.mirrored

    def _tried(self, look: FeatureStep, name: str, around: float | None) -> TriedHead:
        """Return the head on one set of features of a look. around: a strength that did well on similar features."""
        study, key = self.study, self._key(look, name)
        if key not in study.tried:
            searched = Searched.of(
                self.axes.pop(name), study.dataset.labels[self.rows], study.n_classes, units=study.dataset.evidence(self.rows),
                around=around, n_folds=self.n_folds, n_repeats=self.n_repeats, n_fitted=self.n_fitted,
                n_judged=1 + look.mirrored, seed=study.plan.seed, check=study.watch.check, told=partial(self._noted, name),
            )  # fmt: skip
            study.tried[key] = TriedHead(name, searched.best, searched.strength, searched)
            self.n_tried += 1
        return study.tried[key]

    def _noted(self, name: str, trial: Trial) -> None:
        best, key = self.study.best_trials, (self.step.size, name)
        if key not in best or trial.loss < best[key].loss:
            best[key] = trial

    @staticmethod
    def _better(best: TriedHead | None, other: TriedHead) -> TriedHead:
        """Return the one with the lower loss, the first of equals; the other will not be fitted."""
        if best is None:
            return other
        best, lost = (other, best) if other.loss < best.loss else (best, other)
        lost.searched = None
        return best


def _said(name: str, best: TriedHead, other: TriedHead, *, used: bool) -> str:
    verb = "used" if used else "not used"
    return f"{name} {verb}: held-out loss {best.loss:.3f} without, {other.loss:.3f} with"


def tried_like(study: Study, step: FeatureStep, like: TriedHead) -> TriedHead:
    """Return the head on the features of a step, of the set and around the strength of another, judged on the same folds."""
    rows = study.rows("train", step.share)
    choice = _Choice(study, step, study.features(study.frozen_engine(step.size), rows, mirrored=False), rows)
    choice._rotate(step, [like.stages])
    return choice._tried(step, like.stages, like.strength)


def like_the_best(study: Study, step: FeatureStep) -> FeatureStep:
    """Return a quick step that fits the head which did best in cross-validation so far, at its size, on whatever pictures.

    Sets of features whose fit would take more than ``QUICK_SHARE`` of the budget are passed over, and those whose network is too
    large to be shipped. Where none was tried, late stages with ``UNTRIED`` as the strength.
    """
    by_size = [(trial.loss, stages, trial.strength) for (size, stages), trial in study.best_trials.items() if size == step.size]
    n = len(study.rows("train", step.share))

    def affordable(stages: str) -> bool:
        taps = study.pretrained.feature_sets[stages]
        fit_s = quick_fit_s(study.pretrained, n, study.n_classes, study.fit_pace, taps=taps)
        return study.is_small(taps) and fit_s <= QUICK_SHARE * study.clock.budget_s

    tried = [item for item in by_size if affordable(item[1])]
    if tried:
        _, stages, strength = min(tried)
        return replace(step, stages=stages, strength=strength)
    late = "late" in study.pretrained.feature_sets and affordable("late")
    return replace(step, stages="late" if late else "last", strength=UNTRIED)


def _clearly_worse(cropped: TriedHead, plain: TriedHead) -> bool:
    """Return whether a head that learned from crops too is worse by more than chance explains.

    The doubt is theirs: a held-out loss of 85 pictures has a standard error of 0.05, and on test pictures crops lowered the loss
    of all six heads on 17 to 85 pictures (hands 1.29 to 0.83, flowers 2.79 to 1.28, ants and bees 0.43 to 0.22, enlarged digits
    0.86 to 0.47), also where cross-validation said 0.57 to 0.61.
    """
    if cropped.best is None or plain.best is None:
        return plain.best is not None
    return cropped.best.clearly_worse(plain.best)


def _answer(
    step: FeatureStep, engine: Engine, backbone: Backbone, fit: LogisticFit, trial: Trial | None, look: FeatureStep, *, why: str
) -> Answer:  # fmt: skip
    """Return the answer of a head. trial: that chose it. look: what of the step's views it learned from."""
    classifier = Classifier(backbone, Logistic.filled(fit.weight, fit.bias)).eval()
    crops = Crops(look.crops, flipped=step.mirrored) if look.crops else None
    return Answer(
        classifier, engine, step.size, look.mirrored, step.share, frozen=True, trial=trial, strength=fit.strength,
        crops=crops, why=why,
    )  # fmt: skip


def refitted(study: Study, answer: Answer) -> Answer:
    """Return a head's answer fitted once more, to training and validation pictures together, with everything as it was chosen."""
    rows = study.training_rows(with_val=True)
    n_columns = answer.classifier.backbone.n_features
    features = study.features(answer.engine, rows, mirrored=answer.mirrored, crops=answer.crops)[:, :, -n_columns:]
    fit = fit_logistic(features, study.dataset.labels[rows], study.n_classes, strength=answer.strength)
    classifier = Classifier(answer.classifier.backbone, Logistic.filled(fit.weight, fit.bias)).eval()
    return replace(answer, classifier=classifier)


def refit_s(study: Study, head: Answer) -> float:
    """Return the seconds that ``refitted`` is expected to take, with the crops of validation pictures."""
    n_crops = head.crops.n if head.crops else 0
    n, taps = len(study.training_rows(with_val=True)) * (1 + head.mirrored + n_crops), head.classifier.backbone.taps
    cropped_s = len(study.rows("val")) * n_crops / study.rate(head.view, engine=head.engine.name)
    found_s = axes_s(study.pretrained, n, study.n_classes, 0, study.fit_pace, taps=taps)
    return QUICK_S + cropped_s + found_s + 2 * fold_s(study.pretrained, n, study.n_classes, study.fit_pace)


def whole_heads(answers: Iterable[Answer]) -> list[Answer]:
    """Return the heads among answers that learned from all training pictures: those that may be fitted once more."""
    return [answer for answer in answers if answer.frozen and answer.share == 1.0]


def refitted_anyway(study: Study) -> bool:
    """Return whether heads will be fitted once more, with validation pictures, whatever the clock says: few take a second."""
    return not study.dataset.given_val and len(study.rows("train")) < MANY


def crops_for(n: int) -> int:
    """Return how many crops of each of n training pictures are offered: the fewer pictures the more, 0 where they are many."""
    return 0 if n >= FEW else min(MOST_CROPS, max(FEWEST_CROPS, ROWS // n))


def _folds(n: int, *, repeated: bool = False) -> tuple[int, int]:
    """Return how many folds n training pictures are cut into, and how often where that may be repeated."""
    return (3, 1) if n >= MANY else (5, REPEATS if repeated and n < FEW else 1)


def _n_fitted(n: int, n_classes: int, *, repeated: bool = False) -> int:
    """Return how many folds of n training pictures are fitted for each strength."""
    n_folds, n_repeats = _folds(n, repeated=repeated)
    n_fitted = n_searched(n, n_classes, n_folds * n_repeats)
    return min(n_fitted, FITTED_OF_MANY) if n >= MANY else n_fitted


def _folds_worth(study: Study, name: str, first: str, n_folds: int) -> float:
    """Return how many whole searches of a fold a set amounts to: all but the first of all begin at a strength that did well."""
    return n_folds if name == first and name not in study.strengths else AROUND * n_folds


def _may_repeat(study: Study, n: int) -> bool:
    """Return whether n pictures are all that there are: the answer of a part will be replaced, or has little time."""
    return n == len(study.rows("train")) and not study.is_part


def fit_s(study: Study, step: FeatureStep) -> float:
    """Return the seconds that fitting the head is expected to take at the last pace.

    Later sets of features, mirrored ones and those with crops are searched around the best strength of the first.
    """
    n, pretrained, n_classes, pace = len(study.rows("train", step.share)), study.pretrained, study.n_classes, study.fit_pace
    if step.quick:
        return quick_fit_s(pretrained, n, n_classes, pace, taps=pretrained.feature_sets.get(step.stages, ()))
    n_folds = _n_fitted(n, n_classes, repeated=_may_repeat(study, n))
    plain, names = replace(step, mirrored=False, crops=0, n_sets=None), list(study.offered(n))[: step.n_sets]
    new = [name for name in names if (plain, name, False) not in study.tried]
    n_views = [1] * len(new)
    columns = {name: pretrained.n_columns(pretrained.feature_sets[name]) for name in new}
    costs = [axes_cost(n, wide, n_classes, _folds_worth(study, name, names[0], n_folds)) for name, wide in columns.items()]
    rotated = max((cost.cost for cost in costs if cost.rotated), default=0.0)  # they are found beside each other
    found_s = pace * (rotated + sum(cost.cost for cost in costs if not cost.rotated))
    if step.mirrored and not any((replace(plain, mirrored=True), name, False) in study.tried for name in names):
        n_views.append(2)
    if step.crops:
        n_views.append(1 + step.mirrored + step.crops)
    found_s += sum(axes_s(pretrained, n * views, n_classes, AROUND * n_folds, pace) for views in n_views[len(new) :])
    searched_s = sum(fold_s(pretrained, n * views, n_classes, pace) for views in n_views) * n_folds
    if names[0] in new:
        searched_s -= (n_folds - _folds_worth(study, names[0], names[0], n_folds)) * fold_s(pretrained, n, n_classes, pace)
    return found_s + searched_s


def last_fit_s(study: Study, step: FeatureStep) -> float:
    """Return the seconds that fitting the head that was chosen to all pictures and views is expected to take."""
    n = len(study.rows("train", step.share)) * (1 + step.mirrored + step.crops)
    return quick_fit_s(study.pretrained, n, study.n_classes, study.fit_pace)


def set_s(pretrained: Backbone, n: int, n_classes: int, pace: float) -> float:
    """Return the seconds that trying the first set of features of n pictures takes, with folds that are drawn once."""
    taps = next(iter(offered(pretrained, n).values()))
    n_folds = _n_fitted(n, n_classes)
    return axes_s(pretrained, n, n_classes, n_folds, pace, taps=taps) + n_folds * fold_s(pretrained, n, n_classes, pace)


def axes_s(
    pretrained: Backbone, n: int, n_classes: int, n_folds: float, pace: float, *, taps: Iterable[str] = ()
) -> float:  # fmt: skip
    """Return the seconds that the principal axes of n pictures or views take, or doing without; the rest as of ``fold_s``."""
    return pace * axes_cost(n, pretrained.n_columns(taps), n_classes, n_folds).cost


def fold_s(pretrained: Backbone, n: int, n_classes: int, pace: float, *, taps: Iterable[str] = ()) -> float:
    """Return the seconds that searching the strength takes per fold of n pictures or views, by the numbers that are passed over.

    pace: seconds per picture and axis, of ten classes. taps: of the features; those of the last stage without.
    """
    n_axes = min(n, pretrained.n_columns(taps))
    at_least = TINY_FOLD if are_tiny(n, n_axes, n_classes) else FOLD
    return pace * (folds_cost(n, n_axes, n_classes, 1) + at_least)


def quick_fit_s(pretrained: Backbone, n: int, n_classes: int, pace: float, *, taps: Iterable[str] = ()) -> float:
    """Return the seconds that one fit takes, with the usual strength: about half of the search of a fold."""
    found_s = axes_s(pretrained, n, n_classes, 0, pace, taps=taps)
    return QUICK_S + found_s + 0.5 * fold_s(pretrained, n, n_classes, pace, taps=taps)


def n_views_needed(study: Study, step: FeatureStep, *, done: FeatureStep | None) -> int:
    """Return how many views the step computes for train and val. done: a step of the same size whose views lie in the cache."""
    n_train = len(study.rows("train", step.share))
    n, n_cropped = n_train + len(study.rows("val", step.share)), n_train * step.crops
    if done is None:
        return n * (1 + step.mirrored) + n_cropped
    known = len(study.rows("train", done.share)) + len(study.rows("val", done.share))
    return max(n - known, 0) + max(n * step.mirrored - known * done.mirrored, 0) + n_cropped * (not done.crops)

"""The step that fits a head to cached features; cross-validation on training pictures decides which stages and which views."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from descend.models import Backbone, Classifier
from descend.search.steps import FeatureStep
from descend.search.study import Answer, Study
from descend.transfer import (
    ONE_FOLD_FROM,
    USUAL_STRENGTH,
    Engine,
    Logistic,
    LogisticFit,
    StageFit,
    fit_logistic,
    fit_stages,
    offered,
)

FEW, REPEATS = 300, 3
"""Training pictures, below which the folds are drawn so often: one draw of five folds would decide by chance."""
MANY = 1000
"""Training pictures, from which three folds do: on 1,444 pictures of hands their held-out loss was 0.070 where five had 0.068."""
QUICK_S = 0.5  # that a fit takes however few the pictures are


def fitted(study: Study, step: FeatureStep) -> Answer:
    """Return the answer of a head on features of a view: with the mirror image, and with late stages, where they help.

    Every choice here is made by cross-validation on training pictures, so validation stays untouched. Raises OutOfTime where the
    study's watch says so, also in the middle of a fit.
    """
    engine = study.frozen_engine(step.size)
    rows = study.rows("train", step.share)
    features = study.features(engine, rows, mirrored=step.mirrored)
    backbone = study.backbone(step.size)
    if step.quick:
        backbone.tap(())
        last = features[:, :, -backbone.n_features :]
        fit = fit_logistic(last, study.dataset.labels[rows], study.n_classes, strength=USUAL_STRENGTH, check=study.watch.check)
        return _answer(step, engine, backbone, fit, mirrored=step.mirrored, why="")
    best, mirrored, why = _chosen(study, step, features, rows)
    backbone.tap(offered(backbone, len(rows))[best.stages])
    return _answer(step, engine, backbone, best.fit, mirrored=mirrored, why=why)


def _chosen(
    study: Study, step: FeatureStep, features: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[StageFit, bool, str]:
    """Return the best head in cross-validation, whether it looks at mirror images, and why."""
    backbone = study.backbone(step.size)
    labels, units = study.dataset.labels[rows], study.dataset.evidence(rows)
    n_folds, n_repeats = _folds(len(rows), repeated=_may_repeat(study, len(rows)))
    sets = offered(backbone, len(rows))

    def fit(n_views: int, names: Iterable[str], around: float) -> StageFit:
        columns = {name: backbone.n_columns(sets[name]) for name in names}
        return fit_stages(
            features[:, :n_views], labels, study.n_classes, columns, units=units, around=around, n_folds=n_folds,
            n_repeats=n_repeats, seed=study.plan.seed, check=study.watch.check,
        )  # fmt: skip

    started, expected = time.perf_counter(), fit_s(study, step)
    known = (step.size, step.share)
    if known not in study.plain_fits:
        study.plain_fits[known] = fit(1, sets, USUAL_STRENGTH)
    best, mirrored, why = study.plain_fits[known], False, ""
    if step.mirrored:
        both = fit(2, [best.stages], best.fit.strength)
        mirrored = both.loss < best.loss
        verb = "help" if mirrored else "do not help"
        why = f"mirror images {verb}: held-out loss {best.loss:.3f} without, {both.loss:.3f} with"
        best = both if mirrored else best
    if expected:  # 0 where the same fit is asked for again
        study.fit_pace *= (time.perf_counter() - started) / expected
    return best, mirrored, why


def _answer(step: FeatureStep, engine: Engine, backbone: Backbone, fit: LogisticFit, *, mirrored: bool, why: str) -> Answer:
    classifier = Classifier(backbone, Logistic.filled(fit.weight, fit.bias)).eval()
    return Answer(
        classifier, engine, step.size, mirrored, step.share, frozen=True, trial=fit.best, strength=fit.strength, why=why
    )


def refitted(study: Study, answer: Answer) -> Answer:
    """Return a head's answer fitted once more, to training and validation pictures together, with everything as it was chosen."""
    rows = np.concatenate([study.rows("train"), study.rows("val")])
    n_columns = answer.classifier.backbone.n_features
    features = study.features(answer.engine, rows, mirrored=answer.mirrored)[:, :, -n_columns:]
    fit = fit_logistic(features, study.dataset.labels[rows], study.n_classes, strength=answer.strength)
    classifier = Classifier(answer.classifier.backbone, Logistic.filled(fit.weight, fit.bias)).eval()
    return replace(answer, classifier=classifier)


def _folds(n: int, *, repeated: bool = False) -> tuple[int, int]:
    """Return how many folds n training pictures are cut into, and how often where that may be repeated."""
    return (3, 1) if n >= MANY else (5, REPEATS if repeated and n < FEW else 1)


def _may_repeat(study: Study, n: int) -> bool:
    """Return whether n pictures are all that there are: the answer of a part will be replaced, or has little time."""
    return n == len(study.rows("train")) and not study.is_part


def fit_s(study: Study, step: FeatureStep) -> float:
    """Return the seconds that fitting the head is expected to take at the last pace.

    Later sets of features and mirrored ones are searched around the best strength of the first.
    """
    n, pretrained, n_classes, pace = len(study.rows("train", step.share)), study.pretrained, study.n_classes, study.fit_pace
    if step.quick:
        return quick_fit_s(pretrained, n, n_classes, pace)
    n_folds, n_repeats = _folds(n, repeated=_may_repeat(study, n))
    known = (step.size, step.share) in study.plain_fits
    plain_s = 0.0 if known else choice_s(pretrained, n, n_classes, pace) * n_repeats
    mirrored_s = 2 * fold_s(pretrained, n, n_classes, pace) * n_folds * n_repeats  # with twice the rows
    return plain_s + mirrored_s * step.mirrored


def choice_s(pretrained: Backbone, n: int, n_classes: int, pace: float) -> float:
    """Return the seconds that choosing among sets of features takes, with folds that are drawn once."""
    return len(offered(pretrained, n)) * _folds(n)[0] * fold_s(pretrained, n, n_classes, pace)


def fold_s(pretrained: Backbone, n: int, n_classes: int, pace: float) -> float:
    """Return the seconds that searching the strength takes per fold of n pictures, by the numbers that the solver passes over.

    pace: seconds per picture and axis.
    """
    share = 1 / 3 if n * n_classes > ONE_FOLD_FROM else 1.0  # one fold of three is fitted then
    return pace * share * n * min(n, pretrained.n_columns(())) * max(1.0, n_classes / 30)


def quick_fit_s(pretrained: Backbone, n: int, n_classes: int, pace: float) -> float:
    """Return the seconds that one fit takes, with the usual strength: about half of the search of a fold."""
    return QUICK_S + 0.5 * fold_s(pretrained, n, n_classes, pace)


def n_views_needed(study: Study, step: FeatureStep, *, done: FeatureStep | None) -> int:
    """Return how many views the step computes for train and val. done: a step of the same size whose views lie in the cache."""
    n = len(study.rows("train", step.share)) + len(study.rows("val", step.share))
    if done is None:
        return n * (1 + step.mirrored)
    known = len(study.rows("train", done.share)) + len(study.rows("val", done.share))
    return max(n - known, 0) + max(n * step.mirrored - known * done.mirrored, 0)

"""The step that fits a head to cached features; cross-validation on training pictures decides which stages and which views."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from descend.models import Classifier
from descend.search.steps import FeatureStep
from descend.search.study import Answer, Study
from descend.transfer import ONE_FOLD_FROM, Logistic, StageFit, fit_logistic, fit_stages, offered

FEW, REPEATS = 300, 3
"""Training pictures, below which the folds are drawn so often: one draw of five folds would decide by chance."""
MANY = 1000
"""Training pictures, from which three folds do: on 1,444 pictures of hands their held-out loss was 0.070 where five had 0.068."""
USUAL_STRENGTH = 0.01  # of the penalty, where the choice begins


def fitted(study: Study, step: FeatureStep) -> Answer:
    """Return the answer of a head on features of a view: with the mirror image, and with late stages, where they help.

    Every choice here is made by cross-validation on training pictures, so validation stays untouched.
    """
    engine = study.frozen_engine(step.size)
    rows = study.rows("train", step.share)
    features = study.features(engine, rows, mirrored=step.mirrored)
    backbone = study.backbone(step.size)
    labels, units = study.dataset.labels[rows], study.dataset.evidence(rows)
    n_folds, n_repeats = _folds(len(rows))

    sets = offered(backbone, len(rows))

    def fit(n_views: int, names: Iterable[str], around: float) -> StageFit:
        columns = {name: backbone.n_columns(sets[name]) for name in names}
        return fit_stages(
            features[:, :n_views], labels, study.n_classes, columns, units=units, around=around, n_folds=n_folds,
            n_repeats=n_repeats, seed=study.plan.seed,
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
    backbone.tap(sets[best.stages])
    head = Logistic.filled(best.fit.weight, best.fit.bias)
    classifier = Classifier(backbone, head).eval()
    return Answer(
        classifier, engine, step.size, mirrored, step.share, frozen=True, trial=best.fit.best, strength=best.fit.strength, why=why
    )


def refitted(study: Study, answer: Answer) -> Answer:
    """Return a head's answer fitted once more, to training and validation pictures together, with everything as it was chosen."""
    rows = np.concatenate([study.rows("train"), study.rows("val")])
    n_columns = answer.classifier.backbone.n_features
    features = study.features(answer.engine, rows, mirrored=answer.mirrored)[:, :, -n_columns:]
    fit = fit_logistic(features, study.dataset.labels[rows], study.n_classes, strength=answer.strength)
    classifier = Classifier(answer.classifier.backbone, Logistic.filled(fit.weight, fit.bias)).eval()
    return replace(answer, classifier=classifier)


def _folds(n: int) -> tuple[int, int]:
    """Return how many folds n training pictures are cut into, and how often."""
    return (3, 1) if n >= MANY else (5, 1) if n >= FEW else (5, REPEATS)


def fit_s(study: Study, step: FeatureStep) -> float:
    """Return the seconds that fitting the head is expected to take, by the numbers that its solver passes over and the last pace.

    Later sets of features and mirrored ones are searched around the best strength of the first.
    """
    n = len(study.rows("train", step.share))
    sets = offered(study.pretrained, n)
    fits = len(sets) * ((step.size, step.share) not in study.plain_fits) + 2.0 * step.mirrored  # with twice the rows
    n_folds, n_repeats = _folds(n)
    folds = 1 if n * study.n_classes > ONE_FOLD_FROM else n_folds * n_repeats
    n_axes = min(n, study.pretrained.n_columns(()))
    return study.fit_pace * fits * folds * n * n_axes * max(1.0, study.n_classes / 30)


def n_views_needed(study: Study, step: FeatureStep, *, done: FeatureStep | None) -> int:
    """Return how many views the step computes for train and val. done: a step of the same size whose views lie in the cache."""
    n = len(study.rows("train", step.share)) + len(study.rows("val", step.share))
    if done is None:
        return n * (1 + step.mirrored)
    known = len(study.rows("train", done.share)) + len(study.rows("val", done.share))
    return max(n - known, 0) + max(n * step.mirrored - known * done.mirrored, 0)

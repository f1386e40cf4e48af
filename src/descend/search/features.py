"""The step that fits a head to cached features; cross-validation on training pictures decides which stages and which views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from descend.models import Classifier
from descend.search.steps import FeatureStep
from descend.search.study import Answer, Study
from descend.transfer import Logistic, StageFit, fit_logistic, fit_stages

FEW, REPEATS = 300, 3
"""Training pictures, below which the folds are drawn so often: one draw of five folds would decide by chance."""


def fitted(study: Study, step: FeatureStep) -> Answer:
    """Return the answer of a head on features of a view: with the mirror image, and with late stages, where they help.

    Every choice here is made by cross-validation on training pictures, so validation stays untouched.
    """
    engine = study.frozen_engine(step.size)
    rows = study.rows("train", step.share)
    features = study.features(engine, rows, mirrored=step.mirrored)
    backbone = study.backbone(step.size)
    labels, units = study.dataset.labels[rows], study.dataset.evidence(rows)
    n_repeats = REPEATS if len(rows) < FEW else 1

    def fit(n_views: int) -> StageFit:
        return fit_stages(
            features[:, :n_views], labels, study.n_classes, units=units, n_last=backbone.n_features, n_repeats=n_repeats,
            seed=study.plan.seed,
        )  # fmt: skip

    best, mirrored, why = fit(1), False, ""
    if step.mirrored:
        both = fit(2)
        mirrored = both.loss < best.loss
        verb = "help" if mirrored else "do not help"
        why = f"mirror images {verb}: held-out loss {best.loss:.3f} without, {both.loss:.3f} with"
        best = both if mirrored else best
    if best.stages == "late":
        backbone.tap(backbone.late_stages)
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


def n_views_needed(study: Study, step: FeatureStep, *, done: FeatureStep | None) -> int:
    """Return how many views the step computes for train and val. done: a step of the same size whose views lie in the cache."""
    n = len(study.rows("train", step.share)) + len(study.rows("val", step.share))
    if done is None:
        return n * (1 + step.mirrored)
    known = len(study.rows("train", done.share)) + len(study.rows("val", done.share))
    return max(n - known, 0) + max(n * step.mirrored - known * done.mirrored, 0)

"""Which transforms keep the labels of these pictures? Measured before a step uses them: another meaning must not be taught."""

from __future__ import annotations

import numpy as np

from descend.search.study import DISTORT, MIRROR, Study
from descend.train.label_preservation import changes_seen, sampled


def may_mirror(study: Study) -> bool:
    """Return whether pictures may be mirrored, and tell why; see ``_measured``."""
    return _allowed(study, "mirroring", MIRROR, "mirrored", "mirror images keep their labels here")


def may_distort(study: Study) -> bool:
    """Return whether pictures may be turned, sheared and recolored as ``DISTORT`` does, and tell why; see ``_measured``."""
    return _allowed(study, "distortion", (DISTORT,), "distorted", "turned, sheared and recolored pictures keep their labels here")


def _allowed(study: Study, what: str, transform: tuple[str, ...], word: str, kept: str) -> bool:
    """Measure whether a transform may be used, and say so, now and in the record."""
    with study.log.timed("label check"):
        allowed, why = _measured(study, transform, word, kept)
    study.log.record.reasons[what] = why
    study.watch.say(f"  {what:<10} {'allowed' if allowed else 'left out'}  ({why})")
    return allowed


def _measured(study: Study, transform: tuple[str, ...], word: str, kept: str) -> tuple[bool, str]:
    """Return whether a transform may be used, and why, from features of a sample of training pictures with and without it.

    Gray pictures are often signs: they stay as they are. Middle stages are asked beside the last one, which was trained on
    mirrored and recolored pictures and hardly sees a difference. Where pictures are too few to tell, they are transformed as
    photographs usually are. word: what is done to them, a participle. kept: the reason where labels stay.
    """
    data = study.dataset
    if data.is_gray:
        return False, "gray pictures are often signs"
    rows = sampled(data, study.rows("train"), study.plan.seed)
    if len(np.unique(data.labels[rows])) < 2:
        return True, "too few pictures to measure"
    features = study.transformed(study.frozen_engine(study.first_size), rows, transform)
    labels, units = data.labels[rows], data.evidence(rows)
    body = study.pretrained
    for changes in changes_seen(features, body, body.every_tap, labels, units=units, seed=study.plan.seed):
        if changes.harmful:
            return False, changes.reason(data.classes, word)
    return True, kept

"""May pictures be mirrored? Measured before any step mirrors them: what means another thing in the mirror must not be taught."""

from __future__ import annotations

import numpy as np

from descend.search.study import Study
from descend.transfer import balanced_sample, measure_label_changes

SAMPLE, PER_CLASS, MOST = 300, 15, 1000  # pictures measured: a few seconds; more where there are many classes


def measured(study: Study) -> tuple[bool, str]:
    """Return whether pictures may be mirrored, and why, from features of a sample of training pictures and their mirror images.

    Grey pictures are often signs: they are not mirrored. Middle stages are asked beside the last one, which was trained on
    mirrored pictures and hardly sees a difference. Where pictures are too few to tell, they are mirrored as photographs usually
    are.
    """
    data = study.dataset
    if data.is_grey:
        return False, "grey pictures are often signs"
    train = study.rows("train")
    limit = min(MOST, max(SAMPLE, PER_CLASS * study.n_classes))
    rows = train[balanced_sample(data.labels[train], data.evidence(train), limit=limit, seed=study.plan.seed)]
    if len(np.unique(data.labels[rows])) < 2:
        return True, "too few pictures to measure"
    features = study.features(study.frozen_engine(study.native), rows, mirrored=True)
    labels, units = data.labels[rows], data.evidence(rows)
    for columns in _looks(study):
        look = features[:, :, columns]
        changes = measure_label_changes(look[:, 0], look[:, 1], labels, units=units, seed=study.plan.seed)
        if changes is not None and changes.harmful:
            return False, changes.reason(data.classes, "mirrored")
    return True, "mirror images keep their labels here"


def _looks(study: Study) -> list[slice]:
    """Return the columns of the tapped features that hold middle stages, where there are some, and those of the last."""
    late, n_last = study.pretrained.late_stages, study.pretrained.n_features
    last = slice(-n_last, None)
    if not late:
        return [last]
    first, end = (1, 3) if len(late) > 3 else (0, 1)
    widths = [study.backbone(study.native, [stage]).n_features - n_last for stage in late]
    return [slice(sum(widths[:first]), sum(widths[:end])), last]

"""May pictures be mirrored? Measured before any step mirrors them: what means another thing in the mirror must not be taught."""

from __future__ import annotations

import numpy as np

from descend.search.study import Study
from descend.train.label_check import middle_stages, sampled
from descend.transfer import measure_label_changes


def measured(study: Study) -> tuple[bool, str]:
    """Return whether pictures may be mirrored, and why, from features of a sample of training pictures and their mirror images.

    Grey pictures are often signs: they are not mirrored. Middle stages are asked beside the last one, which was trained on
    mirrored pictures and hardly sees a difference. Where pictures are too few to tell, they are mirrored as photographs usually
    are.
    """
    data = study.dataset
    if data.is_grey:
        return False, "grey pictures are often signs"
    rows = sampled(data, study.rows("train"), study.plan.seed)
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
    body, middle = study.pretrained, middle_stages(study.pretrained)
    last = slice(-body.n_columns(()), None)
    if not middle:
        return [last]
    late = body.late_stages
    first, after = late.index(middle[0]), late.index(middle[-1]) + 1
    return [slice(-body.n_columns(late[first:]), -body.n_columns(late[after:])), last]

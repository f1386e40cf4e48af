"""The deep look: features of every picture by a pretrained backbone, as ``descend fit --transfer features`` keeps them.

So a run after the scan, or a scan after a run, computes none of them again.
"""

from __future__ import annotations

from typing import Any

from descend.audit.material import DeepLook
from descend.data.manifest import UNASSIGNED
from descend.progress import Progress
from descend.train.modes import MODES
from descend.train.prepare import built, decode, stored_side, survey, threads
from descend.train.recipe import Recipe
from descend.train.run_log import RunLog
from descend.train.task_builder import TaskBuilder
from descend.transfer import choose, fit_logistic, out_of_fold

FOLDS = 5


class Bars:
    """A listener that passes on how far work is and drops the lines: they are those of a training."""

    def __init__(self, progress: Progress) -> None:
        self.update = progress.update

    def say(self, text: str) -> None:
        """Drop the line."""


def look_deeper(recipe: Recipe, arrays: Any, progress: Progress) -> DeepLook:
    """Return what the default backbone sees in every picture that can be decoded, and the out-of-fold answers of a head on that.

    recipe, arrays: the data, and nothing else that was asked for. Raises what ``descend.fit`` raises.
    """
    log, bars = RunLog(writes=False), Bars(progress)
    with threads(recipe.threads):
        surveyed = survey(recipe, arrays=arrays, log=log, progress=bars, who="scan")
        mode = MODES["features"].variant(surveyed.plan.recipe())
        plan, network, _ = built(surveyed, mode, log, bars)
        decoded = decode(surveyed.dataset.fitted(plan.fit), plan, stored_side(plan, mode, network), log, bars)
        engine = choose(network.backbone, size=plan.size, taps=mode.taps(network.backbone, plan)).engine
        builder = TaskBuilder(plan, decoded, network, engine, bars)
        rows = (decoded.dataset.splits != UNASSIGNED).nonzero()[0]
        features = builder.extract(engine, rows)[:, :, -network.backbone.n_features :]
        labels, units = decoded.dataset.labels[rows], decoded.dataset.evidence(rows)
        n_classes = len(decoded.dataset.classes)
        progress.say("judging every picture by a head that was fitted without it ...")
        strength = fit_logistic(features, labels, n_classes, units=units, n_folds=3).strength
        held_out = out_of_fold(features, labels, n_classes, units=units, n_folds=FOLDS, strength=strength)
    return DeepLook(rows, features[:, 0], held_out.probabilities, plan.backbone.name)

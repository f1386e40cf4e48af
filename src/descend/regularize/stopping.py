"""Early stopping: the oldest regularizer, training ends when the validation data no longer gain."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from descend.errors import KnobError
from descend.regularize.regularizer import History, Regularizer
from descend.technique import Search, technique


@technique("early_stopping", source="Goodfellow, Bengio & Courville 2016, Deep Learning, Algorithm 7.1, in epochs")
class EarlyStopping(Regularizer):
    """End training after ``patience`` epochs without a gain of more than ``min_delta``, and keep the best epoch's weights.

        best, n <- score, 0  where score > best + min_delta,  else n <- n + 1        after each epoch;  stop where n >= patience

    When to prefer it: small data and long constant learning rates. With a schedule that decays to zero the best epoch is
    near the end anyway, and stopping early only cuts the decay off. It is a pure function of the history, so that there is
    nothing to save and resume.

    metric: what must gain, of the validation data; of "loss" less is better, of the others more. None: the metric by which the
    run selects (``--metric``). It decides when training ends; which epoch of a run is the best is for ``--metric`` to say.
    restore: keep the weights of the best epoch (the first of equals); without it the last weights stay.
    """

    neutral: ClassVar = {"patience": 10**9, "restore": False}

    patience: Annotated[int, Ge(1), Search(3, 20)] = 5
    min_delta: Annotated[float, Ge(0), Search(0.0, 0.01)] = 0.0
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "loss"] | None = None
    restore: bool = True

    def should_stop(self, history: History, metric: str | None = None) -> bool:
        """Return whether the last ``patience`` epochs brought no gain. Raises KnobError where the metric is missing."""
        best, since = float("-inf"), 0
        for score in self._scores(history, self.metric or metric):
            if score > best + self.min_delta:
                best, since = score, 0
            else:
                since += 1
        return since >= self.patience

    def chosen_epoch(self, history: History, metric: str | None = None) -> int | None:
        """Return the first epoch (from 0) of the best score, or None without ``restore`` or before the first epoch."""
        scores = self._scores(history, metric or self.metric)
        return scores.index(max(scores)) if self.restore and scores else None

    def _scores(self, history: History, metric: str | None) -> list[float]:
        """Return the scores by ``metric`` (None: accuracy), more always better; one that is not a number counts as the worst."""
        metric = metric or "accuracy"
        if metric not in history:
            raise KnobError(self.name, f"the history must hold {metric!r}", got=sorted(history))
        sign = -1.0 if metric == "loss" else 1.0
        return [sign * score if score == score else float("-inf") for score in history[metric]]

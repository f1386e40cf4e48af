"""What a candidate took and reached beside its verdict, and how that is said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from descend.quantities import size_in_words
from descend.stats import Interval


@dataclass(frozen=True)
class Costs:
    """What one candidate took and reached besides, over its runs. Accuracies are of validation, in [0, 1].

    best_epoch, last_epoch: mean over runs; None without epochs. to_target_s: median seconds of training until validation first
    reached the target; None without epochs. wall_s: median of a whole run. peak_bytes: the largest. by_metric: mean over seeds of
    the metrics other than accuracy that chose epochs, on the split that is judged.
    """

    accuracy: Interval | None
    n_runs: int
    n_failed: int
    best_epoch: float | None
    last_epoch: float | None
    to_target_s: float | None
    wall_s: float | None
    peak_bytes: int | None
    by_metric: dict[str, Interval] = field(default_factory=dict)

    @property
    def runs(self) -> str:
        """The number of runs that have finished, and of those that have failed where there are any."""
        return str(self.n_runs) + (f" ({self.n_failed} failed)" if self.n_failed else "")

    @property
    def memory(self) -> str:
        """The largest peak of a run's process; a dash where it is not known."""
        return "-" if self.peak_bytes is None else size_in_words(self.peak_bytes)


def seconds_to(curve: list[dict[str, Any]], target: float) -> float:
    """Return the seconds of training until validation first reached ``target``; inf where it never did."""
    spent = 0.0
    for row in curve:
        spent += row["wall_s"]
        if row["val_accuracy"] >= target:
            return spent
    return math.inf


def metric_words(metric: str) -> str:
    """Return the name of a metric in words."""
    return metric.replace("_", " ")


def shares(costs: Costs, metrics: Sequence[str]) -> list[str]:
    """Return the mean scores by metrics in words, as of ``share``."""
    return [share(costs.by_metric.get(metric)) for metric in metrics]


def share(accuracy: Interval | None) -> str:
    """Return a mean accuracy in words, with half of its interval where seeds tell it: two or more that differ."""
    if accuracy is None:
        return "-"
    reach = accuracy.high - accuracy.mean
    return f"{accuracy.mean:.1%}" + (f" ±{100 * reach:.1f}" if math.isfinite(reach) else "")

"""Run candidates on the same seeds, interleaved, so that every difference is a difference within one seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from descend.errors import DataError
from descend.stats import Interval, difference, mean, paired, verdict

Measure = Callable[[int], ArrayLike]
"""Takes a seed; returns one score, or for each picture of one and the same test set whether it was right."""


@dataclass(frozen=True)
class PairedRuns:
    """What every candidate scored on every seed: ``scores[name][i]`` belongs to ``seeds[i]``; ``wall_s`` likewise.

    items: for candidates that tell it, (n_seeds, n_pictures) float64, what each run scored on each picture. Differences then
    cover further pictures as well as further seeds.
    """

    seeds: tuple[int, ...]
    scores: dict[str, list[float]] = field(default_factory=dict)
    wall_s: dict[str, list[float]] = field(default_factory=dict)
    items: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def mean(self, name: str, level: float = 0.95) -> Interval:
        """Return the mean score of one candidate over the seeds."""
        return mean(self.scores[name], level)

    def difference(self, name: str, baseline: str, level: float = 0.95) -> Interval:
        """Return how much ``name`` scored above ``baseline``, seed by seed, and picture by picture where both tell it."""
        first, second = self._sides(name, baseline)
        if np.ndim(first) == 1:
            return paired(self.scores[name], self.scores[baseline], level)
        return difference(first, second, level).interval

    def verdict(self, name: str, baseline: str, level: float = 0.95) -> str:
        """Return the difference in words."""
        return f"{name} against {baseline}: {verdict(*self._sides(name, baseline), level)}"

    def _sides(self, name: str, baseline: str) -> tuple[ArrayLike, ArrayLike]:
        if name in self.items and baseline in self.items:
            return self.items[name], self.items[baseline]
        return self.scores[name], self.scores[baseline]


def paired_seeds(
    candidates: Mapping[str, Measure],
    seeds: Sequence[int],
    *,
    report: Callable[[str, int, float], None] | None = None,
) -> PairedRuns:
    """Call every candidate with every seed: all candidates on the first seed, then all on the second, and so on.

    candidates: name -> function of the seed that returns one score, or an array (n_pictures,) of what the run scored on each
    picture of a test set that is the same for every run (``run.predict(test).labels == labels``); its mean is the score. The
    order inside a seed rotates, so that a machine that warms up or slows down favors nobody. report(name, seed, score) is called
    after each run. Raises DataError as soon as two runs judged other pictures.
    """
    if not candidates or not seeds or len(set(seeds)) != len(seeds):
        raise DataError(
            "paired_seeds", "needs one candidate or more and distinct seeds", got=f"{list(candidates)}, {list(seeds)}"
        )
    runs = PairedRuns(tuple(seeds), {name: [] for name in candidates}, {name: [] for name in candidates})
    names, outcomes = list(candidates), {name: list[NDArray[np.float64]]() for name in candidates}
    for turn, seed in enumerate(seeds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            outcomes[name].append(np.asarray(candidates[name](seed), np.float64))
            runs.wall_s[name].append(time.perf_counter() - start)
            _check_outcomes(name, outcomes)
            runs.scores[name].append(float(outcomes[name][-1].mean()))
            if report is not None:
                report(name, seed, runs.scores[name][-1])
    runs.items.update({name: np.stack(rows) for name, rows in outcomes.items() if rows[0].ndim})
    return runs


def _check_outcomes(name: str, outcomes: Mapping[str, list[NDArray[np.float64]]]) -> None:
    """Refuse, before more time is spent, what cannot be compared picture by picture."""
    last = outcomes[name][-1].shape
    others = {row.shape for rows in outcomes.values() for row in rows if row.ndim}
    if len(last) > 1 or last == (0,) or (last and len(others) > 1) or last != outcomes[name][0].shape:
        must = "must return one score, or an array (n_pictures,) for the same pictures in every run"
        raise DataError(f"paired_seeds: {name}", must, got=last)

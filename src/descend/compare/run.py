"""Run candidates on the same seeds, interleaved, so that every difference is a difference within one seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from descend.errors import DataError
from descend.stats import Interval, mean, paired, verdict

Measure = Callable[[int], float]


@dataclass(frozen=True)
class PairedRuns:
    """What every candidate scored on every seed: ``scores[name][i]`` belongs to ``seeds[i]``; ``wall_s`` likewise."""

    seeds: tuple[int, ...]
    scores: dict[str, list[float]] = field(default_factory=dict)
    wall_s: dict[str, list[float]] = field(default_factory=dict)

    def mean(self, name: str, level: float = 0.95) -> Interval:
        """Return the mean score of one candidate over the seeds."""
        return mean(self.scores[name], level)

    def difference(self, name: str, baseline: str, level: float = 0.95) -> Interval:
        """Return how much ``name`` scored above ``baseline``, seed by seed."""
        return paired(self.scores[name], self.scores[baseline], level)

    def verdict(self, name: str, baseline: str, level: float = 0.95) -> str:
        """Return the difference in words."""
        return f"{name} against {baseline}: {verdict(self.scores[name], self.scores[baseline], level)}"


def paired_seeds(
    candidates: Mapping[str, Measure],
    seeds: Sequence[int],
    *,
    report: Callable[[str, int, float], None] | None = None,
) -> PairedRuns:
    """Call every candidate with every seed: all candidates on the first seed, then all on the second, and so on.

    candidates: name -> function of the seed that returns one score. The order inside a seed rotates, so that a machine
    that warms up or slows down favours nobody. report(name, seed, score) is called after each run.
    """
    if not candidates or not seeds or len(set(seeds)) != len(seeds):
        raise DataError(
            "paired_seeds", "needs one candidate or more and distinct seeds", got=f"{list(candidates)}, {list(seeds)}"
        )
    runs = PairedRuns(tuple(seeds), {name: [] for name in candidates}, {name: [] for name in candidates})
    names = list(candidates)
    for turn, seed in enumerate(seeds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            score = float(candidates[name](seed))
            runs.wall_s[name].append(time.perf_counter() - start)
            runs.scores[name].append(score)
            if report is not None:
                report(name, seed, score)
    return runs

"""What a comparison found: differences with intervals and verdicts, what each candidate cost, as lines, JSON and a frame."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from descend.comparison.costs import Costs, metric_words, seconds_to, share, shares
from descend.comparison.paired import PairedRuns
from descend.comparison.runs import Made, Right, Scores, outcomes, right, scores_of
from descend.comparison.tuning import Tuning, loaded
from descend.comparison.verdict import Verdict
from descend.durations import duration
from descend.errors import RunError
from descend.pandas_frames import pandas_for
from descend.plain_data import finite
from descend.printable import columns
from descend.stats import Interval, Spending, bootstrap_runs_and_items, differences
from descend.stats.intervals import interval_of
from descend.train import folder
from descend.train.recipe import USUAL
from descend.train.record_types import Machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from descend.comparison.picture import Drawn

SCHEMA = 1
FILE = "comparison.jsonl"
HEAD = ("runs", "best epoch", "last epoch", "to target", "time", "memory")


@dataclass
class Comparison:
    """Candidates on the same seeds and the same pictures, and what came of it; the first candidate is the base.

    against: what each candidate is measured against; by default all but the base against the base. split: what was judged:
    ``test``, or ``val`` where there is no test split. level: of all verdicts together. settle: the difference that is worth
    finding. looks: numbers of seeds at which it may end early, fixed beforehand; empty for none.
    """

    folder: Path
    data: str
    names: tuple[str, ...]
    recipes: dict[str, str]
    made: list[Made] = field(default_factory=list)
    split: str = "test"
    level: float = 0.95
    settle: float = 0.005
    looks: tuple[int, ...] = ()
    machine: Machine | None = None
    versions: dict[str, str] = field(default_factory=dict)
    ended: str = ""  # why there are no more seeds
    against: dict[str, str] | None = None
    as_written: str = ""  # why there was no tuning; empty where there was
    tunings: list[Tuning] = field(default_factory=list)  # one per candidate, or none
    tuning_ended: str = ""  # why there were fewer trials than asked for
    interrupted: bool = False  # by Ctrl-C; the same command goes on
    _right: dict[Made, Right] = field(default_factory=dict, init=False, repr=False, compare=False)
    _curves: dict[Made, list[dict[str, Any]]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _scores: dict[Made, Scores] = field(default_factory=dict, init=False, repr=False, compare=False)

    # ------------------------------------------------------------------------------------------------------------ what came

    def finished(self, name: str) -> list[Made]:
        """Return the finished runs of a candidate, by seed."""
        return sorted((item for item in self.made if item.name == name and item.status == "finished"), key=lambda item: item.seed)

    @property
    def base(self) -> str:
        """The candidate that the others are measured against."""
        return self.names[0]

    @property
    def opposites(self) -> dict[str, str]:
        """Candidate -> what it is measured against."""
        return dict.fromkeys(self.names[1:], self.base) if self.against is None else self.against

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds on which the base is finished."""
        return tuple(item.seed for item in self.finished(self.base))

    @property
    def n_pictures(self) -> int:
        """How many independent pictures were judged; those that belong together are one."""
        return next(iter(self.paired(self.base).items.values())).shape[1]

    @property
    def n_answered(self) -> int:
        """How many pictures were judged, copies once, whatever belongs together; the base must have finished a run."""
        first = self.finished(self.base)[0]
        self._outcomes([first])
        return len(self._right[first].answers)

    @property
    def judged_on(self) -> str:
        """On how much it rests, in words."""
        n, n_all = self.n_pictures, self.n_answered
        told = f" ({n_all:,}; those of a group, and near copies, count as one, by the share that is right)"
        return f"{n:,} pictures" if n == n_all else f"{n:,} independent pictures{told}"

    def accuracy_of(self, item: Made) -> float:
        """Return the accuracy of a finished run on the pictures that are compared."""
        return float(self._outcomes([item])[item.name].mean())

    def _outcomes(self, items: list[Made]) -> dict[str, NDArray[np.float64]]:
        """Return ``outcomes`` of finished runs; the answers of each are read once."""
        for item in self.made:
            if item.status == "finished" and item not in self._right:
                self._right[item] = right(Path(item.place), self.split)
        together = min(self._right.values(), key=lambda known: known.n_units)  # one rule for all that is told
        return outcomes({item: self._right[item] for item in items}, together)

    def paired(self, name: str) -> PairedRuns:
        """Return a candidate beside what it is measured against, on the seeds that both have finished."""
        other, both = self.opposites.get(name, self.base), self._seeds_of_both(name)
        names = dict.fromkeys((other, name))
        items = self._outcomes([item for known in names for item in self.finished(known) if item.seed in both])
        scores = {known: rows.mean(1).tolist() for known, rows in items.items()}
        return PairedRuns(tuple(sorted(both)), scores, {}, items)

    def _seeds_of_both(self, name: str) -> set[int]:
        opposite = self.finished(self.opposites.get(name, self.base))
        return {item.seed for item in self.finished(name)} & {item.seed for item in opposite}

    def goes_on(self, name: str) -> bool:
        """Return whether a candidate and its opposite can have more seeds: one that has failed is not trained again."""
        both = {name, self.opposites.get(name, self.base)}
        return not any(item.status == "failed" and item.name in both for item in self.made)

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on every candidate that shares finished seeds with its opposite, by one rule fixed beforehand.

        With looks, those that go on are judged at the same number of seeds; those that ended have had their last look.
        """
        against = self.opposites
        pairs = {name: self.paired(name).items for name in against if self._seeds_of_both(name)}
        sides = {name: (items[name], items[against[name]]) for name, items in pairs.items()}
        if not sides:
            return []
        looks, last = None, set[str]()
        if self.looks:
            looks, last = Spending(self.looks, self.level), {name for name in sides if not self.goes_on(name)}
            going = sides.keys() - last
            n = min((len(sides[name][0]) for name in going), default=0)
            sides |= {name: (sides[name][0][:n], sides[name][1][:n]) for name in going}  # a look is at the same seeds of all
            last |= set() if n in self.looks else going
        found = differences(sides, self.level, looks=looks, last=last)
        return [
            Verdict(name, against[name], known, bootstrap_runs_and_items(*sides[name], self.level) if known.n_seeds > 1 else None,
                    self.settle, self._lost(name))
            for name, known in found.items()
        ]  # fmt: skip

    def _lost(self, name: str) -> str:
        """Return how many runs of a candidate and of its opposite failed, in words; empty where none did."""
        phrases = list[str]()
        for side in (name, self.opposites[name]):
            ended = [item for item in self.made if item.name == side and item.status in ("finished", "failed")]
            failed = [item for item in ended if item.status == "failed"]
            if failed:
                why = "diverged" if all(item.diverged for item in failed) else "failed"
                phrases.append(f"{len(failed)} of {len(ended)} runs of {side} {why}")
        return " and ".join(phrases)

    @property
    def target(self) -> float | None:
        """The validation accuracy that every run reaches: the lowest of their best epochs."""
        return min((best for name in self.names for best in self._best_epochs(name)), default=None)

    def costs(self, name: str) -> Costs:
        """Return what a candidate took."""
        runs = self.finished(name)
        curves = [curve for item in runs if (curve := self._curve(item))]
        peaks = [item.peak_bytes for item in runs if item.peak_bytes]
        target = self.target
        reached = [seconds_to(curve, target) for curve in curves] if target is not None else []
        best, last = self._best_epochs(name), [curve[-1]["val_accuracy"] for curve in curves]
        return Costs(
            accuracy=self._accuracy(runs), n_runs=len(runs),
            n_failed=sum(item.name == name and item.status == "failed" for item in self.made),
            best_epoch=float(np.mean(best)) if best else None, last_epoch=float(np.mean(last)) if last else None,
            to_target_s=statistics.median(reached) if reached else None,
            wall_s=statistics.median(item.wall_s for item in runs) if runs else None, peak_bytes=max(peaks, default=None),
            by_metric=self._by_metric(name),
        )  # fmt: skip

    def _accuracy(self, runs: list[Made]) -> Interval | None:
        """Return the mean accuracy of runs of one candidate over their seeds; one run alone, or equal ones, leave it open."""
        if not runs:
            return None
        each = next(iter(self._outcomes(runs).values())).mean(1)
        return interval_of(each, self.level)

    def _curve(self, item: Made) -> list[dict[str, Any]]:
        """Return the epochs of a finished run that were validated; every run is read once."""
        if item not in self._curves:
            rows = folder.by_epoch(folder.read_lines(Path(item.place) / folder.METRICS))
            self._curves[item] = [row for row in rows if "val_accuracy" in row]
        return self._curves[item]

    def _best_epochs(self, name: str) -> list[float]:
        return [max(row["val_accuracy"] for row in curve) for item in self.finished(name) if (curve := self._curve(item))]

    def _scores_of(self, name: str) -> list[Scores]:
        """Return what the records of a candidate's finished runs hold of their scores; every one is read once."""
        runs = self.finished(name)
        for item in runs:
            if item not in self._scores:
                self._scores[item] = scores_of(Path(item.place), self.split)
        return [self._scores[item] for item in runs]

    def _by_metric(self, name: str) -> dict[str, Interval]:
        runs, found = self._scores_of(name), dict[str, Interval]()
        for metric in self.metrics:
            if runs and all(metric in run.by_metric for run in runs):
                found[metric] = interval_of(np.array([run.by_metric[metric] for run in runs]), self.level)
        return found

    @property
    def metrics(self) -> list[str]:
        """The metrics other than accuracy that chose epochs of finished runs, by name."""
        return sorted({run.chosen_by for name in self.names for run in self._scores_of(name)} - {USUAL["metric"]})

    @property
    def judged_by(self) -> str:
        """That verdicts are of accuracy, where runs were told to aim at something else; else empty."""
        if not self.metrics:
            return ""
        what = "epochs and knobs" if self.tunings else "epochs"
        named = " and ".join(map(metric_words, self.metrics))
        return f"judged by accuracy: {named} chose {what} only"

    # -------------------------------------------------------------------------------------------------------------- as text

    def lines(self) -> list[str]:
        """Return the table and the verdicts as lines for a terminal."""
        metrics = self.metrics
        rows = [("candidate", "accuracy", *map(metric_words, metrics), *HEAD)]
        rows += [_row(name, self.costs(name), metrics) for name in self.names]
        told = [verdict.text for verdict in self.verdicts()]
        if told and self.n_pictures < self.n_answered:
            told.append(f"judged on {self.judged_on}")
        told += filter(None, [self.judged_by])
        return [*columns(rows), "", *told, *self.failures(), *self.tuning_lines(), *([self.ended] if self.ended else [])]

    def failures(self) -> list[str]:
        """Return a line on every run that failed."""
        return [f"{item.name}, seed {item.seed}, {item.failure}" for item in self.made if item.status == "failed"]

    def tuning_lines(self) -> list[str]:
        """Return how candidates were tuned, as lines; or that they were not, and why."""
        if not self.tunings:
            return [self.as_written] if self.as_written else []
        return [*(f"tuned on validation: {tuning.text}" for tuning in self.tunings), *filter(None, [self.tuning_ended])]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def figure(self) -> Figure:
        """Return differences with their intervals, and what every run scored, as a matplotlib figure."""
        from descend.comparison.picture import figure  # matplotlib takes a while to load

        return figure(self.drawn())

    def drawn(self) -> Drawn:
        """Return what a picture shows of it."""
        from descend.comparison.picture import Drawn

        differences = {verdict.name: (verdict.known.interval, verdict.different) for verdict in self.verdicts()}
        scores = {name: {item.seed: self.accuracy_of(item) for item in self.finished(name)} for name in self.names}
        opposites = set(self.opposites.values())
        opposite = opposites.pop() if len(opposites) == 1 else "what each is measured against"
        return Drawn(self.names, opposite, self.split, differences, scores)

    def _repr_html_(self) -> str:
        from descend.comparison.picture import as_html

        return as_html(str(self), self.drawn())

    # -------------------------------------------------------------------------------------------------------------- as data

    @property
    def frame(self) -> Any:
        """One row per run, as a pandas frame. Raises MissingExtra without pandas."""
        accuracies = [self.accuracy_of(item) if item.status == "finished" else None for item in self.made]
        rows = zip(self.made, accuracies, strict=True)
        return pandas_for("comparison.frame").DataFrame(
            [dataclasses.asdict(item) | {self.split: accuracy} for item, accuracy in rows]
        )

    def facts(self) -> dict[str, Any]:
        """Return what was compared, and how, as plain data."""
        return {
            "schema": SCHEMA, "data": self.data, "names": list(self.names), "recipes": self.recipes, "split": self.split,
            "level": self.level, "settle": self.settle, "looks": list(self.looks), "machine": self.machine,
            "versions": self.versions, "ended": self.ended, "against": self.against, "as_written": self.as_written,
            "tuning_ended": self.tuning_ended, "interrupted": self.interrupted,
        }  # fmt: skip

    def save(self, *, judged: bool = True) -> None:
        """Write the comparison as JSON lines: what was compared, every run, and where it is judged every verdict."""
        lines = [{"kind": "comparison"} | self.facts(), *({"kind": "tuning"} | item.facts() for item in self.tunings)]
        lines += [*({"kind": "run"} | dataclasses.asdict(item) for item in self.made)]
        lines += [{"kind": "verdict"} | item.facts() for item in self.verdicts()] if judged else []
        folder.write_text(self.folder / FILE, "".join(json.dumps(finite(line)) + "\n" for line in lines))


def n_seeds_judged(path: Path) -> int:
    """Return after how many seeds the verdicts in a folder were given; 0 where there are none, or nothing that can be read."""
    try:
        lines = [json.loads(line) for line in (path / FILE).read_text(encoding="utf-8").splitlines()]
        verdicts = [line for line in lines if line["kind"] == "verdict"]
        seeds = {line["seed"] for line in lines if line["kind"] == "run" and line["status"] == "finished"}
    except (OSError, ValueError, LookupError, TypeError):
        return 0
    return len(seeds) if verdicts else 0


def load(path: Path | str) -> Comparison:
    """Read a comparison's folder. Raises RunError where there is none, or one of another version."""
    path = Path(path)
    try:
        lines = [json.loads(line) for line in (path / FILE).read_text(encoding="utf-8").splitlines()]
        facts = lines[0]
        if facts["schema"] != SCHEMA:
            raise RunError(f"comparison {path}", f"must have schema {SCHEMA}", got=facts["schema"], fix="Make it again.")
        made = [
            Made(**{name: value for name, value in line.items() if name != "kind"}) for line in lines if line["kind"] == "run"
        ]
        tunings = [loaded(line) for line in lines if line["kind"] == "tuning"]
    except OSError as error:
        raise RunError(f"comparison {path}", f"must be a folder with {FILE} ({error.strerror})") from None
    except (ValueError, LookupError, TypeError) as error:
        raise RunError(str(path / FILE), f"must be as descend wrote it ({error})") from None
    return Comparison(
        path, facts["data"], tuple(facts["names"]), facts["recipes"], made, facts["split"], facts["level"], facts["settle"],
        tuple(facts["looks"]), facts["machine"], facts["versions"], facts["ended"], facts.get("against"),
        facts.get("as_written", ""), tunings, facts.get("tuning_ended", ""), facts.get("interrupted", False),
    )  # fmt: skip


def _row(name: str, costs: Costs, metrics: Sequence[str]) -> tuple[str, ...]:
    best, last = ("-" if value is None else f"{value:.1%}" for value in (costs.best_epoch, costs.last_epoch))
    seconds = ["-" if value is None else duration(value) for value in (costs.to_target_s, costs.wall_s)]
    return (name, share(costs.accuracy), *shares(costs, metrics), costs.runs, best, last, *seconds, costs.memory)

"""The loop of a comparison: seed after seed, every candidate on each, until the seeds, the budget or the doubt are used up."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from descend.comparison.candidate import Candidate, candidates
from descend.comparison.result import Comparison
from descend.comparison.runs import Fit, Job, Made, job, make
from descend.data import Dataset
from descend.durations import duration
from descend.errors import KnobError, check_count
from descend.progress import Progress, Silent
from descend.quantities import seconds
from descend.stats import Spending
from descend.train import folder
from descend.train import record as records
from descend.train.prepare import Survey, prepare, survey
from descend.train.recipe import Recipe, dump
from descend.train.run_log import RunLog

ROOT, SHARED = "comparisons", "shared-runs"
"""Where comparisons lie by default, and beside them the runs that they share."""
FIRST_LOOK = 3  # seeds
MARGIN = 1.1  # of the time that the next seed is expected to take


@dataclass(frozen=True)
class Settings:
    """How a comparison is carried out.

    n_seeds: most seeds. budget: wall time of all runs, for example "30m", or None. until_decided: end at the first of the planned
    looks at which every verdict is known. jobs: runs at the same time, each in a process with its share of the processors.
    level: of all verdicts together. settle: the difference, in [0, 1], that is worth finding.
    """

    n_seeds: int = 5
    budget: str | None = None
    until_decided: bool = False
    jobs: int = 1
    level: float = 0.95
    settle: float = 0.005

    def __post_init__(self) -> None:
        check_count("compare", self.n_seeds, knob="seeds")
        check_count("compare", self.jobs, knob="jobs")
        if not 0 < self.level < 1:
            raise KnobError("compare", "level must lie in (0, 1)", got=self.level)
        if not 0 < self.settle < 1:
            raise KnobError("compare", "settle must lie in (0, 1), a share of the pictures", got=self.settle)
        if self.until_decided and self.n_seeds < FIRST_LOOK:
            raise KnobError("compare", "until_decided needs 3 seeds or more", got=self.n_seeds, fix="Raise --seeds.")

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """The numbers of seeds at which the comparison may end early; none unless asked for."""
        return Spending.between(FIRST_LOOK, self.n_seeds).looks if self.until_decided else ()


def compare(
    texts: Sequence[str], base: Recipe, settings: Settings, *, fit: Fit, resume: Fit, out: Path | None, progress: Progress,
    arrays: Any = None,
) -> Comparison:  # fmt: skip
    """Run every candidate on the same seeds, pictures and split, and return what came of it.

    texts: as in ``candidates``; the first is the one that the others are measured against. base: the recipe that they change,
    with the data and the first seed. arrays: data that is no path. out: the folder; default ``comparisons/NAME-DATE-TIME``. A run
    that was made before with the same settings, data and version is taken as it is, so a comparison that was interrupted goes on.
    Ctrl-C ends it with what is finished. Raises DescendErrors for what can be refused before the first run.
    """
    looked = LookedAt(base, arrays)
    chosen = candidates(texts, looked.base, looked.completed)
    return carried_out(chosen, looked, settings, fit=fit, resume=resume, out=out, progress=progress)


def carried_out(
    chosen: Sequence[Candidate], looked: LookedAt, settings: Settings, *, fit: Fit, resume: Fit, out: Path | None,
    progress: Progress, against: dict[str, str] | None = None, split: str | None = None,
) -> Comparison:  # fmt: skip
    """Run candidates that are known, and return what came of it; see ``compare``.

    against: what each is measured against, by default all others against the first. Where it is empty, none is measured against
    another: each runs on every seed, whichever fails. split: what is compared, by default test where there is one. Candidates
    that train the same are one run under several names.
    """
    base, dataset = looked.base, looked.dataset
    place, root = _place(out, dataset.name), shared_root(out)
    found = Comparison(
        place, dataset.name, tuple(candidate.name for candidate in chosen),
        {candidate.name: dump(candidate.recipe) for candidate in chosen},
        split=split or ("test" if len(dataset.indices("test")) else "val"), level=settings.level, settle=settings.settle,
        looks=settings.looks, machine=records.machine(), versions=dict(records.versions()), against=against,
    )  # fmt: skip
    chosen = [_with_threads(candidate, settings.jobs) for candidate in chosen]
    split_seed = None if dataset.given_split else base.seed
    jobs = [_jobs(chosen, base.seed + k, split_seed, root, dataset.fingerprint) for k in range(settings.n_seeds)]
    progress.say(f"comparing {len(chosen)} candidates on {dataset.name}, {settings.n_seeds} seeds; runs lie in {root}")
    _Loop(found, settings, jobs, progress, fit, resume, looked.arrays).run()
    found.save()
    return found


class LookedAt:
    """The data, looked at once, and what a recipe becomes for them."""

    def __init__(self, base: Recipe, arrays: Any) -> None:
        self.base, self.arrays = base, arrays
        self._surveys: dict[Recipe, Survey] = {}
        self._completed: dict[Recipe, Recipe] = {}

    @property
    def dataset(self) -> Dataset:
        """What is trained on and judged."""
        return self._survey(self.base).dataset

    def completed(self, recipe: Recipe) -> Recipe:
        """Return the recipe with its open settings decided, those that are measured on the data too."""
        if recipe not in self._completed:
            plan = self._survey(recipe).plan
            if plan.open_settings:
                plan = prepare(recipe, arrays=self.arrays, log=RunLog(writes=False), progress=Silent(), who="compare").plan
            self._completed[recipe] = plan.recipe()
        return self._completed[recipe]

    def _survey(self, recipe: Recipe) -> Survey:
        if recipe not in self._surveys:
            log = RunLog(writes=False)
            self._surveys[recipe] = survey(recipe, arrays=self.arrays, log=log, progress=Silent(), who="compare")
        return self._surveys[recipe]


class _Loop:
    """One seed after another. jobs: [seed][candidate]."""

    def __init__(
        self, found: Comparison, settings: Settings, jobs: list[list[Job]], progress: Progress, fit: Fit, resume: Fit, arrays: Any
    ) -> None:
        self.found, self.settings, self.jobs, self.progress = found, settings, jobs, progress
        self.how = {"fit": fit, "resume": resume, "data": arrays}
        self.started = time.perf_counter()
        self.budget_s = None if settings.budget is None else seconds(settings.budget, who="budget")
        self.alive = list(found.names)
        self.alone = not found.opposites  # none is measured against another

    def run(self) -> None:
        """Go on until there is a reason to end."""
        try:
            with self._workers() as work:
                for turn in range(len(self.jobs)):
                    self._seed(turn, work)
                    if reason := self._reason_to_end(turn + 1):
                        self.found.ended = reason
                        break
        except KeyboardInterrupt:
            self.found.ended = "stopped: the same command with the same --out goes on"

    def _seed(self, turn: int, work: Any) -> None:
        """Make the runs of one seed; which candidate goes first rotates, so that a machine that slows down favours nobody."""
        shift = turn % len(self.found.names)
        ordered = [*self.jobs[turn][shift:], *self.jobs[turn][:shift]]
        began = time.perf_counter()
        ordered = [item for item in ordered if item.candidate.name in self.alive]
        places = {item.place: item for item in reversed(ordered)}
        first = [item for item in ordered if places[item.place] is item]
        for made in chain(work(first), work([item for item in ordered if places[item.place] is not item])):
            self.found.made.append(made)
            self.found.save(judged=False)
            self.progress.say(f"  seed {made.seed}  {made.name}: {self._told(made)}")
            if made.status == "interrupted":
                raise KeyboardInterrupt
            if made.status == "failed" and not self.alone:  # it will fail on the next seed too
                self.alive.remove(made.name)
            if turn == 0:
                self._check_budget(time.perf_counter() - began)

    @contextmanager
    def _workers(self) -> Iterator[Any]:
        """Yield what makes runs: here, one after another, or in as many processes as there are jobs."""
        if self.settings.jobs == 1:
            yield lambda items: (make(item, **self.how) for item in items)
            return
        with ProcessPoolExecutor(self.settings.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield lambda items: pool.map(_make, items, [self.how] * len(items))

    def _told(self, made: Made) -> str:
        if made.status != "finished":
            return f"{made.status}{': ' * bool(made.error)}{made.error}"
        accuracy = self.found.accuracy_of(made)
        return f"{accuracy:.1%} of {self.found.split}, {duration(made.wall_s)}{' (made before)' * made.again}"

    def _check_budget(self, spent: float) -> None:
        """Refuse, after the first run, a budget that does not allow one run each."""
        if self.budget_s is None or len(self.found.made) > 1 or self.found.made[0].again:
            return
        need = spent * len(self.found.names)
        if need > self.budget_s:
            raise KnobError("budget", f"must allow one run of each candidate: about {duration(need, estimated=True)} here",
                            got=self.settings.budget, fix="Raise --budget, or lower epochs for all.")  # fmt: skip

    def _reason_to_end(self, n_seeds: int) -> str:
        pairs = self.found.opposites.items()
        if not self.alone and not any(name in self.alive and other in self.alive for name, other in pairs):
            return "ended: fewer than two candidates, or not the first one, can be trained"
        if self._decided(n_seeds):
            return f"ended after {n_seeds} seeds: every verdict is known"
        spent = time.perf_counter() - self.started
        if self.budget_s is not None and n_seeds < len(self.jobs) and spent * (1 + MARGIN / n_seeds) > self.budget_s:
            return f"ended after {n_seeds} seeds: another would exceed the budget of {self.settings.budget}"
        return ""

    def _decided(self, n_seeds: int) -> bool:
        return n_seeds in self.found.looks[:-1] and all(verdict.different for verdict in self.found.verdicts())


def _jobs(chosen: Sequence[Candidate], seed: int, split_seed: int | None, root: Path, data_fingerprint: str) -> list[Job]:
    """Return the jobs of one seed; those of the same settings have the same place, that of the first."""
    places: dict[Recipe, Path] = {}
    jobs: list[Job] = []
    for candidate in chosen:
        item = job(candidate, seed, split_seed, root, data_fingerprint)
        place = places.setdefault(item.candidate.recipe, item.place)
        jobs.append(dataclasses.replace(item, place=place))
    return jobs


def _make(item: Job, how: dict[str, Any]) -> Made:
    return make(item, **how)


def _with_threads(candidate: Candidate, n_jobs: int) -> Candidate:
    """Return the candidate with its share of the processors, written down: sums of floats depend on the number of threads."""
    if n_jobs == 1 or candidate.recipe.threads is not None:
        return candidate
    threads = max(1, (os.cpu_count() or 1) // n_jobs)
    return Candidate(candidate.name, dataclasses.replace(candidate.recipe, threads=threads))  # pyright: ignore[reportArgumentType] (a record is a dataclass)


def shared_root(out: Path | None) -> Path:
    """Return the folder of the runs that all comparisons beside ``out`` share."""
    return (Path(ROOT) if out is None else out.parent) / SHARED


def _place(out: Path | None, name: str) -> Path:
    """Return the comparison's folder, made where it is not there."""
    if out is None:
        return folder.create(None, name, root=ROOT)
    out.mkdir(parents=True, exist_ok=True)
    return out

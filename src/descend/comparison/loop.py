"""The loop of a comparison: seed after seed, every candidate on each, until the seeds, the budget or the doubt are used up."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from descend.comparison.candidate import Candidate, candidates
from descend.comparison.looked_at import LookedAt
from descend.comparison.result import Comparison, n_seeds_judged
from descend.comparison.runs import Fit, Job, Made, job, lost, made_before, make
from descend.comparison.search_space import Range, Values, applied, search_space
from descend.comparison.tuning import DEFAULT_TRIALS, FOLDER, SEED_OFFSET, Rounds, Tuning
from descend.comparison.work import Work, done_once
from descend.comparison.workers import workers
from descend.durations import duration
from descend.errors import DataError, KnobError, check_count
from descend.progress import Progress
from descend.quantities import seconds
from descend.stats import Spending, least_difference, least_seeds
from descend.train import folder
from descend.train import record as records
from descend.train.lock import in_use
from descend.train.ray_cluster import ray_package
from descend.train.recipe import USUAL, Recipe, dump

ROOT, SHARED = "comparisons", "shared-runs"
"""Where comparisons lie by default, and beside them the runs that they share."""
FIRST_LOOK = 3  # seeds
MARGIN = 1.1  # of the time that the next seed is expected to take
APART = 0.1  # of the pictures: a guess, before anything is known of two candidates


@dataclass(frozen=True)
class Settings:
    """How a comparison is carried out.

    n_seeds: most seeds. budget: wall time of all runs, for example "30m", or None. until_decided: end at the first of the planned
    looks at which every verdict is known. jobs: runs at the same time, each in a process with its share of the processors. on:
    "ray" for a cluster; None for this machine. level: of all verdicts together. settle: the difference, in [0, 1], that is worth
    finding. n_trials: of each candidate before they are compared; 0 compares them as written; None: 8 where a candidate names an
    optimizer without its rate, else 0. Raises KnobError, and MissingExtra where Ray is asked for and not installed.
    """

    n_seeds: int = 5
    budget: str | None = None
    until_decided: bool = False
    jobs: int = 1
    on: str | None = None
    level: float = 0.95
    settle: float = 0.005
    n_trials: int | None = None

    def __post_init__(self) -> None:
        check_count("compare", self.n_seeds, knob="seeds")
        if self.n_trials:
            check_count("compare", self.n_trials, knob="tune", least=2)  # the first trial is the candidate as written
        check_count("compare", self.jobs, knob="jobs")
        if self.on not in (None, "ray"):
            raise KnobError("compare", "on must be ray, or left out for this machine", got=self.on)
        if self.on == "ray":
            ray_package("compare")  # before anything is looked at
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
    if against != {} and looked.n_judged < 2:
        raise DataError("compare", "needs two independent pictures or more to judge on: those of one group, and copies, are one",
                        got=looked.n_judged, fix="Give a split with more groups in its test part.")  # fmt: skip
    tunings, n_trials, why = _tunings(settings, chosen, looked, free=against is None)
    with workers(settings.jobs, settings.on) as working:
        found = _begun(chosen, looked, settings, out, against=against, split=split, tunings=tunings, why=why)
        threaded = tuple(_with_threads(candidate, working.threads_per_job) for candidate in chosen)
        dataset, base = looked.dataset, looked.base
        split_seed = None if dataset.given_split else base.seed
        runs = _Runs(threaded, base.seed, split_seed, shared_root(out), dataset.fingerprint, looked.completed)
        seeds = f"{settings.n_seeds} seed{'s' * (settings.n_seeds > 1)}"
        first = f"comparing {len(chosen)} candidates on {dataset.name}, {seeds}; runs lie in {runs.root}"
        progress.say("; ".join(filter(None, (first, why, _precision(looked, settings) if against is None else ""))))
        for line in filter(None, (_too_few_seeds(found, settings), _looked_before(found, settings))):
            progress.say(line)
        if unequal := looked.unequal_modes(chosen):
            progress.say(unequal)
        _Loop(found, settings, runs, n_trials, progress, fit, resume, looked.arrays, working.work).run()
    found.save()
    return found


def _begun(
    chosen: Sequence[Candidate], looked: LookedAt, settings: Settings, out: Path | None, *, against: dict[str, str] | None,
    split: str | None, tunings: list[Tuning], why: str,
) -> Comparison:  # fmt: skip
    """Return the comparison before its first run, in a folder of its own."""
    dataset = looked.dataset
    return Comparison(
        _place(out, dataset.name), dataset.name, tuple(candidate.name for candidate in chosen),
        {candidate.name: dump(candidate.recipe) for candidate in chosen},
        split=split or ("test" if looked.has_test else "val"), level=settings.level, settle=settings.settle,
        looks=settings.looks, machine=records.machine(), versions=dict(records.versions()), against=against,
        as_written=why, tunings=tunings,
    )  # fmt: skip


def _precision(looked: LookedAt, settings: Settings) -> str:
    """Say beforehand what difference the pictures can settle, where it is larger than the one that is worth finding."""
    n_pictures = looked.n_judged
    least = least_difference(n_pictures, APART, settings.level)
    if least <= settings.settle:
        return ""
    what = "pictures" if looked.dataset.groups is None else "independent pictures"
    return (
        f"{n_pictures:,} {what} settle differences from about {100 * least:.1f} points on, however many seeds there are "
        f"(if candidates differ on {APART:.0%} of them), and {100 * settings.settle:.3g} points are asked for"
    )


def _too_few_seeds(found: Comparison, settings: Settings) -> str:
    """Say beforehand that so few seeds can hardly tell so many candidates apart, whatever they are worth; else ""."""
    n_verdicts, n = len(found.opposites), settings.n_seeds
    least = least_seeds(n_verdicts, settings.level) if n_verdicts else 0
    if not 1 < n < least:
        return ""
    return f"careful: {n} seeds can hardly tell {len(found.names)} candidates apart: take {least} or more (--seeds {least})"


def _looked_before(found: Comparison, settings: Settings) -> str:
    """Say beforehand that verdicts lie in the folder, where this adds seeds to them without planned looks; else ""."""
    n = n_seeds_judged(found.folder)
    if not 0 < n < settings.n_seeds or settings.looks:
        return ""
    return (
        f"careful: verdicts after {n} seed{'s' * (n > 1)} lie in {found.folder}: adding seeds until one pleases calls "
        "equal candidates different too often (compare --until-decided plans its looks beforehand)"
    )


def _tunings(
    settings: Settings, chosen: Sequence[Candidate], looked: LookedAt, *, free: bool
) -> tuple[list[Tuning], int, str]:  # fmt: skip
    """Return what is tuned, and with how many trials each; where nothing is, why. Raises KnobError for trials of no use.

    free: whether it may be decided here, where nothing was asked for.
    """
    asked = settings.n_trials
    if not (asked or (asked is None and free)):
        return [], 0, "compared as written: no tuning was asked for" if free else ""
    base = looked.base
    spaces = [search_space(one, base, looked.completed) for one in chosen]
    tunings = [
        Tuning(one.name, space, looked.completed(one.recipe).metric or USUAL["metric"], base.seed + SEED_OFFSET)
        for one, space in zip(chosen, spaces, strict=True)
    ]
    if asked and not looked.has_test:
        raise KnobError("compare", "tuning needs a test split: validation would both choose the knobs and compare them",
                        got=f"tune={asked}", fix="Give them a test split, or compare as written: --no-tuning.")  # fmt: skip
    if asked and not any(spaces):
        raise KnobError("compare", "tuning has no effect: no candidate leaves a knob open that has a range",
                        got=f"tune={asked}", fix="Leave the rate open (optimizer=adam), or give --no-tuning.")  # fmt: skip
    if asked:
        return tunings, asked, ""
    if not any(_leaves_its_rate_open(one, space, base) for one, space in zip(chosen, spaces, strict=True)):
        return [], 0, "compared as written: no candidate brings an optimizer without its rate (--tune N gives each N trials)"
    if not looked.has_test:
        return [], 0, "compared as written: without a test split, validation cannot choose knobs too"
    return tunings, DEFAULT_TRIALS, ""


def _leaves_its_rate_open(candidate: Candidate, space: tuple[Range, ...], base: Recipe) -> bool:
    return candidate.recipe.optimizer != base.optimizer and any(each.setting == "optimizer" for each in space)


@dataclass(frozen=True)
class _Runs:
    """Which runs a comparison consists of, and where they lie. seed: the first. root: of the runs that comparisons share."""

    candidates: tuple[Candidate, ...]
    seed: int
    split_seed: int | None
    root: Path
    data_fingerprint: str
    completed: Callable[[Recipe], Recipe]

    def of_seed(self, turn: int, tuned: dict[str, Candidate]) -> list[Job]:
        """Return the job of every candidate, as it was tuned, on the seed number ``turn``."""
        chosen = [tuned.get(one.name, one) for one in self.candidates]
        return _jobs(chosen, self.seed + turn, self.split_seed, self.root, self.data_fingerprint)

    def trial(self, candidate: Candidate, space: tuple[Range, ...], values: Values) -> Job:
        """Return the job of a trial."""
        one = self.tuned(candidate, space, values)
        return job(one, self.seed + SEED_OFFSET, self.split_seed, self.root / FOLDER, self.data_fingerprint)

    def tuned(self, candidate: Candidate, space: tuple[Range, ...], values: Values) -> Candidate:
        """Return a candidate with other values of its open knobs; the same one where they are as written."""
        if all(values[each.name] == each.written for each in space):
            return candidate
        return Candidate(candidate.name, applied(candidate.recipe, space, values, self.completed))


class _Loop:
    """Tuning, and then one seed after another."""

    def __init__(
        self, found: Comparison, settings: Settings, runs: _Runs, n_trials: int, progress: Progress, fit: Fit, resume: Fit,
        arrays: Any, work: Work,
    ) -> None:  # fmt: skip
        self.found, self.settings, self.runs, self.n_trials, self.progress = found, settings, runs, n_trials, progress
        self.work = work
        self.how = {"fit": fit, "resume": resume, "data": arrays}
        self.budget_s = None if settings.budget is None else seconds(settings.budget, who="budget")
        self.spent_on_tuning = 0.0
        self.tuned: dict[str, Candidate] = {}
        self.alive = list(found.names)
        self.alone = not found.opposites  # none is measured against another

    def run(self) -> None:
        """Go on until there is a reason to end."""
        try:
            self._tune()
            self.started = time.perf_counter()
            for turn in range(self.settings.n_seeds):
                self._seed(turn)
                if reason := self._reason_to_end(turn + 1):
                    self.found.ended = reason
                    break
        except KeyboardInterrupt:
            self.found.interrupted = True
            self.found.ended = "stopped: the same command with the same --out goes on"

    def _tune(self) -> None:
        """Give every candidate its trials, and the values that were best; say it, or say that there is no tuning."""
        if not self.n_trials:
            return
        found, share = self.found, self.n_trials / (self.n_trials + self.settings.n_seeds)
        self.progress.say(f"tuning each with {self.n_trials} trials on validation, the first as written; test is not looked at")
        for tuning in found.tunings:
            self.progress.say(f"  {tuning.name}: {', '.join(map(str, tuning.space)) or 'nothing that is open has a range'}")
        most_s = None if self.budget_s is None else share * self.budget_s
        rounds = Rounds(self.n_trials, most_s, self.settings.jobs, self.runs.trial)
        found.tuning_ended = rounds.run(
            found.tunings, self.runs.candidates, self.work, self.progress, self.how["data"], self._check_budget_of_trials
        )
        for tuning, candidate in zip(found.tunings, self.runs.candidates, strict=True):
            self.tuned[tuning.name] = self.runs.tuned(candidate, tuning.space, tuning.values)
            found.recipes[tuning.name] = dump(self.tuned[tuning.name].recipe)
            self.progress.say(f"  {tuning.text}")
        found.save(judged=False)

    def _check_budget_of_trials(self, spent: float) -> None:
        if not self.spent_on_tuning:
            n = sum(bool(tuning.space) for tuning in self.found.tunings)
            self._refuse_too_little(spent + spent / n * len(self.found.names), "one trial and one run")
        self.spent_on_tuning = spent

    def _seed(self, turn: int) -> None:
        """Make the runs of one seed; which candidate goes first rotates, so that a machine that slows down favors nobody."""
        shift, jobs = turn % len(self.found.names), self.runs.of_seed(turn, self.tuned)
        ordered = [*jobs[shift:], *jobs[:shift]]
        began = time.perf_counter()
        ordered = [item for item in ordered if item.candidate.name in self.alive]
        places = {item.place: item for item in reversed(ordered)}
        first = [item for item in ordered if places[item.place] is item]
        rest = [item for item in ordered if places[item.place] is not item]
        for item in first:
            if in_use(item.place):
                self.progress.say(f"  seed {item.seed}  {item.candidate.name}: another process is making this run: waiting")
        for made in chain(
            done_once(self.work, make, made_before, first, lost, **self.how),
            done_once(self.work, make, made_before, rest, lost, **self.how),
        ):
            self.found.made.append(made)
            self.found.save(judged=False)
            self.progress.say(f"  seed {made.seed}  {made.name}: {self._told(made)}")
            if made.status == "interrupted":
                raise KeyboardInterrupt
            if made.status == "failed" and not self.alone:  # it will fail on the next seed too
                self.alive.remove(made.name)
            if len(self.found.made) == 1 and not made.again:
                turns = math.ceil(len(first) / self.settings.jobs)  # the first of them has taken this long
                need = (time.perf_counter() - began) * turns
                self._refuse_too_little(self.spent_on_tuning + need, "one run")

    def _told(self, made: Made) -> str:
        if made.status != "finished":
            return made.failure if made.status == "failed" else made.status
        accuracy = self.found.accuracy_of(made)
        return f"{accuracy:.1%} of {self.found.split}, {duration(made.wall_s)}{' (made before)' * made.again}"

    def _refuse_too_little(self, need: float, of_what: str) -> None:
        """Refuse, as soon as it is known, a budget that does not allow this of each candidate. need: seconds."""
        if self.budget_s is not None and need > self.budget_s:
            raise KnobError("budget", f"must allow {of_what} of each candidate: about {duration(need, estimated=True)} here",
                            got=self.settings.budget, fix="Raise --budget, or lower epochs for all.")  # fmt: skip

    def _reason_to_end(self, n_seeds: int) -> str:
        pairs = self.found.opposites.items()
        if not self.alone and not any(name in self.alive and other in self.alive for name, other in pairs):
            return "ended: fewer than two candidates, or not the first one, can be trained"
        if self._decided(n_seeds):
            return f"ended after {n_seeds} seeds: every verdict is known"
        spent = time.perf_counter() - self.started
        expected = self.spent_on_tuning + spent * (1 + MARGIN / n_seeds)
        if self.budget_s is not None and n_seeds < self.settings.n_seeds and expected > self.budget_s:
            return f"ended after {n_seeds} seeds: another would exceed the budget of {self.settings.budget}"
        return ""

    def _decided(self, n_seeds: int) -> bool:
        """Whether this is a look, and more seeds would tell nothing."""
        if n_seeds not in self.found.looks[:-1]:
            return False
        return all(verdict.different or not self.found.goes_on(verdict.name) for verdict in self.found.verdicts())


def _jobs(chosen: Sequence[Candidate], seed: int, split_seed: int | None, root: Path, data_fingerprint: str) -> list[Job]:
    """Return the jobs of one seed; those of the same settings have the same place, that of the first."""
    places: dict[Recipe, Path] = {}
    jobs: list[Job] = []
    for candidate in chosen:
        item = job(candidate, seed, split_seed, root, data_fingerprint)
        place = places.setdefault(item.candidate.recipe, item.place)
        jobs.append(dataclasses.replace(item, place=place))
    return jobs


def _with_threads(candidate: Candidate, threads: int | None) -> Candidate:
    """Return the candidate with its share of the processors, written down: sums of floats depend on the number of threads."""
    if threads is None or candidate.recipe.threads is not None:
        return candidate
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

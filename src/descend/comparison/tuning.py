"""Equal tuning: every candidate gets the same number of trials, on validation only, before any of them is compared.

A trial is one training at full length with other values of the knobs that a candidate leaves open (``search_space``), on a seed
that no compared run has, scored on validation; the test split is not looked at. Trials go round by round, one of each candidate,
so that all have equally many when time is up. The first is the candidate as written. Half of them lie evenly in the ranges (a
Halton sequence), and Optuna's tree-structured Parzen estimator proposes the rest from what came before. The same seed gives the
same trials; those that were made before are read, so a comparison that was interrupted goes on.

Source: Bergstra, Bardenet, Bengio & Kegl 2011, NeurIPS 24; on equal budgets: Dodge et al. 2019, EMNLP-IJCNLP, 2185-2194.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import qmc

from descend.comparison.candidate import Candidate
from descend.comparison.runs import FAILED, Job, told
from descend.comparison.search_space import Range, Values
from descend.comparison.work import Work, done_once
from descend.durations import duration
from descend.errors import DescendError, MissingExtra
from descend.plain_data import finite
from descend.progress import Progress, Silent
from descend.train import evaluate, folder, metrics
from descend.train.prepare import prepare, threads
from descend.train.run_log import RunLog
from descend.train.training import TrainingResult, train

DEFAULT_TRIALS = 8
SEED_OFFSET = 1_000_000  # from the first seed of a comparison to that of its trials
FILE = "trial.json"
FOLDER = "trials"  # beside the runs


@dataclass(frozen=True)
class Trial:
    """One try of a candidate. number: from 0, which is the candidate as written. values: of the knobs that are tuned.

    score, loss: on validation, of the epoch that was kept; None where the training failed. wall_s: of the whole trial. again:
    whether it lay there already.
    """

    number: int
    values: Values
    score: float | None
    loss: float | None
    wall_s: float
    error: str = ""
    again: bool = False


@dataclass
class Tuning:
    """How a candidate was tuned. space: what. trials: in order. chosen: number of the trial whose values it has, or None.

    metric: of the score. seed: of every trial.
    """

    name: str
    space: tuple[Range, ...]
    metric: str
    seed: int
    trials: list[Trial] = field(default_factory=list)

    @property
    def chosen(self) -> int | None:
        """The trial with the best score; of equals, that with the lower loss, and then the earlier one. None where all failed."""
        scored = [trial for trial in self.trials if trial.score is not None]
        best = max(scored, key=lambda trial: (trial.score, -(trial.loss or 0.0), -trial.number), default=None)
        return None if best is None else best.number

    @property
    def values(self) -> Values:
        """The values that were chosen; as written where all trials failed."""
        return self.trials[self.chosen].values if self.chosen is not None else {each.name: each.written for each in self.space}

    @property
    def text(self) -> str:
        """What came of it, in one line."""
        if not self.space:
            return f"{self.name}: nothing to tune: it leaves no knob open that has a range"
        if self.chosen is None:
            return f"{self.name}: all {len(self.trials)} trials failed; compared as written"
        values = ", ".join(f"{name}={value:.3g}" for name, value in self.values.items())
        score, written = self.trials[self.chosen].score, self.trials[0].score
        before = "failed" if written is None else f"{written:.1%}"
        n = len(self.trials)
        if self.chosen == 0:
            return f"{self.name}: as written was the best of {n} trials: {values} ({score:.1%} of validation)"
        return f"{self.name}: {values}, the best of {n} trials ({score:.1%} of validation, as written {before})"

    def facts(self) -> dict[str, Any]:
        """Return it as plain data."""
        space, trials = ([dataclasses.asdict(each) for each in items] for items in (self.space, self.trials))
        return {
            "name": self.name, "space": space, "metric": self.metric, "seed": self.seed, "trials": trials,
            "chosen": self.chosen, "text": self.text,
        }  # fmt: skip


def loaded(facts: dict[str, Any]) -> Tuning:
    """Return the tuning that ``facts`` told."""
    space = tuple(Range(**each) for each in facts["space"])
    return Tuning(facts["name"], space, facts["metric"], facts["seed"], [Trial(**trial) for trial in facts["trials"]])


# ------------------------------------------------------------------------------------------------------------- one trial


def try_out(item: Job, *, data: Any = None) -> Trial:
    """Train once and score on validation, or read what lies there. What fails is told, never raised; values are the caller's."""
    before = tried_before(item)
    if before is not None:
        return before
    started = time.perf_counter()
    item.place.mkdir(parents=True, exist_ok=True)
    try:
        score, loss = _trained(item, data)
    except KeyboardInterrupt:
        raise
    except Exception as error:  # rates at the end of a range may well explode
        folder.write_text(item.place / FAILED, traceback.format_exc())
        return Trial(0, {}, None, None, time.perf_counter() - started, told(error))
    trial = Trial(0, {}, score, loss, time.perf_counter() - started)
    folder.write_json(item.place / FILE, finite({"score": score, "loss": loss, "wall_s": trial.wall_s}))
    return trial


def tried_before(item: Job) -> Trial | None:
    """Return the trial that lies there; None where it is not there, or damaged. Number and values are the caller's."""
    try:
        facts = json.loads((item.place / FILE).read_text(encoding="utf-8"))
        return Trial(0, {}, facts["score"], facts["loss"], facts["wall_s"], again=True)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def lost_trial(item: Job, why: str) -> Trial:  # noqa: ARG001 (as workers call it)
    """Return the trial whose process has died."""
    return Trial(0, {}, None, None, 0.0, why)


def _trained(item: Job, data: Any) -> tuple[float, float]:
    """Return metric and loss on validation of a training that leaves nothing else behind."""
    recipe = item.candidate.recipe
    with tempfile.TemporaryDirectory() as place, RunLog(out=Path(place) / "run") as log, threads(recipe.threads):
        setup = prepare(recipe, arrays=data, log=log, progress=Silent(), who="compare")
        result = train(setup)
        if result.failure is not None:
            raise result.failure
        if not result.finished:
            raise KeyboardInterrupt
        score = _on_validation(result)
    return score[setup.plan.metric], score["loss"]


def _on_validation(result: TrainingResult) -> Any:
    """Return the scores of the epoch that was kept."""
    setup, module = result.setup, result.setup.mode_task.module
    if result.best.state is not None:
        module.load_state_dict(result.best.state)
    rows = setup.dataset.indices("val")
    answers = evaluate.probabilities(module, setup.mode_task.inputs(rows))
    return metrics.score(answers, setup.dataset.labels[rows], copies=setup.dataset.copies(rows))


# ---------------------------------------------------------------------------------------------------------- all together


class Proposals:
    """Proposes the values of one candidate's trials, in order. The same seed and scores give the same values.

    Raises MissingExtra without Optuna.
    """

    def __init__(self, space: tuple[Range, ...], n_trials: int, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise MissingExtra("compare", "tuning needs optuna",
                               fix="Run pip install 'descend[tune]', or compare as written: --no-tuning.") from None  # fmt: skip
        self.space = space
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would tell that there is a study now
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=1))
        optuna.logging.set_verbosity(before)
        kinds = {True: optuna.distributions.IntDistribution, False: optuna.distributions.FloatDistribution}
        self._kinds = {each.name: kinds[each.whole](each.low, each.high, log=each.log) for each in space}
        n_even = n_trials // 2
        even = qmc.Halton(len(space), seed=seed)  # pyright: ignore[reportCallIssue] (called rng too since SciPy 1.15)
        for point in even.random(n_even):
            self._study.enqueue_trial(dict(zip(self._kinds, map(_scaled, point, space), strict=True)))
        self._asked: Any = None

    def propose(self, number: int) -> Values:
        """Return the values of trial ``number``."""
        self._asked = None
        if number == 0:
            return {each.name: each.written for each in self.space}
        self._asked = self._study.ask(self._kinds)
        return dict(self._asked.params)

    def tell(self, trial: Trial) -> None:
        """Take the score of the trial that was proposed last; a training that failed scores 0."""
        import optuna

        score = trial.score or 0.0
        if self._asked is not None:
            self._study.tell(self._asked, score)
        elif all(each.low <= trial.values[each.name] <= each.high for each in self.space):
            made = optuna.trial.create_trial(params=trial.values, distributions=self._kinds, value=score)
            self._study.add_trial(made)


def _scaled(share: float, each: Range) -> float | int:
    """Return the value that lies at ``share`` of a range."""
    value = each.low * (each.high / each.low) ** share if each.log else each.low + share * (each.high - each.low)
    return round(value) if each.whole else value


@dataclass(frozen=True)
class Rounds:
    """How tuning is carried out. n_trials: of each candidate, at most. most_s: seconds of all trials, or None.

    job: returns the job of a candidate, given its values. n_jobs: trials at the same time.
    """

    n_trials: int
    most_s: float | None
    n_jobs: int
    job: Callable[[Candidate, tuple[Range, ...], Values], Job]

    def run(
        self, tunings: Sequence[Tuning], candidates: Sequence[Candidate], work: Work, progress: Progress, data: Any,
        after_round: Callable[[float], None],
    ) -> str:  # fmt: skip
        """Make the trials and write them into ``tunings``; return why there are fewer than asked for, or "".

        after_round: is told the seconds of all trials so far. They count as they were written down, not as they pass when trials
        are read again: so a comparison that goes on ends its tuning where it did before.
        """
        open_ones = [(tuning, candidate) for tuning, candidate in zip(tunings, candidates, strict=True) if tuning.space]
        proposals = [Proposals(tuning.space, self.n_trials, tuning.seed) for tuning, _ in open_ones]
        spent = 0.0
        for number in range(self.n_trials):
            values = [proposal.propose(number) for proposal in proposals]
            jobs = [self._job(one, tuning.space, each) for (tuning, one), each in zip(open_ones, values, strict=True)]
            for (tuning, _), each, proposal, done in zip(open_ones, values, proposals, _tried(jobs, work, data), strict=True):
                trial = dataclasses.replace(done, number=number, values=each)
                tuning.trials.append(trial)
                proposal.tell(trial)
                progress.say(f"  trial {number + 1}  {tuning.name}: {_told(trial, tuning)}")
                spent += trial.wall_s / min(self.n_jobs, len(jobs))
            after_round(spent)
            if self.most_s is not None and number + 1 < self.n_trials and spent * (1 + 1 / (number + 1)) > self.most_s:
                return f"{number + 1} trials each instead of {self.n_trials}: more would exceed their part of the budget"
        return ""

    def _job(self, candidate: Candidate, space: tuple[Range, ...], values: Values) -> Job | Trial:
        """Return the job of a trial, or the trial that failed where a technique does not take these values together."""
        try:
            return self.job(candidate, space, values)
        except DescendError as error:
            return Trial(0, {}, None, None, 0.0, told(error))


def _tried(jobs: Sequence[Job | Trial], work: Work, data: Any) -> Iterator[Trial]:
    """Yield what came of every job, in their order."""
    made = done_once(work, try_out, tried_before, [each for each in jobs if isinstance(each, Job)], lost_trial, data=data)
    for each in jobs:
        yield next(made) if isinstance(each, Job) else each
    next(made, None)  # so that it can tidy up


def _told(trial: Trial, tuning: Tuning) -> str:
    values = ", ".join(f"{name}={value:.3g}" for name, value in trial.values.items())
    if trial.score is None:
        return f"{values}: failed: {trial.error.partition(chr(10))[0]}"
    before = " (made before)" * trial.again
    return f"{values}: {trial.score:.1%} {tuning.metric.replace('_', ' ')} on validation, {duration(trial.wall_s)}{before}"

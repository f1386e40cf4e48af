"""The runs of a comparison: every candidate on every seed, each in a folder named by its settings, so that none is made twice."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import json
import re
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from descend.available_memory import forget_peak, peak_bytes
from descend.comparison.candidate import Candidate
from descend.csv_table import as_read
from descend.data.split import linked
from descend.errors import DataError, DescendError, DivergenceError, RunError, causes
from descend.progress import Silent
from descend.train import folder, pictures, run_manifest
from descend.train import record as records
from descend.train.lock import in_use
from descend.train.recipe import USUAL, dump
from descend.train.record_types import Metric
from descend.train.run import Run

Fit = Callable[..., Run]
"""``descend.fit`` and ``descend.resume``; they stand above this package, so they are handed down."""

FAILED, MADE = "failed.txt", "made.json"
"""In the run's folder: what stopped it, and what making it took, for comparisons that take it as it is."""
KEY_LENGTH = 10  # hexadecimal digits
POLL_S = 1.0  # between two looks at whether a run is still being made by another process


@dataclass(frozen=True)
class Job:
    """One run to be made. place: its folder, below the one that all comparisons beside this one share.

    data_fingerprint: of the data that it is about, as they were when the comparison began; "" where nobody has looked.
    """

    candidate: Candidate
    seed: int
    place: Path
    data_fingerprint: str = ""


@dataclass(frozen=True)
class Made:
    """What became of a job.

    status: finished, failed or interrupted. wall_s: of the whole run. peak_bytes: of the process while it ran, None where this
    system does not tell. error: what stopped it. again: whether it lay there already. diverged: whether it failed because its
    gradients or its loss became NaN or infinite, as it would again.
    """

    name: str
    seed: int
    place: str
    status: str
    wall_s: float
    peak_bytes: int | None = None
    error: str = ""
    again: bool = False
    diverged: bool = False

    @property
    def failure(self) -> str:
        """What stopped a run that failed, in one line, and where its log is."""
        return f"failed: {self.error.partition(chr(10))[0]} (its log: {Path(self.place) / FAILED})"


def job(candidate: Candidate, seed: int, split_seed: int | None, root: Path, data_fingerprint: str) -> Job:
    """Return the job of a candidate and seed; its folder is named by its settings, its data and the version of descend.

    A run of the same that was made under another name is taken.
    """
    recipe = dataclasses.replace(candidate.recipe, seed=seed, split_seed=split_seed)  # pyright: ignore[reportArgumentType] (a record is a dataclass)
    facts = json.dumps([dump(recipe), data_fingerprint, records.versions()["descend"]])
    key = hashlib.blake2b(facts.encode(), digest_size=KEY_LENGTH // 2).hexdigest()
    name = re.sub(r"[^a-z0-9]+", "-", candidate.name.lower()).strip("-")[:40]
    place = next(root.glob(f"*-{key}"), root / f"{name}-{seed}-{key}")
    return Job(Candidate(candidate.name, recipe), seed, place, data_fingerprint)


def _is_of_other_data(item: Job, record: records.RunRecord) -> bool:
    """Return whether a run was made from other pictures, labels or splits than the comparison is about.

    A run with a budget may open fewer pictures, or seek no near copies among them: what it judged tells then (``outcomes``).
    """
    found = record.data_fingerprint
    return bool(item.data_fingerprint and found) and found != item.data_fingerprint and not record.plan.get("budget")


def make(item: Job, *, fit: Fit, resume: Fit, data: Any = None) -> Made:
    """Make a run, go on with one that was interrupted, or take the one that lies there. What fails is told, never raised.

    A run that another process is making, for a comparison beside this one, is waited for.
    data: arrays, where the recipe names no data. KeyboardInterrupt passes through when nothing of the run can be kept.
    """
    name, place = item.candidate.name, str(item.place)
    while True:
        while in_use(item.place):
            time.sleep(POLL_S)
        before = made_before(item)
        if before is not None:
            return before
        started = time.perf_counter()
        forget_peak()
        try:
            run = _made(item, fit, resume, data)
            if _is_of_other_data(item, run.record):
                raise DataError("compare", "the data must stay as they were when it began; they have changed since",
                                got=name, fix="Give the command again when they are as they will be.")  # fmt: skip
        except KeyboardInterrupt:
            raise
        except Exception as error:  # one candidate that cannot be trained must not cost the others
            if _was_quicker(item, error):
                time.sleep(POLL_S)
                continue
            _log_failure(item, traceback.format_exc())
            wall_s, diverged = time.perf_counter() - started, isinstance(error, DivergenceError)
            return _noted(Made(name, item.seed, place, "failed", wall_s, peak_bytes(), told(error), diverged=diverged))
        return _noted(Made(name, item.seed, place, run.record.status, sum(run.record.wall_s.values()), peak_bytes()))


def _was_quicker(item: Job, error: Exception) -> bool:
    """Return whether a run failed because another process has begun it since we looked."""
    begun = sys.platform != "win32" and (item.place / folder.RECORD).exists()  # there are no locks there to wait for
    refused = begun and isinstance(error, RunError) and error.who == "--out"
    return refused or _is_of_the_lock(error)


def _log_failure(item: Job, text: str) -> None:
    """Write down what stopped a run, where the disk takes it."""
    with contextlib.suppress(RunError, OSError):
        item.place.mkdir(parents=True, exist_ok=True)
        folder.write_text(item.place / FAILED, text)


def lost(item: Job, why: str) -> Made:
    """Return what became of a run whose process has died, and write down why."""
    _log_failure(item, why)
    return Made(item.candidate.name, item.seed, str(item.place), "failed", 0.0, None, why)


def told(error: Exception) -> str:
    """Return an error in words; one that descend did not raise on purpose, with its kind."""
    return str(error) if isinstance(error, DescendError) else f"{type(error).__name__}: {error}"


def _made(item: Job, fit: Fit, resume: Fit, data: Any) -> Run:
    if (item.place / folder.RECORD).exists() and not _lies_there_of_other_data(item):
        try:
            return resume(item.place, data=data, progress=Silent())
        except RunError as error:
            if _is_of_the_lock(error) or in_use(item.place) or _is_of_the_disk(error):  # the run itself may be whole
                raise
            shutil.rmtree(item.place)  # it stopped where nothing can be gone on with
    elif item.place.exists():
        shutil.rmtree(item.place)
    item.place.parent.mkdir(parents=True, exist_ok=True)
    return fit(data, recipe=item.candidate.recipe, out=item.place, progress=Silent(), command=["descend", "compare"])


def _lies_there_of_other_data(item: Job) -> bool:
    with contextlib.suppress(RunError, OSError):
        return _is_of_other_data(item, records.load(item.place))
    return False


def _is_of_the_disk(error: RunError) -> bool:
    """Return whether an error comes of a disk that is full, read-only or out of reach, and not of a file that is missing."""
    others = (FileNotFoundError, NotADirectoryError, BlockingIOError)
    return any(isinstance(cause, OSError) and not isinstance(cause, others) for cause in causes(error))


def _is_of_the_lock(error: Exception) -> bool:
    """Return whether an error comes of a lock that another process had, be it for the moment in which it asked for it."""
    return isinstance(error, RunError) and any(isinstance(cause, BlockingIOError) for cause in causes(error))


def _noted(made: Made) -> Made:
    """Write down what making a run took, where it need not be made again, and return it."""
    facts = dataclasses.asdict(made)
    if made.status == "finished" or made.diverged:
        with contextlib.suppress(RunError):  # a full disk: the run itself is there
            folder.write_json(
                Path(made.place) / MADE, {name: facts[name] for name in ("wall_s", "peak_bytes", "error", "diverged")}
            )
    return made


def made_before(item: Job) -> Made | None:
    """Return the run that lies there, finished or diverged; None where it must be made, or another process is making it."""
    if in_use(item.place):
        return None
    noted: dict[str, Any] = {}
    with contextlib.suppress(RunError, OSError):
        noted = folder.read_json(item.place / MADE)
    name, place = item.candidate.name, str(item.place)
    if noted.get("diverged"):
        return Made(name, item.seed, place, "failed", noted["wall_s"], noted["peak_bytes"], noted["error"], True, True)
    with contextlib.suppress(RunError, OSError):
        record = records.load(item.place)
        predictions = item.place / folder.PREDICTIONS
        of_these = record.status == "finished" and not _is_of_other_data(item, record)
        if of_these and predictions.exists() and not run_manifest.is_changed(predictions):
            wall_s = sum(record.wall_s.values())
            return Made(name, item.seed, place, "finished", wall_s, noted.get("peak_bytes"), again=True)
    return None


@dataclass(frozen=True)
class Right:
    """What a run has right of a split. answers: picture -> 1.0 or 0.0, of pictures with the same bytes and label only the first.

    label_of: picture -> its class, as this run knows it.
    unit_of: picture -> one that stands for all that belong with it (a group of the data, near copies), as this run knows them.
    """

    answers: dict[str, float]
    unit_of: dict[str, str]
    label_of: dict[str, str] = dataclasses.field(default_factory=dict)

    @cached_property
    def n_units(self) -> int:
        """How many pictures are independent of each other."""
        return len({*self.unit_of.values()})


def right(run: Path, split: str) -> Right:
    """Return what a run has right of a split that it was judged on. Raises RunError where the run is not there any more."""
    if not (run / folder.PREDICTIONS).exists():
        raise RunError(f"run {run}", f"must hold {folder.PREDICTIONS}: a comparison is told from its runs",
                       fix="Give the command of the comparison again: it makes what is missing.")  # fmt: skip
    folder.verify(run / folder.PREDICTIONS, f"Write it anew: descend fit --resume {shlex.quote(str(run))}.")
    with (run / folder.PREDICTIONS).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    known = {as_read(name): evidence for name, evidence in pictures.evidence_of(run).items()}  # as the predictions name them
    first = dict[tuple[str, str], str]()
    for row in rows:
        digest, _ = known.get(row["path"], (row["path"], None))
        first.setdefault((digest, row["label"]), row["path"])
    kept = {*first.values()}
    labels = {row["path"]: row["label"] for row in rows if row["path"] in kept}
    each = {row["path"]: float(row["label"] == row["predicted"]) for row in rows if row["path"] in kept}
    groups = [known[path][1] for path in each if path in known]
    if len(groups) < len(each) or None in groups:
        return Right(each, {path: path for path in each}, labels)
    digests = np.array([[*bytes.fromhex(known[path][0])] for path in each], np.uint8)
    units, standing = linked(digests, np.array(groups)).tolist(), dict[int, str]()
    return Right(each, {path: standing.setdefault(unit, path) for path, unit in zip(each, units, strict=True)}, labels)


@dataclass(frozen=True)
class Scores:
    """What a run's record holds of a split. chosen_by: the metric that chose its epoch. by_metric: scores in [0, 1] by name."""

    chosen_by: str
    by_metric: dict[str, float]


def scores_of(run: Path, split: str) -> Scores:
    """Return what a run scored on a split by each metric; no scores, and the usual metric, where its folder does not tell."""
    with contextlib.suppress(RunError, OSError):
        record = records.load(run)
        score: Mapping[str, Any] = (record.test if split == "test" else record.val) or {}
        by_metric = {metric: float(score[metric]) for metric in get_args(Metric) if metric in score}
        return Scores(str(record.plan.get("metric", USUAL["metric"])), by_metric)
    return Scores(USUAL["metric"], {})


def outcomes(answers: Mapping[Made, Right], together: Right | None = None) -> dict[str, NDArray[np.float64]]:
    """Return name -> (n_seeds, n_units) in [0, 1], the share that each run answered rightly of pictures that belong together.

    What is known does not grow by repeating a picture, so those of a group, and near copies, are one. together: the run that says
    which they are, by default the one that knows of most: a run with a budget of its own has no time to seek all near copies.
    Raises RunError where runs judged other pictures.
    """
    first = next(iter(answers.values()))
    for item, known in answers.items():
        if known.answers.keys() != first.answers.keys():
            raise RunError("compare", "all runs must have judged the same pictures", got=item.name,
                           fix="Candidates that see other pictures cannot be compared picture by picture.")  # fmt: skip
        if known.label_of != first.label_of:
            raise RunError("compare", "all runs must have judged the pictures by the same labels", got=item.name,
                           fix="Labels have changed since: leave the data as they are, and give the command again.")  # fmt: skip
    if together is None or together.answers.keys() != first.answers.keys():
        together = min(answers.values(), key=lambda known: known.n_units)
    columns = dict[str, int]()
    column = [columns.setdefault(together.unit_of[path], len(columns)) for path in first.answers]
    n, rows = np.bincount(column), dict[str, list[NDArray[np.float64]]]()
    for item, known in answers.items():
        right_in = np.bincount(column, [known.answers[path] for path in first.answers])
        rows.setdefault(item.name, []).append(right_in / n)
    return {name: np.array(each, np.float64) for name, each in rows.items()}

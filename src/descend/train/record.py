"""The run record: what happened, in one JSON file, so that a report or a comparison needs nothing else.

``record.json`` grows while the run goes on (status ``running``), so an interrupted run still says what it was doing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import shlex
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Predicate
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from descend.available_memory import peak_bytes
from descend.data import Dataset
from descend.errors import RunError
from descend.pixels import PixelPolicy
from descend.train import folder, metrics
from descend.train.calibration import calibrated
from descend.train.labels import LabelType
from descend.train.record_types import (
    Calibration,
    Chosen,
    ClassScore,
    Confused,
    CrossValidation,
    Decision,
    FrozenCheck,
    FrozenPart,
    GraphPart,
    HeadTrial,
    InitialRun,
    LoadedWeights,
    Machine,
    Mistake,
    NextStep,
    ParameterGroup,
    Preprocessing,
    Processes,
    Score,
    SearchStep,
    ShownAnswer,
    TestLook,
)
from descend.train.run_manifest import digest_of, run_of

PlainSetting = str | int | float | bool | list[str] | None
"""The value of a setting in JSON."""

Shares = Annotated[dict[str, float], Predicate(lambda shares: not shares or "all" in shares)]
"""Part of the network -> a share in it; that in ``all`` of them is among them."""

SCHEMA = 3
MOST_COUNTED = 5_000  # classes
DIGEST = "digest"  # the name of the entry that holds that of all others
PACKAGES = ("descend", "torch", "torchvision", "timm", "numpy", "pillow", "onnxruntime", "openvino", "scikit-learn")


@dataclass
class RunRecord:
    """Everything that is known of a run. Splits that were not looked at are None."""

    status: str = "running"  # running | interrupted | finished
    stopped_by: str = ""  # the error that ended the training; empty where none did
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    command: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)  # the data summary
    data_fingerprint: str = ""
    near_up_to: int | None = None  # pictures among which near copies were sought for the split; None: any number
    open_up_to: int | None = None  # pictures that were looked at, of more; None: any number
    classes: list[str] = field(default_factory=list)
    plan: dict[str, PlainSetting] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)  # other than descend's, whose techniques the plan holds
    chosen: Chosen | None = None  # None until something was trained
    preprocessing: Preprocessing | None = None  # None until the plan is made
    label_type: LabelType = "text"  # of the arrays that were trained on
    picture_shape: list[int] = field(default_factory=list)  # of one picture in those arrays; empty where there were none
    weights: LoadedWeights | None = None  # from a file of one's own
    init: InitialRun | None = None  # None where it began from no run
    frozen_part: FrozenPart | None = None  # what an engine computes before the part that trains; None where everything trains
    graph_parts: list[GraphPart] = field(default_factory=list)  # what quick answers are made from; empty where torch answers
    temperature: float = 1.0  # that validation asks for; all probabilities are told at it
    calibration: dict[str, Calibration] = field(default_factory=dict)  # split -> how far confidence can be trusted
    parameter_groups: list[ParameterGroup] = field(default_factory=list)
    frozen: FrozenCheck | None = None  # None where nothing is frozen
    head_trials: list[HeadTrial] = field(default_factory=list)  # of a head that was fitted, not trained
    cross_validation: CrossValidation | None = None  # ``val`` is of all that was trained on, out of fold; None without folds
    search: list[SearchStep] = field(default_factory=list)  # what ``auto`` tried, in order
    search_replayed: bool = False  # whether a recipe gave all its steps: it takes those and decides none
    search_ended: bool = False  # whether it came to its end: its steps, taken again, give the same model
    next_step: NextStep | None = None  # of a search that time ended; None where nothing more was worth its seconds
    budget_used_s: float = 0.0  # of a search's budget, by all its sessions
    choices_by_val: int = 0  # choices of a search that the validation split made: its accuracy flatters by them
    notes: list[str] = field(default_factory=list)  # on the training, to be told at the end: dropped steps, a loss that grew
    decisions: list[Decision] = field(default_factory=list)  # of a schedule that needs the history
    sparsity: Shares = field(default_factory=dict)  # of exact zeros, where a penalty makes them
    val: Score | None = None
    test: Score | None = None
    test_looks: list[TestLook] = field(default_factory=list)
    per_class: dict[str, list[ClassScore]] = field(default_factory=dict)  # split -> one entry per class
    confused: dict[str, list[Confused]] = field(default_factory=dict)  # split -> [true, predicted, pictures], where there are any
    confusion: dict[str, list[list[int]]] = field(default_factory=dict)  # split -> counts[true][predicted], of older versions
    mistakes: list[Mistake] = field(default_factory=list)
    shown: list[ShownAnswer] = field(default_factory=list)  # other answers that the report has pictures of
    estimate_s: float | None = None
    memory_bytes: int | None = None  # that a training step holds beside the weights, at least; None where none was taken
    wall_s: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)  # stage -> the most memory that the process had held by its end
    images_per_s: float | None = None
    rate_of: str = ""  # what ``images_per_s`` counts: features or training
    seed: int = 0
    n_threads: int = 0  # of torch, when it began; 0 in records of older versions
    processes: Processes | None = None  # that it began with; None where one process did
    departures: list[str] = field(default_factory=list)  # why bits may differ from those of a run that was never stopped
    versions: dict[str, str] = field(default_factory=lambda: dict(versions()))
    machine: Machine = field(default_factory=lambda: machine())
    metrics_digest: str = ""  # of metrics.jsonl, SHA-256, when training ended; empty while it runs and where there is none
    run_id: str = ""  # as in the run's manifest; empty in records of older versions
    schema: int = SCHEMA

    def save(self, run: Path) -> None:
        """Write the record and its digest into the run folder, atomically."""
        self.run_id = run_of(run)
        values = json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))
        folder.write_json(run / folder.RECORD, values | {DIGEST: _digest(values)})

    def metrics_are_changed(self, run: Path) -> bool:
        """Return whether ``metrics.jsonl`` is another than when training ended."""
        try:
            return bool(self.metrics_digest) and digest_of(run / folder.METRICS) != self.metrics_digest
        except OSError:
            return True

    def epoch_rows(self, run: Path) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl``, one per epoch. Raises RunError where they are not those that training wrote."""
        if self.metrics_are_changed(run):
            raise RunError(str(run / folder.METRICS), "must be as training wrote it: it is damaged or was edited",
                           fix=f"Write it anew: descend fit --resume {shlex.quote(str(run))}.")  # fmt: skip
        return folder.read_lines(run / folder.METRICS)

    def look_at_test(self, what: str) -> None:
        """Note one look at the test split: every look spends a little of its innocence."""
        self.test_looks.append({"when": datetime.now(UTC).isoformat(timespec="seconds"), "what": what})

    def without_test_split(self) -> str:
        """Return what a result without a test split has to admit, as the end of a sentence."""
        if self.search:
            n = self.choices_by_val
            return (
                f"and validation also made {n} choice{'s' * (n != 1)}, so this figure flatters a little"
                if n
                else ("but nothing was chosen by validation, so this figure is an honest estimate")
            )
        if self.head_trials:
            return "but nothing was chosen by validation, so this figure is an honest estimate"
        return "and validation also chose the epoch, so this figure flatters a little"

    @property
    def validated_by(self) -> str:
        """What ``val`` is measured on: ``validation``, or ``5 folds``."""
        return "validation" if self.cross_validation is None else f"{self.cross_validation['n_folds']} folds"

    def about_folds(self) -> str:
        """Return what a figure of folds means, as a sentence; empty without folds."""
        if self.cross_validation is None:
            return ""
        if self.init is not None and (n := self.init["n_seen"]):
            return f"The backbone had learned from {n:,} of these pictures, in the run that it began from: the figure flatters."
        return (
            "Every picture was answered by a head that was fitted without it, its copies and its group; the model that is kept "
            "was fitted on all of them, so the figure speaks of models like it, rather too low than too high."
        )

    def validation_rows(self, dataset: Dataset) -> NDArray[np.int64]:
        """Return the rows of a data set, split as in training, that validated the run: with folds, all that it was fitted on."""
        return dataset.indices("val" if self.cross_validation is None else "train")

    def as_split(self, dataset: Dataset) -> Dataset:
        """Return the run's own data set, as it is loaded, with the split of the training."""
        return dataset if self.cross_validation is None else dataset.pooled()

    def counts(self, split: str) -> NDArray[np.int64] | None:
        """Return how many pictures of each class were answered with each, (K, K) int64 by true class and answer.

        Of thousands of classes nearly all of these are 0, which is why the record holds the others alone. None where there are
        none, or more than 5,000 classes: 200 MB that nobody could look at.
        """
        if split in self.confused and len(self.classes) <= MOST_COUNTED:
            counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
            true, answered, n = np.array(self.confused[split], np.int64).reshape(-1, 3).T
            within = (true < len(counts)) & (answered < len(counts))
            counts[true[within], answered[within]] = n[within]
            return counts
        older = self.confusion.get(split)
        return np.array(older, np.int64) if older and len({len(row) for row in older}) == 1 else None

    def calibrated(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (n, K) at the run's temperature."""
        return calibrated(probabilities, self.temperature)

    def sure_answers(self, least: float) -> str:
        """Return what validation says of answers with a probability of ``least`` or more."""
        if "val" not in self.calibration:
            return "this run's probabilities are not calibrated: it was made by an older version, or has no validation split"
        curve = self.calibration["val"]["coverage"]
        n, right = curve[min(len(curve) - 1, math.ceil(least * (len(curve) - 1) - 1e-9))]
        if not n:
            return "on validation, no answer is that sure"
        share = metrics.interval_of_share(right / n, n, self.val)
        return (
            f"on validation, {n / curve[0][0]:.1%} of the answers are that sure, and {right / n:.1%} of those are right "
            f"(95% interval {share.low:.1%} to {share.high:.1%})"
        )

    def specs(self, setting: str) -> list[str]:
        """Return the spec texts of a setting of the plan, such as ``augment``; empty where it has none."""
        value = self.plan.get(setting)
        return value if isinstance(value, list) else [] if value is None else [str(value)]

    def preparation(self) -> Preprocessing:
        """Return how a picture becomes the network's input. Raises RunError for a run that stopped before it had a plan."""
        if self.preprocessing is None:
            raise RunError("run", "must have a plan", fix="It stopped before anything was decided: train it again.")
        return self.preprocessing

    def pixel_policy(self) -> PixelPolicy:
        """Return the scale, the background and the fit that the run's pictures were read with."""
        prepared = self.preparation()
        scale = prepared["scale"]
        return PixelPolicy(None if scale is None else (scale[0], scale[1]), prepared["background"], prepared["fit"])

    @property
    def split_seed(self) -> int:
        """The seed of the split: the run's own, unless the split had one."""
        chosen = self.plan.get("split_seed")
        return chosen if isinstance(chosen, int) else self.seed

    @property
    def split_rule(self) -> dict[str, Any]:
        """What the split of its pictures follows from, as ``data.load`` takes it."""
        rule = {"seed": self.split_seed, "near_up_to": self.near_up_to, "open_up_to": self.open_up_to}
        asked = {name: self.plan.get(name) for name in ("background", "fit")}  # near copies are sought on the background
        return rule if asked["background"] in (None, "auto") else rule | asked

    def add_wall(self, stage: str, seconds: float) -> None:
        """Add time to a stage, and note the memory held by its end; a resumed run adds up."""
        self.wall_s[stage] = round(self.wall_s.get(stage, 0.0) + seconds, 3)
        peak = peak_bytes()
        if peak is not None:
            self.peak_bytes[stage] = max(self.peak_bytes.get(stage, 0), peak)


def load(run: Path) -> RunRecord:
    """Read the record of a run folder. Raises RunError for a folder that holds none, or one of another version."""
    values = folder.read_json(run / folder.RECORD)
    digest = values.pop(DIGEST, None) if isinstance(values, dict) else None
    schema = values.get("schema") if isinstance(values, dict) else values
    if schema != SCHEMA:
        raise RunError(f"run {run}", f"must have a record of schema {SCHEMA}", got=schema, fix="It was made by another version.")
    if digest is not None and digest != _digest(values):  # records of older versions have none
        raise RunError(str(run / folder.RECORD), "must be as descend wrote it: it is damaged or was edited",
                       fix=f'Restore it from a copy; to open it as it is, delete its entry "{DIGEST}".')  # fmt: skip
    if digest is not None and values.get("run_id") and run_of(run) not in ("", values["run_id"]):
        raise RunError(str(run / folder.RECORD), "must be the record of this run: it was written for another one",
                       fix=f'Restore it from a copy; to open it as it is, delete its entry "{DIGEST}".')  # fmt: skip
    try:
        return _validated().validate_python(_as_called_now(values))
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(map(str, first["loc"]))
        raise RunError(f"run {run}", f"{folder.RECORD} must be as descend wrote it ({entry}: {first['msg']})") from None


def _as_called_now(values: Any) -> Any:
    """Return a record with the names of this version: earlier ones spelled gray and unlabeled in the British way.

    What is none stays as it is.
    """
    if not isinstance(values, dict):
        return values
    data, prepared = values.get("data"), values.get("preprocessing")
    if isinstance(data, dict) and "grey" in data:
        data["gray"] = data.pop("grey")
    told = data.get("problems") if isinstance(data, dict) else None
    for item in told if isinstance(told, list) else ():
        if isinstance(item, dict) and item.get("kind") == "unlabelled":
            item["kind"] = "unlabeled"
    if isinstance(prepared, dict) and prepared.get("background") == "grey":
        prepared["background"] = "gray"
    return values


def _digest(values: dict[str, Any]) -> str:
    """Return the SHA-256 digest of a record's values, in hexadecimal, however they are laid out; "" for what has none."""
    try:
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        return ""


@cache
def _validated() -> TypeAdapter[RunRecord]:
    return TypeAdapter(RunRecord)


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def machine() -> Machine:
    """Return what kind of machine this is; nothing that names it or its user."""
    return {"system": platform.system(), "processor": _processor(), "n_cpus": os.cpu_count(), "python": sys.implementation.name}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())

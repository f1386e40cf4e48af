"""What is written down while a run is made: its record and its recipe, in the run folder as soon as there is one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from descend.data import Dataset
from descend.errors import RunError
from descend.regular_files import read_text_bytes
from descend.technique import Technique, knobs
from descend.train import folder, pictures, record
from descend.train import recipe as recipes
from descend.train.callbacks import OnEpoch
from descend.train.lock import RunLock
from descend.train.pictures import Pictures
from descend.train.plan import Plan
from descend.train.record_types import Preprocessing
from descend.train.run import Run
from descend.train.tracking import Tracker
from descend.unfinished import sweep_unfinished


def _modules(value: object) -> Iterator[str]:
    """Yield the modules, other than descend's, that define the techniques in a value of a plan, those inside others too."""
    if isinstance(value, tuple):
        for item in value:
            yield from _modules(item)
    elif isinstance(value, Technique):
        if not type(value).__module__.startswith("descend."):
            yield type(value).__module__
        for knob in knobs(type(value)):
            yield from _modules(getattr(value, knob.name))


class RunLog:
    """The record of a run while it is made.

    A log without a folder times and records all the same, and writes nothing: for what prepares a run that is not to be made
    (a range test, a look at the loss). The folder is made when everything that can be refused has been checked.

    on_epoch: takes each epoch's row. tracker: is told of the run from its folder on, and of its end when the log is closed.
    folder: None until there is one. out: where it will be; None for ``runs/NAME-DATE-TIME``.
    """

    def __init__(
        self, *, out: Path | None = None, command: list[str] | None = None, writes: bool = True, on_epoch: OnEpoch | None = None,
        tracker: Tracker | None = None,
    ) -> None:  # fmt: skip
        self.folder: Path | None = None
        self.record = record.RunRecord(command=command or [])
        self._out, self._writes, self.on_epoch = out, writes, on_epoch
        self._tracker, self._is_tracked = tracker, False
        self._lock: RunLock | None = None
        self._pictures: Pictures | None = None
        self._corrections: bytes | None = None

    @classmethod
    def reopened(
        cls, path: Path, on_epoch: OnEpoch | None = None, *, writes: bool = True, tracker: Tracker | None = None
    ) -> RunLog:
        """Return the log of a run that goes on. Raises RunError where it is no run, or where another process has it.

        writes: False in a process that trains beside the one that writes: it takes no lock, and has no folder.
        """
        log = cls(on_epoch=on_epoch, writes=writes, tracker=tracker)
        log.record = record.load(path)  # a folder that is none of ours gets no lock
        if not writes:
            return log
        log._lock = RunLock(path)
        for place in (path, *(inner for inner in path.iterdir() if inner.is_dir())):  # snapshots, networks of a search
            sweep_unfinished(place)
        log.folder, log.record = path, record.load(path)
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Tell the tracker how the run ended, and give the lock of its folder back."""
        try:
            if self._is_tracked and self._tracker is not None and self.folder is not None:
                self._is_tracked = False
                self._tracker.ended(self.folder, self.record)
        finally:
            if self._lock is not None:
                self._lock.release()

    @property
    def each_epoch(self) -> OnEpoch | None:
        """What takes each epoch's row: the tracker, ``on_epoch``, or both."""
        listeners = [each for each in (self._tracker, self.on_epoch) if each is not None]
        if len(listeners) < 2:
            return listeners[0] if listeners else None

        def tell(row: dict[str, Any]) -> None:
            for each in listeners:
                each(dict(row))

        return tell

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's wall time to the record, also when it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.record.add_wall(stage, time.perf_counter() - started)

    def note_pictures(self, dataset: Dataset) -> None:
        """Remember the pictures that the run is about, for its folder."""
        self._pictures = pictures.of(dataset)

    def note_corrections(self, table: str) -> None:
        """Remember the table that has just corrected the data: the run keeps a copy, and goes on with that one."""
        self._corrections = read_text_bytes(Path(table))

    def begin(self, dataset: Dataset, plan: Plan, preprocessing: Preprocessing) -> None:
        """Write the complete recipe and the record's beginning; a run that has no folder yet gets one, with both inside."""
        self.record.status, self.record.stopped_by = "running", ""
        self.record.metrics_digest = ""
        self.record.seed = plan.seed
        self.record.data, self.record.data_fingerprint = dataset.summary(), dataset.fingerprint
        self.record.classes = list(dataset.classes)
        self.record.picture_shape = [] if dataset.pictures is None else [*dataset.pictures.shape[1:]]
        self.record.preprocessing = preprocessing
        self._note(plan)
        if self._writes and self.folder is None:
            self._create(dataset.name, plan)
        else:
            self.write_plan(plan)
        if self._tracker is not None and self.folder is not None and not self._is_tracked:
            self._tracker.started(self.folder, self.record)
            self._is_tracked = True

    def write_plan(self, plan: Plan) -> None:
        """Write the recipe and the record of a plan."""
        self._note(plan)
        if self.folder is not None:
            folder.write_text(self.folder / folder.RECIPE, recipes.dump(plan.recipe()))
        self.save()

    def _create(self, name: str, plan: Plan) -> None:
        """Let the run folder appear, locked, recipe and record inside."""

        def fill(place: Path) -> None:
            self._lock = RunLock(place)
            folder.check_free(place)  # nobody else has begun meanwhile
            folder.write_text(place / folder.RECIPE, recipes.dump(plan.recipe()))
            if self._pictures is not None:
                pictures.write(self._pictures, place)
            if self._corrections is not None:
                with folder.replacing(place / folder.CORRECTIONS) as part:
                    part.write_bytes(self._corrections)
            self.record.save(place)

        self.folder = folder.create(self._out, name, fill)
        if self._lock is not None:
            self._lock.folder = self.folder

    def _note(self, plan: Plan) -> None:
        self.record.plan = {name: list(v) if isinstance(v, tuple) else v for name, v in plan.describe().items()}
        self.record.reasons = plan.reasons
        self.record.modules = sorted({module for value in vars(plan).values() for module in _modules(value)})

    def save(self) -> None:
        """Write the record."""
        if self.folder is not None:
            self.record.save(self.folder)

    def failed(self, error: Exception) -> None:
        """Write down what stopped the run, where it has a folder that takes it: the error itself matters more."""
        self.record.status, self.record.stopped_by = "interrupted", str(error).partition("\n")[0]
        with suppress(RunError):
            self.save()

    def stopped(self) -> Run:
        """Return the run as it is after a Ctrl-C outside the training loop; what was computed lies in the cache."""
        assert self.folder is not None  # whoever asks has looked
        self.record.status = "interrupted"
        self.save()
        return Run(self.folder, self.record)

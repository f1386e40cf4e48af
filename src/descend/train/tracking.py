"""What programs that keep experiments (MLflow, TensorBoard) are told of a run: its settings, its epochs, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

from descend.errors import first_line
from descend.train.record import RunRecord
from descend.train.record_types import Metric


@runtime_checkable
class Tracker(Protocol):
    """Follows a run from its first setting to its end: ``descend.fit(..., tracker=descend.MLflow("ants and bees"))``.

    It is called in the process that writes the run folder. What it raises ends a training as an error of ``on_epoch`` does.
    """

    def started(self, run: Path, record: RunRecord) -> None:
        """Learn that the run folder is there, or that a run goes on; ``record.plan`` holds every setting."""
        ...

    def __call__(self, row: Mapping[str, Any]) -> object:
        """Take the row of an epoch (``EpochRow``); a search, and a head that is fitted in one go, have none."""
        ...

    def ended(self, run: Path, record: RunRecord) -> None:
        """Learn how it ended (``record.status``), after the report was written; an error's words are in ``record.stopped_by``.

        It is not called where ``started`` has raised.
        """
        ...


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = tuple(trackers)

    def started(self, run: Path, record: RunRecord) -> None:
        """Tell all. Where one raises, those before it learn that the run has ended."""
        for place, tracker in enumerate(self.trackers):
            try:
                tracker.started(run, record)
            except BaseException as error:
                why = first_line(error) if isinstance(error, Exception) else ""
                with suppress(Exception):  # the first error matters more
                    Trackers(self.trackers[:place]).ended(run, replace(record, status="interrupted", stopped_by=why))
                raise

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Tell all; each gets a row of its own."""
        for tracker in self.trackers:
            tracker(dict(row))

    def ended(self, run: Path, record: RunRecord) -> None:
        """Tell all. Raises the first error of one when all were told."""
        errors = list[Exception]()
        for tracker in self.trackers:
            try:
                tracker.ended(run, record)
            except Exception as error:  # whatever it raises, the others keep a record of their own
                errors.append(error)
        if errors:
            raise errors[0]


def results(record: RunRecord) -> dict[str, float]:
    """Return what came of a run, by name: ``result/val_accuracy``, ``result/test_accuracy_low`` (of its 95% interval), seconds.

    Shares in [0, 1], losses in nats, ``seconds/STAGE``.
    """
    found: dict[str, float] = {}
    for split, score in (("val", record.val), ("test", record.test)):
        if score is not None:
            found |= {f"result/{split}_{name}": float(score[name]) for name in (*get_args(Metric), "loss")}
            low, high = score["accuracy_interval"]
            found |= {f"result/{split}_accuracy_low": low, f"result/{split}_accuracy_high": high}
    return found | {f"seconds/{stage}": seconds for stage, seconds in record.wall_s.items()}


def search_curve(record: RunRecord) -> list[tuple[int, float]]:
    """Return whole seconds since a search began and the best accuracy by then, for each step after which it had an answer."""
    return [(round(step["ended_s"]), step["best_accuracy"]) for step in record.search if step["best_accuracy"] is not None]

"""The pictures that a run was trained on, found again with the split of the training."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from descend import data as data_package
from descend.data import Dataset
from descend.errors import DataError, KnobError
from descend.train.record import RunRecord


def as_in_training(
    record: RunRecord, data: Any, *, corrections: Path | None, outside: bool, threads: int | None = None
) -> Dataset | None:  # fmt: skip
    """Return ``data`` with the split of the training if they are the very pictures that the run was trained on, else None.

    Without this, measuring a run on its own flat folder would count the pictures that it has learned by heart. corrections: the
    run's own copy of the table that corrected them. Raises DataError where the data cannot be read.
    """
    try:
        dataset = data_package.load(data, **record.split_rule, outside=outside, corrections=corrections, threads=threads)
    except KnobError as error:  # the run's background or corrections, which have no effect on other pictures
        if error.who not in ("background", "corrections"):
            raise
        return None
    return record.as_split(dataset) if dataset.fingerprint == record.data_fingerprint else None


def of_training_or_other(
    record: RunRecord, data: Any, *, corrections: Path | None, outside: bool, threads: int | None = None
) -> Dataset:  # fmt: skip
    """Return ``data`` as in training if they are the run's own pictures, else split by the run's seed. Raises DataError."""
    with suppress(DataError):  # the run's corrections, of pictures that are not here; what others lack is told below
        own = as_in_training(record, data, corrections=corrections, outside=outside, threads=threads)
        if own is not None:
            return own
    rule = {name: value for name, value in record.split_rule.items() if name not in ("background", "fit")}
    return data_package.load(data, **rule, outside=outside, threads=threads)

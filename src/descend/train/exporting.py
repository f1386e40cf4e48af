"""A run as a file for others, held to the run's own answers on its validation pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data import Dataset, list_pictures
from descend.data.decode import decode
from descend.errors import DataError, KnobError, PictureError
from descend.export import (
    MAX_LOSS,
    N_CALIBRATION,
    SUFFIXES,
    AgreementReport,
    Format,
    QuantizedReport,
    export_file,
    export_int8,
)
from descend.models import Classifier, Ensemble
from descend.pixels import PixelPolicy
from descend.progress import Progress
from descend.train.own_data import as_in_training
from descend.train.record import RunRecord


def format_of(out: Path, format: Format | None = None) -> Format:
    """Return the format of a file: the one that is asked for, or that of its ending.

    Raises KnobError where the ending says another: whoever runs the file goes by that.
    """
    by_ending: Format | None = next((name for name, suffix in SUFFIXES.items() if suffix == out.suffix.lower()), None)
    if format is None and by_ending is None:
        raise KnobError("--out", f"must be the name of an ONNX file, ending in {SUFFIXES['onnx']}", got=str(out),
                        fix=f"Write {out.stem}{SUFFIXES['onnx']}. Torch's end in .pt2, OpenVINO's in .xml.")  # fmt: skip
    if format is not None and by_ending != format:
        raise KnobError("--out", f"must end in {SUFFIXES[format]} for the format {format}", got=str(out),
                        fix=f"Write {out.stem}{SUFFIXES[format]}.")  # fmt: skip
    return format or by_ending or "onnx"


def default_out(folder: Path, format: Format, *, int8: bool) -> Path:
    """Return the file in a run's folder that an export writes where none is named: model.onnx, model.pt2, model.int8.onnx, ..."""
    return folder / f"model{'.int8' * int8}{SUFFIXES[format]}"


@dataclass(frozen=True)
class Int8:
    """That convolutions and matrix products shall compute in 8 bits. max_loss: of accuracy on validation, a share of it."""

    max_loss: float = MAX_LOSS

    def __post_init__(self) -> None:
        """Refuse a loss that is no share."""
        if not 0 <= self.max_loss <= 1:
            raise KnobError("--max-loss", "must be a share of the pictures, in [0, 1]", got=self.max_loss, fix="Such as 0.02.")


def export(
    network: Classifier | Ensemble, record: RunRecord, out: Path, *, data: Any, check: Any, progress: Progress,
    corrections: Path | None = None, format: Format | None = None, int8: Int8 | None = None,
) -> AgreementReport | QuantizedReport:  # fmt: skip
    """Write a run's network as a file that answers as the run does; see ``Run.export`` and ``export_file``.

    data: what the run was trained on; corrections: of it. check: other pictures, or None for the validation split of the run.
    """
    format = format_of(out, format)
    check_int8(int8, format, check)
    prepared = record.preparation()
    holds: dict[str, Any] = {
        "size": prepared["size"], "resolution": prepared["resolution"], "classes": record.classes,
        "policy": record.pixel_policy(), "temperature": record.temperature,
    }  # fmt: skip
    if check is not None:
        return export_file(network, out, check_images=_given(check, holds["policy"]), format=format, **holds)
    dataset = _own(record, data, corrections)
    rows = record.validation_rows(dataset)
    if int8 is None:
        return export_file(network, out, check_images=_read(dataset, rows, holds["policy"], progress), format=format, **holds)
    train = dataset.indices("train")
    spread = train[np.unique(np.linspace(0, len(train) - 1, N_CALIBRATION).astype(np.int64))]  # some of every class
    learned = record.cross_validation is not None or "refit" in record.reasons
    return export_int8(
        network, out, calibration=_read(dataset, spread, holds["policy"], progress, "calibration"),
        pictures=_labelled(record, dataset, rows, progress), max_loss=int8.max_loss, learned=learned, **holds,
    )  # fmt: skip


def check_int8(int8: Int8 | None, format: Format, check: Any) -> None:
    """Raise KnobError where 8 bits cannot be had, or their loss not be measured."""
    if int8 is not None and format != "onnx":
        raise KnobError("--int8", "is for the format onnx", got=format, fix="Leave --format out, or --int8.")
    if int8 is not None and check is not None:
        raise KnobError("--check", "has no effect with --int8, whose loss is measured on the run's labeled validation split",
                        got=check, fix="Leave it out.")  # fmt: skip


def _labelled(
    record: RunRecord, dataset: Dataset, rows: NDArray[np.int64], progress: Progress
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Yield the readable pictures of rows, each with the column of its class in the run's answers."""
    columns = [record.classes.index(name) for name in dataset.classes]
    for done, row in enumerate(rows, start=1):
        progress.update("accuracy", done, len(rows))
        with suppress(PictureError):
            yield dataset.read(int(row)), columns[dataset.labels[row]]


def _own(record: RunRecord, data: Any, corrections: Path | None) -> Dataset:
    """Return the run's data, split as in training. Raises DataError where they are not at hand any more."""
    give_others = "Give others: --check FILES-OR-FOLDERS."
    if data is None:
        must = "needs the run's pictures to check the file on: they were given in Python, and no run keeps them"
        raise DataError("export", must, fix=f"Give them again, export(..., data=...). {give_others}")  # fmt: skip
    why = "they are not where they were, or have changed"
    outside = bool(record.plan.get("outside"))
    try:
        dataset = as_in_training(record, data, corrections=corrections, outside=outside)
    except DataError as error:
        dataset, why = None, str(error).rstrip(".")
    if dataset is None:
        raise DataError("export", f"needs the run's pictures to check the file on: {why}", fix=give_others)
    return dataset


def _read(
    dataset: Dataset, rows: NDArray[np.int64], policy: PixelPolicy, progress: Progress, stage: str = "check"
) -> Iterator[NDArray[np.uint8]]:
    named = ((dataset.source(int(row)), dataset.name_of(int(row))) for row in rows)
    return _decoded(named, policy, progress, len(rows), stage)


def _given(check: Any, policy: PixelPolicy) -> Iterator[NDArray[np.uint8]]:
    pictures = _decoded(((path, str(path)) for path in list_pictures(check)), policy)
    first = next(pictures, None)
    if first is None:
        raise DataError("export", "--check needs one readable picture or more", got=check)
    return chain([first], pictures)


def _decoded(
    sources: Iterable[tuple[Any, str]],
    policy: PixelPolicy,
    progress: Progress | None = None,
    total: int = 0,
    stage: str = "check",
) -> Iterator[NDArray[np.uint8]]:
    for done, (source, name) in enumerate(sources, start=1):
        if progress is not None:
            progress.update(stage, done, total)
        try:
            yield decode(source, name=name, policy=policy)
        except PictureError:  # predict names such files; here they only cannot serve as a check
            continue

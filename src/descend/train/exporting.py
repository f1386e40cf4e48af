"""A run as a file for others, held to the run's own answers on its validation pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend import data as data_package
from descend.data import list_pictures
from descend.data.decode import decode
from descend.errors import DataError, KnobError, PictureError
from descend.export import AgreementReport, export_onnx
from descend.models import Classifier, Ensemble
from descend.pixels import PixelPolicy
from descend.progress import Progress
from descend.train.record import RunRecord

SUFFIX = ".onnx"


def check_suffix(out: Path) -> None:
    """Raise KnobError unless a file's name says what it is: whoever runs it goes by that."""
    if out.suffix.lower() != SUFFIX:
        raise KnobError("--out", f"must be the name of an ONNX file, ending in {SUFFIX}", got=str(out),
                        fix=f"Write {out.stem}{SUFFIX}.")  # fmt: skip


def export(
    network: Classifier | Ensemble, record: RunRecord, out: Path, *, data: Any, check: Any, progress: Progress
) -> AgreementReport:
    """Write a run's network as an ONNX file that answers as the run does; see ``Run.export`` and ``export_onnx``.

    data: what the run was trained on. check: other pictures, or None for the validation split of the run.
    """
    check_suffix(out)
    prepared, policy = record.preparation(), record.pixel_policy()
    pictures = _given(check, policy) if check is not None else _validation(record, data, policy, progress)
    return export_onnx(
        network, out, size=prepared["size"], resolution=prepared["resolution"], classes=record.classes, check_images=pictures,
        policy=policy, temperature=record.temperature,
    )  # fmt: skip


def _validation(record: RunRecord, data: Any, policy: PixelPolicy, progress: Progress) -> Iterator[NDArray[np.uint8]]:
    """Return the pictures of the run's validation split. Raises DataError where they are not at hand any more."""
    outside = bool(record.plan.get("outside"))
    try:
        dataset = None if data is None else data_package.load(data, seed=record.split_seed, outside=outside)
    except DataError:
        dataset = None
    if dataset is None or dataset.fingerprint != record.data_fingerprint:
        raise DataError("export", "needs the run's pictures to check the file on: they are not where they were, or have changed",
                        fix="Give others: --check FILES-OR-FOLDERS.")  # fmt: skip
    dataset = record.as_split(dataset)
    rows = record.validation_rows(dataset)
    named = ((dataset.source(int(row)), dataset.name_of(int(row))) for row in rows)
    return _decoded(named, policy, progress, len(rows))


def _given(check: Any, policy: PixelPolicy) -> Iterator[NDArray[np.uint8]]:
    pictures = _decoded(((path, str(path)) for path in list_pictures(check)), policy)
    first = next(pictures, None)
    if first is None:
        raise DataError("export", "--check needs one readable picture or more", got=check)
    return chain([first], pictures)


def _decoded(
    sources: Iterable[tuple[Any, str]], policy: PixelPolicy, progress: Progress | None = None, total: int = 0
) -> Iterator[NDArray[np.uint8]]:
    for done, (source, name) in enumerate(sources, start=1):
        if progress is not None:
            progress.update("check", done, total)
        try:
            yield decode(source, name=name, policy=policy)
        except PictureError:  # predict names such files; here they only cannot serve as a check
            continue

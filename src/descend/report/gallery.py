"""Augmentation to look at: a few pictures as they are, each beside many draws with the numbers that were drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.augment import Augmentation, Pipeline
from descend.augment.factors import Draws
from descend.augment.label_safety import Safety, Trial
from descend.augment.mix import mix_targets, soften
from descend.data import Dataset, decode_resized
from descend.errors import DataError, KnobError, PictureError
from descend.outputs import write_page
from descend.percentages import percent
from descend.report import words
from descend.report.page import environment
from descend.train.evaluate import thumbnail

SHOWN_SIDE = 144  # pixels of a picture on the page
SHOWN_CLASSES = 12  # columns of the safety table: the classes with most flips
MOST_SIDE = 224


@dataclass(frozen=True)
class Drawn:
    """One augmented picture: base64 JPEG, and what was drawn, transform by transform."""

    jpeg: str
    parameters: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Shown:
    """One picture as it is, with its draws."""

    name: str
    label: str
    jpeg: str
    draws: tuple[Drawn, ...]


def pictures(
    dataset: Dataset, transforms: Sequence[Augmentation], *, n: int, n_draws: int, size: int | None, seed: int
) -> tuple[Shown, ...]:
    """Draw ``n_draws`` times for each of ``n`` training pictures, of every class in turn.

    size: side of the square output in pixels; by default the pictures' own, 224 at most. seed: of the draws, as in training.
    Mixing takes its partners among the pictures that are shown. Raises KnobError (a count below 1) and DataError (no picture can
    be decoded).
    """
    if n < 1 or n_draws < 1:
        raise KnobError("gallery", "needs one picture and one draw or more", got=f"{n} pictures, {n_draws} draws")
    side = size or min(dataset.shorter_side[1], MOST_SIDE)
    kept = list(decoded(dataset, side, n))
    if not kept:
        raise DataError("gallery", "needs one picture that can be decoded", got=dataset.name)
    rows, images = np.array([row for row, _ in kept]), np.stack([image for _, image in kept])
    levels = [transform for transform in transforms if transform.stages != {"normalize"}]  # a page shows levels
    pipe = Pipeline(levels, seed=seed, size=side, out="uint8")
    drawn = [list(_drawn(pipe, images, dataset, rows, draw)) for draw in range(n_draws)]
    return tuple(
        Shown(dataset.name_of(row), dataset.classes[dataset.labels[row]], thumbnail(image, SHOWN_SIDE), draws)
        for (row, image), draws in zip(kept, zip(*drawn, strict=True), strict=True)
    )


def decoded(dataset: Dataset, side: int, n: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the first n training pictures that can be decoded, one of each class and then over again."""
    train = dataset.indices("train")
    queues = [list(train[dataset.labels[train] == k]) for k in range(len(dataset.classes))]
    order = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    for row in map(int, order):
        try:
            image = decode_resized(dataset.source(row), side, name=dataset.name_of(row), policy=dataset.policy)
        except PictureError:
            continue
        yield row, image
        n -= 1
        if n == 0:
            return


def _drawn(pipe: Pipeline, images: NDArray[np.uint8], dataset: Dataset, rows: NDArray[np.int64], draw: int) -> Iterator[Drawn]:
    draws = pipe.draw(dataset.ids[rows], (images.shape[1], images.shape[2]), epoch=0, step=0, draw=draw)
    augmented = pipe.apply(images, draws).numpy()
    targets = _targets(draws, dataset, rows)
    for image, noted, target in zip(augmented, draws.describe(), targets, strict=True):
        yield Drawn(thumbnail(image, SHOWN_SIDE), (*captions(noted), *target))


def captions(noted: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (transform, its parameters in words) of one picture's description; what was not done is left out.

    >>> from descend.report.gallery import captions
    >>> list(captions({"rotate.degrees": -3.25, "flip.flipped": True, "random_erasing.erased": False, "random_erasing.top": 3}))
    [('rotate', 'degrees −3.25'), ('flip', '')]
    """
    streams: dict[str, dict[str, Any]] = {}
    for key, value in noted.items():
        stream, _, quantity = key.rpartition(".")
        if value is not None and quantity != "partner":  # a row of the batch says nothing to a reader; the target's shares do
            streams.setdefault(stream, {})[quantity.replace("_", " ")] = value
    for stream, values in streams.items():
        if not any(value is False for value in values.values()):  # a switch that is off makes the other numbers idle
            yield stream, ", ".join(f"{name} {_number(value)}" for name, value in values.items() if value is not True)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value + 0.0:.3g}".replace("-", "\N{MINUS SIGN}")  # adding zero turns a negative zero around
    if isinstance(value, list):
        return "(" + ", ".join(map(_number, value)) + ")"
    return str(value).replace("-", "\N{MINUS SIGN}")


def _targets(draws: Draws, dataset: Dataset, rows: NDArray[np.int64]) -> Iterator[list[tuple[str, str]]]:
    """Yield the shares of classes that each picture now stands for, if pictures were mixed."""
    if not draws.mixes:
        yield from ([] for _ in rows)
        return
    for shares in mix_targets(soften(dataset.labels[rows], len(rows), len(dataset.classes)), draws).tolist():
        named = [(share, name) for share, name in zip(shares, dataset.classes, strict=True) if share > 0]
        yield [("target", ", ".join(f"{percent(share)} {name}" for share, name in sorted(named, reverse=True)))]


def write(
    path: Path, name: str, transforms: Sequence[Augmentation], shown: Sequence[Shown], safety: Sequence[Safety] = ()
) -> None:
    """Write the page, atomically: the pictures, and how safe the transforms are where it was measured.

    path: the HTML file; the page loads nothing. name: of the data. Raises OutputError where it cannot be written.
    """
    page = environment().get_template("gallery.html").render(
        name=name, transforms=list(map(str, transforms)), shown=shown, words=words, tables=[_table(item) for item in safety],
        tolerance=safety[0].tolerance if safety else 0.0,
    )  # fmt: skip
    write_page(path, page)


def _table(safety: Safety) -> dict[str, Any]:
    """Return one transform's flips: a row for each strength, a column for each class, the most flipped classes first."""
    totals: dict[str, int] = {}
    for trial in safety.trials:
        for flips in trial.classes:
            totals[flips.label] = totals.get(flips.label, 0) + flips.k
    ordered = sorted(totals, key=lambda label: -totals[label])
    chosen = [label for label in totals if label in ordered[:SHOWN_CLASSES]]
    return {
        "advice": safety.advice(),
        "safe": not any(trial.unsafe(safety.tolerance) for trial in safety.trials),
        "classes": chosen,
        "n_left_out": len(ordered) - len(chosen),
        "rows": [_row(trial, chosen, safety.tolerance) for trial in safety.trials],
    }


def _row(trial: Trial, chosen: Sequence[str], tolerance: float) -> dict[str, Any]:
    by_label = {flips.label: flips for flips in trial.classes}
    unsafe = {flips.label for flips in trial.unsafe(tolerance)}
    cells = [{"share": by_label[label].share(), "to": by_label[label].to, "unsafe": label in unsafe} for label in chosen]
    return {"transform": str(trial.transform), "overall": trial.overall, "cells": cells}

"""All checks of a data set, one after another, and what they found together."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from descend import data as data_package
from descend.audit import classes, copies, files, label_errors, outliers, plain, squares, storage
from descend.audit.deep import look_deeper
from descend.audit.material import Material, looked_at
from descend.data.corrections import Correction, paths_meant, read_corrections
from descend.data.places import is_folder
from descend.errors import DataError
from descend.findings import Finding, is_clean
from descend.pandas_frames import pandas_for
from descend.plain_data import finite
from descend.progress import Progress, Silent
from descend.train.recipe import from_arguments

SCHEMA = "descend.scan/1"
"""Of ``Audit.describe``; a key that changes its meaning or goes away raises the number."""

Check = Callable[[Material], list[Finding]]

CHECKS: dict[str, Check] = {
    files.UNREADABLE: files.unreadable,
    files.PASSED_OVER: files.passed_over,
    files.SOURCE: files.source,
    copies.COPIES: copies.copies,
    copies.LEAKAGE: copies.leakage,
    copies.CONFLICTS: copies.conflicts,
    classes.CHECK: classes.classes,
    squares.SIZES: squares.sizes,
    squares.SHAPES: squares.shapes,
    storage.MODES: storage.modes,
    storage.DEPTHS: storage.depths,
    storage.ENDINGS: storage.endings,
    plain.CHECK: plain.uniform,
    outliers.CHECK: outliers.outliers,
    label_errors.CHECK: label_errors.label_errors,
}
"""Every check, in the order in which they run and are shown; a new one is its file and its line here."""

FEW = 1000  # pictures: up to here a network looks at them unasked, which takes half a minute on two cores
LEAST_SIDE = 32  # pixels: smaller pictures say too little to a network that was trained on photographs


@dataclass(frozen=True)
class Audit:
    """What all checks found in a data set.

    material: what was looked at. findings: in the order of ``CHECKS``. deep: whether a pretrained network has looked. wall_s:
    seconds of each check.
    """

    material: Material = field(repr=False)
    findings: tuple[Finding, ...]
    wall_s: Mapping[str, float]

    @property
    def data(self) -> str:
        """The name of the data set."""
        return self.material.dataset.name

    @property
    def n_pictures(self) -> int:
        """How many labeled pictures were looked at."""
        return len(self.material.dataset)

    @property
    def deep(self) -> bool:
        """Whether a pretrained network has looked at the pictures."""
        return self.material.deep is not None

    @property
    def clean(self) -> bool:
        """Whether no check has a finding; notes do not count."""
        return is_clean(self.findings)

    def describe(self) -> dict[str, Any]:
        """Return everything as plain data for JSON; numbers that are not finite become null."""
        return finite({
            "schema": SCHEMA, "status": "clean" if self.clean else "findings", "data": self.data, "n_pictures": self.n_pictures,
            "deep": self.deep, "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "wall_s": dict(self.wall_s),
        })  # fmt: skip

    def columns(self) -> dict[str, list[Any]]:
        """Return one value for each of N pictures, by name; None where there is none.

        path, class, split; width, height (pixels, as stored), mode, format, bits; family: a number that copies and near copies
        share; uniform; and, after a deep look, rather (the likeliest class, out of fold) and label_probability.
        """
        material = self.material
        dataset, looks = material.dataset, material.seen.rows
        every = range(len(dataset))
        uniform = np.zeros(len(dataset), np.bool_)
        uniform[material.uniform] = True
        columns: dict[str, list[Any]] = {
            "path": [dataset.name_of(row) for row in every],
            "class": [material.label_of(row) for row in every],
            "split": [material.split_of(row) for row in every],
            "width": dataset.sizes[:, 0].tolist(), "height": dataset.sizes[:, 1].tolist(),
            "mode": [mode.decode() or None for mode in looks["mode"].tolist()],
            "format": [kind.decode() or None for kind in looks["format"].tolist()],
            "bits": [bits or None for bits in looks["bits"].tolist()],
            "family": material.family.tolist(), "uniform": uniform.tolist(),
        }  # fmt: skip
        if material.deep is not None:
            rows, p = material.deep.rows.tolist(), material.deep.probabilities
            rather = dict(zip(rows, (dataset.classes[k] for k in p.argmax(axis=1)), strict=True))
            certain = dict(zip(rows, p[np.arange(len(rows)), dataset.labels[rows]].tolist(), strict=True))
            columns |= {"rather": [rather.get(row) for row in every], "label_probability": [certain.get(row) for row in every]}
        return columns

    def frame(self) -> Any:
        """Return ``columns`` as a pandas data frame. Raises MissingExtra without pandas."""
        return pandas_for("frame", instead="columns() needs nothing").DataFrame(self.columns())


def scan(
    data: Any, *, deep: bool | None = None, outside: bool = False, corrections: str | Path | None = None,
    threads: int | None = None, seed: int = 0, progress: Progress | None = None,
) -> Audit:  # fmt: skip
    """Look at every picture of a data set, and say what its owner should know before training on it.

    data: as for ``descend.fit``. deep: whether a pretrained network looks too, for outliers and likely label errors; None: where
    there are at most 1,000 pictures of 32 pixels or more. outside: a table may name pictures that do not lie below its
    folder. corrections: a table whose decisions are applied first, as ``fit`` does; labels that it keeps are not doubted again.
    seed: of the split that ``fit`` would make. threads: None for one per CPU. Nothing is changed and nothing written but what
    every run caches. Raises DataError where ``fit`` would refuse the data.

    >>> import descend
    >>> descend.scan("digits").clean
    True
    """
    progress = progress or Silent()
    decided = [] if corrections is None else read_corrections(Path(corrections))
    if all(item.action == "keep" for item in decided):
        corrections = None  # nothing to apply
    settings = {"transfer": "features", "seed": seed, "threads": threads, "outside": outside or None, "corrections": corrections}
    recipe, arrays = from_arguments(data, None, settings)
    source = recipe.data if arrays is None else arrays
    if source is None:
        raise DataError("scan", "needs DATA: a folder, a table, or the name of a built-in set", fix="Try: descend scan digits")
    started = time.perf_counter()
    dataset = data_package.load(
        source, seed=seed, outside=outside, corrections=corrections, threads=threads, progress=progress.update
    )
    folder = dataset.root if isinstance(source, str) and is_folder(Path(source)) else None  # of zips: what they hold
    material = replace(looked_at(dataset, folder, threads=threads, progress=progress), confirmed=_confirmed(dataset, decided))
    if deep is None:
        deep = len(dataset) <= FEW and dataset.shorter_side[1] >= LEAST_SIDE
    walls = {"looks": time.perf_counter() - started}
    if deep:
        started = time.perf_counter()
        material = replace(material, deep=look_deeper(recipe, arrays, progress))
        walls["network"] = time.perf_counter() - started
    return checked(material, walls)


def _confirmed(dataset: data_package.Dataset, decided: Sequence[Correction]) -> frozenset[str]:
    """Return the names of the pictures whose labels somebody has looked at. Raises DataError for one that there is not."""
    path_of = paths_meant(dataset.names, "corrections")
    return frozenset(path_of(item.path) for item in decided if item.action == "keep")


def checked(material: Material, walls: Mapping[str, float] = {}) -> Audit:
    """Run every check."""
    findings, seconds = list[Finding](), dict(walls)
    for name, check in CHECKS.items():
        started = time.perf_counter()
        findings += check(material)
        seconds[name] = time.perf_counter() - started
    return Audit(material, tuple(findings), seconds)

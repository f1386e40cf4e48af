"""All checks of a run, one after another, and what they found together."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from descend.doctor import (
    frozen,
    gradient_check,
    initial_loss,
    label_signal,
    layers,
    overfit,
    pairs,
    penalties,
    pipeline,
    throughput,
    updates,
)
from descend.doctor.contact_sheet import check_sheet_path, write_contact_sheet
from descend.doctor.subject import Subject, prepare_subject
from descend.errors import DescendError
from descend.findings import Finding, is_clean
from descend.plain_data import finite
from descend.progress import Progress, Silent
from descend.train.fit_settings import FitSettings
from descend.train.prepare import threads
from descend.train.recipe import Recipe, from_arguments

SCHEMA = "descend.doctor/1"
"""Of ``Diagnosis.describe``; a key that changes its meaning or goes away raises the number."""

Check = Callable[[Subject], list[Finding]]
"""Looks at one thing of a subject, which is afterwards what it was before."""

CHECKS: dict[str, Check] = {
    pipeline.CHECK: pipeline.input_pipeline,
    label_signal.CHECK: label_signal.label_signal,
    initial_loss.CHECK: initial_loss.initial_loss,
    overfit.CHECK: overfit.overfit,
    gradient_check.CHECK: gradient_check.gradient_check,
    updates.CHECK: updates.updates,
    layers.ACTIVATIONS: layers.activations,
    layers.GRADIENTS: layers.gradients,
    layers.DEAD: layers.dead_units,
    frozen.CHECK: frozen.frozen_parts,
    penalties.CHECK: penalties.penalties,
    throughput.CHECK: throughput.throughput,
    pairs.CHECK: pairs.pairs,
}
"""Every check, in the order in which they run and are shown; a new one is its file and its line here."""


@dataclass(frozen=True)
class Diagnosis:
    """What all checks found.

    data: name of the data set. plan: the settings that were examined, as text. notes: how these differ from what ``fit`` would
    do. n_pictures: looked at. sheet: the contact sheet, where one was written. wall_s: seconds of each check.
    """

    data: str
    plan: Mapping[str, Any]
    notes: tuple[str, ...]
    n_pictures: int
    findings: tuple[Finding, ...]
    wall_s: Mapping[str, float]
    sheet: Path | None = None

    @property
    def healthy(self) -> bool:
        """Whether no check has a finding; notes do not count."""
        return is_clean(self.findings)

    def describe(self) -> dict[str, Any]:
        """Return everything as plain data for JSON; numbers that are not finite become null."""
        return finite({
            "schema": SCHEMA, "status": "healthy" if self.healthy else "findings", "data": self.data, "plan": dict(self.plan),
            "notes": list(self.notes), "n_pictures": self.n_pictures,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "sheet": None if self.sheet is None else str(self.sheet), "wall_s": dict(self.wall_s),
        })  # fmt: skip


def diagnose(
    data: Any = None,
    *,
    recipe: Recipe | Mapping[str, Any] | Path | str | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
    **settings: Unpack[FitSettings],
) -> Diagnosis:
    """Examine the run that ``descend.fit`` would make with the same arguments, in under a minute, on a handful of pictures.

    data, recipe, settings: as for ``descend.fit``. out: where the contact sheet goes, a PNG; None writes none. Nothing else is
    written but what every run caches. Raises what ``descend.fit`` would raise: DataError, KnobError, SpecError, ModelError.

    >>> import descend
    >>> descend.diagnose("digits", backbone="smallcnn(width=4)").healthy
    True
    """
    if out is not None:
        check_sheet_path(Path(out))
    asked, arrays = from_arguments(data, recipe, settings)
    with threads(asked.threads):
        subject = prepare_subject(asked, arrays=arrays, progress=progress or Silent())
        if out is not None:
            write_contact_sheet(subject, Path(out))
        return dataclasses.replace(examine(subject, progress or Silent()), sheet=None if out is None else Path(out))


def examine(subject: Subject, progress: Progress) -> Diagnosis:
    """Run every check; one that cannot be carried out because training fails is a finding itself."""
    findings, walls = list[Finding](), dict[str, float]()
    for name, check in CHECKS.items():
        progress.say(f"checking: {name}")
        started = time.perf_counter()
        try:
            findings += check(subject)
        except Exception as error:  # techniques of one's own may raise anything, and every other check still has its say
            failed = _failed(name, error)
            if failed.what not in {finding.what for finding in findings}:  # checks share a trial: it fails once
                findings.append(failed)
        walls[name] = time.perf_counter() - started
    dataset = subject.builder.dataset
    return Diagnosis(dataset.name, subject.plan.describe(), subject.notes, len(dataset), tuple(findings), walls)


def _failed(check: str, error: Exception) -> Finding:
    kind = type(error).__name__
    if isinstance(error, DescendError):
        return Finding(check, "finding", str(error), {"error": kind}, error.fix)
    what = f"the training fails here: {kind}: {str(error).splitlines()[0] if str(error) else ''}"
    return Finding(check, "finding", what, {"error": kind, "message": str(error)}, "Look at techniques of your own first.")

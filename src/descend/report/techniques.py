"""Every technique that a run's plan holds, or that its search used, with all its knobs and the papers behind it."""

from __future__ import annotations

from descend.augment import Augmentation
from descend.models import Architecture
from descend.optim import GradientStage, Rule
from descend.regularize import Regularizer
from descend.report import papers
from descend.report.search_techniques import of_search
from descend.report.technique_rows import Used, of_text
from descend.schedule import Schedule
from descend.technique import Technique
from descend.train.record import RunRecord
from descend.transfer import Head

FAMILIES: dict[str, type[Technique]] = {
    "backbone": Architecture, "head": Head, "augment": Augmentation, "regularize": Regularizer, "optimizer": Rule,
    "gradients": GradientStage, "schedule": Schedule,
}  # fmt: skip
"""Setting of the plan -> the family that its texts name techniques of."""


def used(record: RunRecord) -> list[Used]:
    """Return the techniques of a run's plan in the plan's order, those inside others after them, then those of its search.

    One that is not known here (another version's, or one's own that is not imported) is shown by its text alone.
    """
    planned = [
        item
        for setting, family in FAMILIES.items()
        for text in record.specs(setting)
        if text and text != "auto"
        for item in of_text(setting, text, family)
    ]
    return [*planned, *of_search(record)]


def bibtex(record: RunRecord, found: list[Used]) -> str:
    """Return the papers behind a run's techniques and behind the figures of its report, as BibTeX."""
    of_report = [key for part, key in papers.MEASURES.items() if part == "interval" or _has(record, part)]
    return papers.bibtex([*(key for item in found for key in item.keys), *of_report])


def _has(record: RunRecord, part: str) -> bool:
    """Return whether a report shows a part that has a paper of its own."""
    if part == "looked":
        return any("looked" in item for item in record.mistakes)
    return bool(record.calibration)

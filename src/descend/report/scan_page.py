"""The page of ``descend scan``: what was found in a data set, with the pictures that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.data import Dataset, decode_resized
from descend.errors import PictureError
from descend.findings import Finding, cell, verdict
from descend.outputs import write_page
from descend.report.page import environment
from descend.train.evaluate import thumbnail

if TYPE_CHECKING:
    from descend.audit import Audit  # it trains heads: only its results come here

MOST_SHOWN = 24  # rows of a finding that are shown with their pictures
THUMBNAIL = 128  # pixels
LARGE = 512  # pixels along the longer side, from which a picture is padded to a square while it is decoded
PICTURES = (("picture", "class", "split"), ("like", "its_class", "its_split"))  # columns of a table: a name, and its caption
SEVERITIES = {"finding": "Findings", "note": "Worth knowing", "ok": "As it should be"}


def write_scan(path: Path | str, audit: Audit) -> None:
    """Write the page, atomically; it loads nothing. Raises OutputError where it cannot be written.

    path: the HTML file.
    """
    dataset = audit.material.dataset
    rows = {dataset.name_of(row): row for row in range(len(dataset))}
    sections = [
        (title, [_described(finding, dataset, rows) for finding in audit.findings if finding.severity == severity])
        for severity, title in SEVERITIES.items()
    ]
    page = environment().get_template("scan.html").render(
        name=audit.data, n=audit.n_pictures, n_classes=len(dataset.classes), verdict=verdict(audit.findings, "clean"),
        sections=[section for section in sections if section[1]], deep=audit.deep,
    )  # fmt: skip
    write_page(Path(path), page)


def _described(finding: Finding, dataset: Dataset, rows: Mapping[str, int]) -> dict[str, Any]:
    """Return a finding for the template: its sentence, and a table or pictures with captions."""
    pictured = any(row.get(name) in rows for row in finding.table for name, *_ in PICTURES)
    shown = finding.table[:MOST_SHOWN]
    return {
        "check": finding.check, "what": finding.what, "fix": finding.fix, "n_left_out": len(finding.table) - len(shown),
        "shown": [_pictured(row, dataset, rows) for row in shown] if pictured else [],
        "columns": [name.replace("_", " ") for name in finding.table[0]] if finding.table and not pictured else [],
        "rows": [] if pictured else [[cell(value) for value in row.values()] for row in shown],
    }  # fmt: skip


def _pictured(row: Mapping[str, Any], dataset: Dataset, rows: Mapping[str, int]) -> dict[str, Any]:
    """Return the pictures of a table's row with their captions, and what else the row says."""
    pictures = [
        {"name": str(row[name]), "jpeg": _jpeg(dataset, rows[row[name]]) if row[name] in rows else None,
         "caption": ", ".join(str(row[key]) for key in labels if row.get(key))}
        for name, *labels in PICTURES if name in row
    ]  # fmt: skip
    told = {key for names in PICTURES for key in names}
    more = [(key.replace("_", " "), cell(value)) for key, value in row.items() if key not in told]
    return {"pictures": pictures, "more": more}


def _jpeg(dataset: Dataset, row: int) -> str | None:
    """Return a picture, whole, as base64 JPEG; None where it cannot be decoded. A large one is not decoded at its full size."""
    try:
        if max(dataset.sizes[row]) <= LARGE:
            return thumbnail(dataset.read(row), THUMBNAIL)
        policy = replace(dataset.policy, fit="pad")
        return thumbnail(decode_resized(dataset.source(row), THUMBNAIL, name=dataset.name_of(row), policy=policy), THUMBNAIL)
    except PictureError:
        return None

"""How answers are written: a table, CSV, JSON or a submission, row by row while they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from descend.cli.output import tell
from descend.csv_table import Cell, write_row
from descend.printable import printable

if TYPE_CHECKING:
    from descend.train.answers import Predictions

    Parts = Iterable[Predictions]

TABLE_TOP = 3  # classes
NOT_SURE = "not sure"


@dataclass(frozen=True)
class Style:
    """top: the likeliest classes that are told; None for the usual ones. unsure_below: the probability of a sure answer."""

    top: int | None = None
    unsure_below: float | None = None

    def is_sure(self, confidence: float) -> bool:
        """Return whether an answer of this probability is given."""
        return self.unsure_below is None or confidence >= self.unsure_below


@dataclass(frozen=True)
class SubmissionRows:
    """What a submission holds: names of its two columns, and for every row its identifier and the picture that it is about."""

    columns: Sequence[str]
    ids: Sequence[str]
    paths: Sequence[str]


@dataclass(frozen=True)
class _Answer:
    """One row: the name of the picture, the label as plain data, probabilities by class, doubts in nats."""

    name: str
    label: Any
    probabilities: dict[str, float]
    doubts: dict[str, float]

    @property
    def confidence(self) -> float:
        return max(self.probabilities.values())

    def likeliest(self, n: int | None) -> list[tuple[str, float]]:
        """Return (class, probability), the likeliest first; all where n is None."""
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:n]


def _rows(part: Predictions) -> Iterator[_Answer]:
    for at, name in enumerate(part.names):
        doubts: dict[str, float] = {}
        if part.entropy is not None and part.mutual_information is not None:
            doubts = {"entropy": float(part.entropy[at]), "mutual_information": float(part.mutual_information[at])}
        row = dict(zip(part.classes, map(float, part.probabilities[at]), strict=True))
        yield _Answer(name, part.labels[at].item(), row, doubts)


def _table(parts: Parts, style: Style, file: TextIO) -> None:
    width = 0
    for part in parts:
        width = max([width, *(len(printable(name)) for name in part.names)])
        for row in _rows(part):
            shown = [] if style.is_sure(row.confidence) else [NOT_SURE]
            shown += [f"{label} {p:.1%}" for label, p in row.likeliest(style.top or TABLE_TOP)]
            shown += [f"{what.replace('_', ' ')} {nats:.3f}" for what, nats in row.doubts.items()]
            tell(f"{printable(row.name):<{width}}  " + "  ".join(shown), file=file)
        file.flush()


def _csv(parts: Parts, style: Style, file: TextIO) -> None:
    from descend.train.answers import n_told, told_header  # numpy: not for those who only ask for help

    header: list[str] | None = None
    for part in parts:
        rows: list[list[Cell]] = []
        for row in _rows(part):
            n = n_told(len(part.classes), style.top)
            if header is None:
                header = ["path", "predicted", "confidence", *row.doubts]
                _write_row(file, [*header, *told_header(part.classes, n)])
            label = str(row.label) if style.is_sure(row.confidence) else NOT_SURE
            told = row.probabilities.values() if n is None else [cell for pair in row.likeliest(n) for cell in pair]
            rows.append([row.name, label, row.confidence, *row.doubts.values(), *told])
        for cells in rows:
            _write_row(file, cells)
        file.flush()


def _write_row(file: TextIO, cells: Sequence[Cell]) -> None:
    """Write a row; on a terminal, names are escaped: elsewhere they go into a table as they are."""
    shown = [printable(cell) if isinstance(cell, str) else cell for cell in cells] if file.isatty() else cells
    write_row(file, shown)


def _json(parts: Parts, style: Style, file: TextIO) -> None:
    from descend.train.answers import n_told

    skipped, doubtful = dict[str, str](), dict[str, str]()
    file.write('{"predictions": [')  # one line; JSON escapes what a name could do to a terminal
    first = True
    for part in parts:
        skipped |= part.problems | part.passed_over
        doubtful |= part.doubtful
        for row in _rows(part):
            sure = {} if style.unsure_below is None else {"sure": style.is_sure(row.confidence)}
            n = n_told(len(part.classes), style.top)
            facts = {"path": row.name, "predicted": row.label, **sure, **row.doubts,
                     "probabilities": row.probabilities if n is None else dict(row.likeliest(n))}  # fmt: skip
            file.write(("" if first else ", ") + json.dumps(facts))
            first = False
        file.flush()
    file.write(f'], "skipped": {json.dumps(skipped)}, "doubtful": {json.dumps(doubtful)}}}\n')


def write_submission(parts: Parts, rows: SubmissionRows, file: TextIO) -> int:
    """Write one row per picture asked about, in their order: its identifier and the answer. Returns how many have none.

    Identifiers stand as they were given, also where a spreadsheet would take one for a formula: a program compares them.
    """
    table = csv.writer(file)
    table.writerow(rows.columns)
    at = n_missing = 0

    def write_until(end: int) -> None:
        nonlocal at, n_missing
        for place in range(at, end):
            table.writerow([rows.ids[place], ""])
        n_missing += end - at
        at = end

    for part in parts:
        for row in _rows(part):
            write_until(rows.paths.index(row.name, at))
            table.writerow([rows.ids[at], str(row.label)])
            at += 1
        file.flush()
    write_until(len(rows.ids))
    return n_missing


WRITERS = {"table": _table, "csv": _csv, "json": _json}

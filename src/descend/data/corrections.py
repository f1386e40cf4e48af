"""A table of corrections, ``path,label,action``: what somebody has decided who looked at pictures of a data set.

``drop`` leaves a picture out, ``relabel`` gives it the class in ``label``, ``keep`` says that it was looked at and is right (a
later scan does not doubt its label again). The table is applied to the list of pictures before any of them is opened, so that
everything that follows (copies, split, fingerprint) is of the corrected data. A row that means nothing here (a path or a class
that the data do not have) is an error, never passed over.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from descend.csv_table import write_table
from descend.data.labels import clean_text
from descend.data.manifest import SPLITS, Manifest
from descend.data.places import is_file
from descend.data.problems import Problem
from descend.data.table_files import SUFFIXES, read_rows
from descend.errors import DataError, KnobError, did_you_mean, nearest
from descend.files import replacing

Action = Literal["keep", "relabel", "drop"]
ACTIONS: dict[str, Action] = {"keep": "keep", "relabel": "relabel", "drop": "drop"}
HEADER = ("path", "label", "action")
ENDINGS = tuple(suffix for suffix, delimiter in SUFFIXES.items() if delimiter)
MOST_CLOSE = 5_000  # names among which the nearest is sought: beyond, that takes seconds


@dataclass(frozen=True)
class Correction:
    """One decision. path: a picture's name as ``descend scan`` gives it. label: its class from now on; "" where it is dropped."""

    path: str
    label: str
    action: Action


def read_corrections(table: Path) -> list[Correction]:
    """Read a table of corrections. Raises DataError for a file that is none, and for rows that do not go together."""
    who = str(table)
    if table.suffix.lower() not in ENDINGS or not is_file(table):
        raise DataError(who, f"corrections must be a file that exists and ends in {' or '.join(ENDINGS)}",
                        fix="descend app writes one; its columns are path,label,action.")  # fmt: skip
    header, rows, _ = read_rows(table)
    names = [name.casefold() for name in header]
    if sorted(names) != sorted(HEADER):
        raise DataError(who, f"must have the columns {','.join(HEADER)}", got=",".join(header) or "no header")
    where = [names.index(name) for name in HEADER]
    found: dict[str, Correction] = {}
    for number, row in enumerate(rows, start=2):
        path, label, action = (str(row[place]) for place in where)
        correction = _checked(who, number, path, clean_text(label), clean_text(action).casefold())
        if correction.path in found:
            raise DataError(who, f"must name each picture once, row {number} names one again", got=correction.path)
        found[correction.path] = correction
    return [*found.values()]


def write_corrections(table: Path, corrections: Iterable[Correction]) -> None:
    """Write a table of corrections, in one step. Raises OSError, and DataError for a name that a table cannot hold."""
    rows = [(item.path, item.label, item.action) for item in corrections]
    for path, *_ in rows:
        if any("\ud800" <= letter <= "\udfff" for letter in path) or "\n" in path or "\r" in path:
            raise DataError("corrections", "must be of pictures whose names are one line of Unicode", got=path,
                            fix="Rename the file.")  # fmt: skip
    in_quotes = any(path.startswith(" ") for path, *_ in rows)  # outside of them, such a blank is passed over
    with replacing(table) as part, part.open("w", newline="", encoding="utf-8") as file:
        write_table(file, HEADER, rows, in_quotes=in_quotes)


def settled(manifest: Manifest, corrections: Iterable[Correction], *, who: str) -> list[Correction]:
    """Return corrections in the words of the data: each path and label one that the manifest has.

    A cell that was disarmed for spreadsheets (``'=x.png``) means what it stood for. Raises DataError, in the name of ``who``, for
    a path or a class that the data do not have, and for a label that says nothing new.
    """
    rows = {name: row for row, name in enumerate(manifest.names)}
    path_of = paths_meant(manifest.names, who)
    found: dict[str, Correction] = {}
    for item in corrections:
        path = path_of(item.path)
        label = _meant(item.label, manifest.classes) if item.label else ""
        if label is None:
            raise DataError(who, f"every label must be a class of the data, that of {path!r} is none", got=item.label,
                            fix=nearest(item.label, manifest.classes))  # fmt: skip
        now = manifest.classes[manifest.labels[rows[path]]]
        if item.action == "relabel" and label == now:
            raise DataError(who, f"{path!r} has the label {now!r} already", got="relabel", fix="Its action is keep.")
        if item.action == "keep" and label not in ("", now):
            raise DataError(who, f"{path!r} is kept as {label!r}, and the data call it {now!r}", got="keep",
                            fix="Its action is relabel.")  # fmt: skip
        if path in found:
            raise DataError(who, "must name each picture once", got=path)
        found[path] = Correction(path, label or (now if item.action == "keep" else ""), item.action)
    return [*found.values()]


def corrected(manifest: Manifest, table: Path) -> Manifest:
    """Return the manifest with a table of corrections applied, and a note of what it changed.

    Raises DataError as ``read_corrections`` and ``settled`` do, and KnobError for a table that changes nothing.
    """
    who = str(table)
    decisions = settled(manifest, read_corrections(table), who=who)
    by_path = {item.path: item for item in decisions if item.action != "keep"}
    if not by_path:
        raise KnobError("corrections", "has no effect: the table neither drops nor relabels a picture", got=who,
                        fix="Leave it out.")  # fmt: skip
    labels, kept = manifest.labels.copy(), np.ones(len(manifest.names), np.bool_)
    for row, name in enumerate(manifest.names):
        item = by_path.get(name)
        if item is not None and item.action == "drop":
            kept[row] = False
        elif item is not None:
            labels[row] = manifest.classes.index(item.label)
    rows = np.flatnonzero(kept)
    _refuse_emptied(who, manifest, set(labels[rows].tolist()))
    _refuse_emptied_splits(who, manifest, set(manifest.splits[rows].tolist()))
    n_dropped = len(kept) - len(rows)
    told = f"corrections: {len(by_path) - n_dropped:,} relabeled, {n_dropped:,} dropped ({table.name})"
    changed = (f"{item.path} ({item.label or 'dropped'})" for item in by_path.values())
    note = Problem("corrected", told, len(by_path), tuple(changed)[:100])
    return dataclasses.replace(
        manifest, names=[manifest.names[int(row)] for row in rows], labels=labels[rows], splits=manifest.splits[rows],
        groups=None if manifest.groups is None else manifest.groups[rows],
        pictures=None if manifest.pictures is None else manifest.pictures[rows], problems=[note, *manifest.problems],
    )  # fmt: skip


def _checked(who: str, number: int, path: str, label: str, action: str) -> Correction:
    """Return a row as a correction. Raises DataError for one that cannot be meant."""
    if not path.strip():
        raise DataError(who, f"every row must name a picture, row {number} names none")
    known = ACTIONS.get(action)
    if known is None:
        raise DataError(who, f"every action must be one of {', '.join(ACTIONS)}, that of row {number} is none",
                        got=action, fix=nearest(action, ACTIONS))  # fmt: skip
    if known == "relabel" and not label:
        raise DataError(who, f"a row that relabels must say the label, row {number} ({path}) says none")
    if known == "drop" and label:
        raise DataError(who, f"a row that drops a picture has no label, row {number} ({path}) has one", got=label,
                        fix="Empty the cell, or relabel.")  # fmt: skip
    return Correction(path, label, known)


def paths_meant(names: Sequence[str], who: str) -> Callable[[str], str]:
    """Return what tells which of the names of pictures a cell means. It raises DataError, in the name of ``who``, for none."""
    known, bare = {*names}, _without_blanks(names)

    def meant(cell: str) -> str:
        slashed, stripped = cell.replace("\\", "/"), cell.strip()
        path = _meant(cell, known) or _meant(slashed, known) or bare.get(stripped) or bare.get(stripped.replace("\\", "/"))
        if path is None:
            near = did_you_mean(cell, names) if len(names) <= MOST_CLOSE else ""
            raise DataError(who, "every path must be that of a labeled picture of the data, as `descend scan` names it", got=cell,
                            fix=near)  # fmt: skip
        return path

    return meant


def _meant(text: str, known: Collection[str] | Mapping[str, int]) -> str | None:
    """Return which of the known texts a cell means, None for none."""
    if text in known:
        return text
    return text[1:] if text.startswith("'") and text[1:] in known else None


def _without_blanks(names: Iterable[str]) -> dict[str, str]:
    """Return the names by what is left of them without blanks around, where that is one name's alone.

    Whoever writes a table may put blanks around a cell, and older tables have lost those of a name.
    """
    several = Counter(name.strip() for name in names)
    return {name.strip(): name for name in names if several[name.strip()] == 1}


def _refuse_emptied(who: str, manifest: Manifest, left: set[int]) -> None:
    emptied = [name for number, name in enumerate(manifest.classes) if number not in left]
    if emptied:
        raise DataError(who, "every class must keep a picture, and after the corrections these have none", got=emptied[:5],
                        fix="To do without a class, remove it from the data.")  # fmt: skip


def _refuse_emptied_splits(who: str, manifest: Manifest, left: set[int]) -> None:
    """Refuse a given split that would lose all its pictures: it would count as never given, and another be made unasked."""
    emptied = [name for number, name in enumerate(SPLITS) if number in manifest.splits and number not in left]
    if emptied:
        raise DataError(who, "every split that is given must keep a picture, and after the corrections these have none",
                        got=emptied, fix="To do without a split, remove it from the data.")  # fmt: skip

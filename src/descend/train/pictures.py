"""Which pictures a run was made from, in its folder: what differs is named when they are not what they were.

``pictures.json`` holds one line per picture: its name, its class, its split, a digest of its bytes and, where pictures belong
together (one patient, near copies), the number of its group.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from descend.data import Dataset
from descend.data.dataset import SPLITS
from descend.train import folder

Pictures = Mapping[str, tuple[str, str, str] | tuple[str, str, str, int]]
"""Name -> class, split, digest in hexadecimal and, where there are groups, the number of its group."""
N_NAMED = 3


def of(dataset: Dataset) -> Pictures:
    """Return the pictures of a data set as it was loaded."""
    splits = [*SPLITS, "left out"]  # -1
    rows = zip(dataset.labels, dataset.splits, dataset.digests, strict=True)
    facts = [(dataset.classes[label], splits[split], digest.tobytes().hex()) for label, split, digest in rows]
    names = map(dataset.name_of, range(len(facts)))
    if dataset.groups is None:
        return dict(zip(names, facts, strict=True))
    return {name: (*known, group) for name, known, group in zip(names, facts, dataset.groups.tolist(), strict=True)}


def write(pictures: Pictures, run: Path) -> None:
    """Write them into a run folder. Raises RunError where the disk does not take it."""
    lines = [f"{json.dumps(name)}: {json.dumps(facts)}" for name, facts in pictures.items()]
    folder.write_text(run / folder.PICTURES, "{\n" + ",\n".join(lines) + "\n}\n")


def differences(now: Pictures, run: Path) -> list[str]:
    """Return what differs between the pictures of a run and those at hand now, a phrase each.

    Empty where nothing does, and for a run of an older version, which wrote no list. Raises RunError for a list that is damaged.
    """
    path = run / folder.PICTURES
    if not path.exists():
        return []
    folder.verify(path, f"Without it the pictures are compared as a whole: delete {path}.")
    then: dict[str, Any] = folder.read_json(path)
    common = [name for name in then if name in now]
    gone, new = [name for name in then if name not in now], [name for name in now if name not in then]
    class_of = {then[name][2]: then[name][0] for name in gone}  # digest -> class
    renamed = [name for name in new if now[name][2] in class_of]
    still_there = {now[name][2] for name in renamed}
    relabeled = [name for name in renamed if now[name][0] != class_of[now[name][2]]]
    told = [
        _told("missing", [name for name in gone if then[name][2] not in still_there]),
        _told("new", [name for name in new if now[name][2] not in class_of]),
        _told("renamed", [name for name in renamed if now[name][0] == class_of[now[name][2]]]),
        _told("changed", [name for name in common if now[name][2] != then[name][2]]),
        _told("of another class", relabeled + [name for name in common if now[name][0] != then[name][0]]),
        _told("in another split", [name for name in common if now[name][1] != then[name][1] and now[name][2] == then[name][2]]),
    ]
    return [phrase for phrase in told if phrase]


def digests(run: Path, split: str) -> set[str]:
    """Return the digests of a run's pictures in a split; empty for a run of an older version, which wrote no list."""
    return {digest for _, where, digest, *_ in _read(run).values() if where == split}


def evidence_of(run: Path) -> dict[str, tuple[str, int | None]]:
    """Return name -> digest, and group or None, of a run's pictures; empty for a run of an older version, which wrote no list."""
    return {name: (digest, group[0] if group else None) for name, (_, _, digest, *group) in _read(run).items()}


def _read(run: Path) -> dict[str, Any]:
    path = run / folder.PICTURES
    if path.exists():
        folder.verify(path, f"Without it no picture is known by its content: delete {path}.")
    return folder.read_json(path) if path.exists() else {}


def _told(what: str, names: Collection[str]) -> str:
    """Return how many pictures are ``what``, and the first of them."""
    if not names:
        return ""
    shown = ", ".join([*names][:N_NAMED]) + (", ..." if len(names) > N_NAMED else "")
    return f"{len(names):,} {what} ({shown})"

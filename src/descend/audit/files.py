"""Files that give no picture: those that cannot be read, and those that are passed over, by their endings."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from descend.audit.material import Material, ending
from descend.data import heic
from descend.data.formats import suffixes
from descend.data.layout import decide
from descend.data.manifest import natural
from descend.data.tree import EXPECTED, SYSTEM_FILE, SYSTEM_FOLDER, walk
from descend.findings import Finding, Severity, counted

UNREADABLE, PASSED_OVER, SOURCE = "unreadable", "passed over", "source"
OUTSIDE = "a picture outside the class folders"
_OF_SOURCE: dict[str, tuple[Severity, str]] = {
    "missing": ("finding", "Correct the paths in the table."),
    "nameless": ("note", ""),
    "unlabeled": ("note", ""),
    "layout": ("note", ""),
    "headings": ("note", ""),
    "paths": ("note", ""),
    "unused": ("note", ""),
    "archive": ("finding", "Unpack it, or move it out of the data."),
    "merged": ("note", ""),
    "similar": ("finding", "Rename the classes that are one."),
    "copied": ("finding", "Bring the pictures of one class together in one folder, or under one label."),
    "doubtful": ("note", ""),
    "masks": ("note", ""),
    "table": ("note", ""),
    "cut": ("note", ""),
    "clear": ("finding", "Save these without their alpha channel, if the colors beneath are what they show."),
    "apart": ("note", ""),
    "torn": ("finding", "Move each group to one side of the split."),
    "sequences": ("finding", "Keep each sequence on one side of the split: by a column 'group' in a table, or by its folders."),
}


def unreadable(material: Material) -> list[Finding]:
    """Name the pictures that cannot be decoded, with the reason."""
    known = list(material.problems("unreadable"))
    listed = [example for problem in known for example in problem.examples]
    named = {_split_reason(example)["picture"] for example in listed}
    names = material.dataset.names
    late = {names[row]: why for row, why in material.seen.reasons.items() if names[row] not in named}
    n = sum(problem.n for problem in known) + len(late)
    if not n:
        return [Finding(UNREADABLE, "ok", "every picture can be decoded", {"n": 0})]
    rows = [_split_reason(example) for example in listed] + [{"picture": name, "why": why} for name, why in late.items()]
    told = counted(n, "picture cannot be decoded", "pictures cannot be decoded")
    return [Finding(UNREADABLE, "finding", told, {"n": n}, "Fetch them again, or remove them.", _sorted(rows))]


def _split_reason(example: str) -> dict[str, Any]:
    """Return the picture and the reason of ``cats/photo (1).jpg (not a format that is read)``: a name may have brackets too."""
    places = [found.start() for found in re.finditer(r" \(", example)]
    ended = [place for place in places if Path(example[:place]).suffix.lower() in suffixes()]
    place = ended[-1] if ended else places[0]
    return {"picture": example[:place], "why": example[place + 2 :].removesuffix(")")}


def _sorted(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(sorted(rows, key=lambda row: natural(row["picture"])))


def passed_over(material: Material) -> list[Finding]:
    """Count what lies in the folder and is not taken, by ending: pictures that are lost, and files that are none."""
    if material.folder is None:
        return []
    tree = walk(material.folder)
    entries = [entry for folder in tree.below() for entry in folder.passed_over if entry[1] not in (SYSTEM_FILE, SYSTEM_FOLDER)]
    layout = decide(tree, str(material.folder), evaluation=False)
    outside = [*layout.loose, *(path for folder in layout.beside for path in folder.picture_paths())]
    lost = [(path, why) for path, why in entries if why not in EXPECTED] + [(path, OUTSIDE) for path in outside]
    others = Counter(ending(path) for path, why in entries if why in EXPECTED and not path.endswith("/"))
    findings: list[Finding] = []
    if lost:
        findings.append(_lost(sorted(lost, key=lambda entry: natural(entry[0]))))
    if others:
        evidence = {"n": others.total(), "endings": dict(others)}
        told = counted(others.total(), "file is no picture", "files are no pictures")
        findings.append(Finding(PASSED_OVER, "note", f"{told}: {_counted(others)}", evidence))
    return findings or [Finding(PASSED_OVER, "ok", "no file is passed over", {"n": 0})]


def _lost(files: list[tuple[str, str]]) -> Finding:
    endings = Counter(ending(path) for path, _ in files)
    told = counted(len(files), "file that may be wanted is passed over", "files that may be wanted are passed over")
    fixes = {
        heic.ADVICE: any(why == heic.ADVICE for _, why in files),
        "move pictures into class folders": any(why == OUTSIDE for _, why in files),
        "convert the others to JPEG or PNG, or remove them": any(why not in (heic.ADVICE, OUTSIDE) for _, why in files),
    }
    fix = "; ".join(text for text, applies in fixes.items() if applies)
    rows = tuple({"picture": path, "why": why} for path, why in files)
    evidence = {"n": len(files), "endings": dict(endings)}
    return Finding(PASSED_OVER, "finding", f"{told}: {_counted(endings)}", evidence, f"{fix[0].upper()}{fix[1:]}.", rows)


def _counted(endings: Counter[str]) -> str:
    shown = [f"{n:,} {name}" for name, n in endings.most_common(5)]
    return ", ".join(shown) + (f" and {len(endings) - 5} more endings" if len(endings) > 5 else "")


def source(material: Material) -> list[Finding]:
    """Repeat what reading the folder or the table has found."""
    return [
        Finding(
            SOURCE, _OF_SOURCE[problem.kind][0], problem.message, {"kind": problem.kind, "n": problem.n},
            _OF_SOURCE[problem.kind][1], tuple({"name": example} for example in problem.examples),
        )
        for problem in material.problems(*_OF_SOURCE)
    ]  # fmt: skip

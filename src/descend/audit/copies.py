"""Pictures that are there more than once: copies, near copies, copies on both sides of a split, and copies with two labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.audit.material import Material
from descend.data.near_copies import KINDS, SAME_PIXELS
from descend.data.split import TEST, VAL
from descend.findings import Finding, counted

COPIES, LEAKAGE, CONFLICTS = "copies", "leakage", "label conflicts"
Link = tuple[tuple[int, int], str]
"""Two rows that show the same picture, and what makes them the same."""


def copies(material: Material) -> list[Finding]:
    """Name copies, to the byte and nearly: they make a set look larger than it is."""
    exact, near = list(_exact(material)), list(_near(material))
    n_extra = len(material.dataset) - len(np.unique(material.family))
    if not n_extra:
        return [Finding(COPIES, "ok", "no picture is there twice", {"n_exact": 0, "n_near": 0, "n_extra": 0})]
    told = [f"{len(exact):,} with the same bytes"] * bool(exact)
    told += [f"{counted(len(near), 'pair', 'pairs')} saved again, resized, mirrored, turned or cropped"] * bool(near)
    what = f"{counted(n_extra, 'picture repeats another', 'pictures repeat others')} of {len(material.dataset):,}"
    evidence = {"n_exact": len(exact), "n_near": len(near), "n_extra": n_extra}
    fix = "Keep one of each; descend keeps them on one side of a split that it makes, and counts them once."
    return [Finding(COPIES, "finding", f"{what} ({', '.join(told)})", evidence, fix, _rows(material, [*exact, *near]))]


def leakage(material: Material) -> list[Finding]:
    """Name copies that stand on both sides of a split: what is measured there is known from training."""
    splits = material.dataset.splits
    links = [link for link in _across(material, splits) if splits[list(link[0])].min() >= 0]
    if not links:
        return [Finding(LEAKAGE, "ok", "no copy stands on both sides of a split", {"n": 0})]
    judged = np.unique([row for pair, _ in links for row in pair if splits[row] == splits[list(pair)].max()])
    known = {name: int((splits[judged] == number).sum()) for name, number in (("val", VAL), ("test", TEST))}
    shares = [f"{n:,} of {len(material.dataset.indices(name)):,} in {name}" for name, n in known.items() if n]
    what = f"{counted(len(links), 'pair of copies stands', 'pairs of copies stand')} on both sides of a split"
    evidence = {"n": len(links), "known": known}
    fix = "Remove them from the side that is trained on, or leave out the split: descend makes one."
    return [Finding(LEAKAGE, "finding", f"{what}: {', '.join(shares)} are known", evidence, fix, _rows(material, links))]


def conflicts(material: Material) -> list[Finding]:
    """Name copies that have different labels: one of them is wrong."""
    links = list(_across(material, material.dataset.labels))
    if not links:
        return [Finding(CONFLICTS, "ok", "copies agree about their class", {"n": 0})]
    what = f"{counted(len(links), 'pair of copies stands', 'pairs of copies stand')} in different classes"
    fix = "Look at each, and remove the one that is wrong; where classes are directions, a mirrored or turned copy may be right."
    return [Finding(CONFLICTS, "finding", what, {"n": len(links)}, fix, _rows(material, links))]


def _rows(material: Material, links: list[Link]) -> tuple[dict[str, Any], ...]:
    return material.paired([pair for pair, _ in links], [kind for _, kind in links])


def _exact(material: Material) -> Iterator[Link]:
    """Yield each copy with the first picture of the same bytes."""
    _, first, same = np.unique(material.copy_of, return_index=True, return_inverse=True)
    for row in range(len(same)):
        if first[same[row]] != row:
            yield (int(first[same[row]]), row), "same bytes"


def _near(material: Material) -> Iterator[Link]:
    near = material.dataset.near
    for (one, other), kind, likeness in zip(near.pairs.tolist(), near.kinds.tolist(), near.likeness, strict=True):
        alike = "" if KINDS[kind] == SAME_PIXELS else f", details alike by {likeness:.2f}"
        yield (one, other), f"{KINDS[kind]}{alike}"


def _across(material: Material, of: NDArray[np.integer]) -> Iterator[Link]:
    """Yield pairs of copies, near ones too, that differ in a property of the pictures, (N,)."""
    by_bytes: dict[int, dict[int, int]] = {}
    for row in np.flatnonzero(np.bincount(material.copy_of)[material.copy_of] > 1).tolist():
        kinds = by_bytes.setdefault(int(material.copy_of[row]), {})
        before = next(iter(kinds.values()), None)
        if before is not None and int(of[row]) not in kinds:
            yield (before, row), "same bytes"
        kinds.setdefault(int(of[row]), row)
    for pair, kind in _near(material):
        if of[pair[0]] != of[pair[1]]:
            yield pair, kind

"""What the owner of the data should know: each kind of problem is counted, told in one sentence, and named by examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import DataError

LEFT_OUT = ("ignored", "heic", "missing", "nameless", "unlabeled", "unreadable")  # kinds: what was given and does not count
_EXAMPLES = 100


@dataclass(frozen=True)
class Problem:
    """Something about the data that its owner should know; the data can still be used.

    kind: ``ignored``, ``heic``, ``layout``, ``missing``, ``nameless``, ``unlabeled``, ``unreadable``, ``merged``,
    ``similar``, ``copied``, ``doubtful``, ``conflict``, ``leak``, ``copies``, ``near copies``, ``near leak``, ``near conflict``,
    ``unsought``, ``torn``, ``unopened``, ``unused``, ``carved``, ``few``, ``corrected``, ``repeated``, ``table``, ``scale``,
    ``cut``, ``clear``, ``no number``, ``apart``, ``background``, ``narrow``, ``blank``, ``masks``, ``sequences``, ``headings``,
    ``paths``, ``annotations``, ``archive``, ``library``, ``cache`` or ``part``.
    n: how many things it is about. examples: the first hundred names, each with its reason where there is one.
    """

    kind: str
    message: str
    n: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        return told(self.message, self.examples, self.n, most=3)

    def describe(self) -> dict[str, Any]:
        """Return the problem ready for JSON."""
        return dataclasses.asdict(self) | {"examples": list(self.examples)}


def told(message: str, names: Sequence[str], n: int, *, most: int) -> str:
    """Return a sentence about n things with the names of the first, ``most`` of them."""
    shown = ", ".join(names[:most]) + (", ..." if names and n > most else "")
    return f"{message}: {shown}" if shown else message


def problem(kind: str, one: str, many: str, names: Sequence[str]) -> list[Problem]:
    """Return the problem that ``names`` share as a list of one, or [] without names. ``{n}`` in ``many`` is their number."""
    if not names:
        return []
    message = one if len(names) == 1 else many.format(n=f"{len(names):,}")
    return [Problem(kind, message, len(names), tuple(names[:_EXAMPLES]))]


def refusal(who: str, must: str, problems: Iterable[Problem], *, got: object = None, fix: str = "") -> DataError:
    """Return the error for data that cannot be used, with everything that was noted about them before."""
    notes = [f"Note: {str(item).removesuffix('.')}." for item in problems]
    advice = " ".join([*([fix] if fix else []), *notes])
    return DataError(who, must, fix=advice) if got is None else DataError(who, must, got=got, fix=advice)


def unreadable(names: Sequence[str], reasons: dict[int, str]) -> list[Problem]:
    """Return the problem of pictures that cannot be decoded, each with its reason."""
    listed = [f"{names[row]} ({why})" for row, why in sorted(reasons.items())]
    return problem(
        "unreadable", "1 file cannot be decoded and is left out", "{n} files cannot be decoded and are left out", listed
    )


def repeated(
    names: Sequence[str], digests: NDArray[np.uint8], labels: NDArray[np.int64], given: NDArray[np.int8]
) -> list[Problem]:
    """Return what is to be said of pictures whose bytes occur more than once: two labels, two given splits, or mere copies.

    names: (n,). digests: (n, 16) uint8. labels: (n,) int64. given: (n,) int8, the split that the source gave, -1 for none.
    """
    if not len(digests):
        return []
    _, copy_of, counts = np.unique(digests, axis=0, return_inverse=True, return_counts=True)
    copy_of = copy_of.reshape(-1)
    together: dict[int, list[int]] = {}
    for row in np.flatnonzero(counts[copy_of] > 1):
        together.setdefault(int(copy_of[row]), []).append(int(row))
    conflicts, leaks, copies = list[str](), list[str](), list[str]()
    for rows in together.values():
        shown = " = ".join(names[row] for row in rows[:4]) + " = ..." * (len(rows) > 4)
        if len(set(labels[rows].tolist())) > 1:
            conflicts.append(shown)
        if len(set(given[rows].tolist())) > 1:
            leaks.append(shown)
        first: dict[tuple[int, int], int] = {}
        for row in rows:
            before = first.setdefault((int(labels[row]), int(given[row])), row)
            copies += [f"{names[row]} = {names[before]}"] * (before != row)
    return [
        *problem("conflict", "1 picture stands in several classes", "{n} pictures stand in several classes", conflicts),
        *problem("leak", "1 picture stands in several of the given splits",
                 "{n} pictures stand in several of the given splits", leaks),
        *problem("copies", "1 picture is a copy of another in its class; copies count once as evidence",
                 "{n} pictures are copies of others in their class; copies count once as evidence", copies),
    ]  # fmt: skip


def near(
    names: Sequence[str], pairs: NDArray[np.int64], labels: NDArray[np.int64], given: NDArray[np.int8], splits: NDArray[np.int8]
) -> list[Problem]:
    """Return what is to be said of near copies: in two classes, in two given splits, or merely there.

    pairs: (P, 2) int64, rows. labels, given, splits: (n,), as in ``repeated``; splits: where the pictures have come to stand.
    """
    shown = [f"{names[one]} ~ {names[other]}" for one, other in pairs.tolist()]
    one, other = pairs.T
    conflict, leak = labels[one] != labels[other], given[one] != given[other]
    torn_apart = (splits[one] != splits[other]) & ~leak
    kept = "; each is on one side of the split that is made here" if (given == -1).any() and not torn_apart.any() else ""
    return [
        *problem("near copies", f"1 pair of near copies (saved again, resized, mirrored, turned or cropped){kept}",
                 f"{{n}} pairs of near copies (saved again, resized, mirrored, turned or cropped){kept}", shown),
        *problem("near leak", "1 pair of near copies stands on both sides of the given split",
                 "{n} pairs of near copies stand on both sides of the given split",
                 [text for text, tells in zip(shown, leak, strict=True) if tells]),
        *problem("near conflict", "1 pair of near copies stands in two classes", "{n} pairs of near copies stand in two classes",
                 [text for text, tells in zip(shown, conflict, strict=True) if tells]),
    ]  # fmt: skip


def unsought(n: int, what: str) -> Problem:
    """Return the problem of n pictures among which copies of a kind were not sought."""
    why = f"{what} were not looked for: the budget has no time to look at {n:,} pictures first; descend scan has"
    return Problem("unsought", why, n)


def unopened(n: int) -> Problem:
    """Return the problem of n pictures that were left aside before any was opened."""
    return Problem("unopened", f"{n:,} pictures are left aside unopened: the budget has no time to look at them", n)


def torn(names: Sequence[str], groups: NDArray[np.int64] | None, given: NDArray[np.int8]) -> list[Problem]:
    """Return the problem of groups that a given split tears apart: its pictures help each other across the border."""
    if groups is None or not len(groups):
        return []
    order = np.argsort(groups, kind="stable")
    borders = np.flatnonzero(np.diff(groups[order])) + 1
    parts = [rows for rows in np.split(order, borders) if len(set(given[rows].tolist())) > 1]
    shown = [f"the group of {names[int(rows[0])]}" for rows in parts]
    return problem("torn", "1 group stands in several of the given splits",
                   "{n} groups stand in several of the given splits", shown)  # fmt: skip

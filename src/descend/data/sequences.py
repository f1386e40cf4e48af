"""Frames of one video, slices of one scan, pictures of one burst: names tell what a split at random would tear apart.

A name must say so in words (``vid4_frame003``, ``patient12_slice3``, ``clip01-0007``), several pictures must share what comes
before their number, and a class must hold several such sequences: a class that is one sequence cannot be kept on one side.
Numbers alone (``cat.0``, ``IMG_1234``, ``n02085620_10074``) say nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from descend.data.manifest import UNASSIGNED
from descend.data.problems import Problem

_LEAST = 2  # sequences of a class, and pictures of a sequence
_NUMBERED = re.compile(r"(?P<of>.*?)[_\-. ]*(?<![a-z])(?:frame|frm|slice|burst)s?[_\-. ]?\d+(?:\D.*)?", re.IGNORECASE)
_PARTED = re.compile(
    r"(?P<of>(?:.*[^a-z])?(?:video|vid|clip|sequence|seq|scene|track|burst|patient|subject|person|case)[_\- ]?\d+(?:[_\-. ].*?)?)"
    r"[_\-. ](?:f|fr|img|image)?\d+",
    re.IGNORECASE,
)


def sequence_of(name: str) -> str | None:
    """Return the folder and the words that the frames of one sequence share, or None where a name tells of no sequence.

    >>> from descend.data.sequences import sequence_of
    >>> sequence_of("cat/vid4_frame003.png"), sequence_of("cat/clip01-0007.jpg"), sequence_of("cat/IMG_1234.jpg")
    ('cat/vid4', 'cat/clip01', None)
    """
    folder, _, file = name.rpartition("/")
    stem = file.rpartition(".")[0] or file
    found = _NUMBERED.fullmatch(stem) or _PARTED.fullmatch(stem)
    return None if found is None else f"{folder}/{found['of']}".lstrip("/")


def torn_sequences(
    names: Sequence[str], labels: NDArray[np.int64], splits: NDArray[np.int8], given: NDArray[np.int8]
) -> list[Problem]:
    """Return the problem of sequences whose frames stand in several splits: they help each other across the border.

    names: (n,). labels: (n,). splits: (n,), where the pictures have come to stand. given: (n,), the split of the source.
    """
    together: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        if (sequence := sequence_of(name)) is not None:
            together[sequence].append(row)
    of_class: dict[int, set[str]] = defaultdict(set)
    for sequence, rows in together.items():
        if len(rows) >= _LEAST:
            for label in set(labels[rows].tolist()):
                of_class[label].add(sequence)
    several = set[str]().union(*(found for found in of_class.values() if len(found) >= _LEAST))
    torn = [sequence for sequence in several if len(set(splits[together[sequence]].tolist())) > 1]
    if not torn:
        return []
    n = sum(len(together[sequence]) for sequence in several)
    fix = ("a table with the columns path,label,group keeps each on one side" if (given == UNASSIGNED).all()
           else "give each to one split")  # fmt: skip
    message = (f"{n:,} of {len(names):,} names look like frames of {len(several):,} sequences, "
               f"and {len(torn):,} of these stand in several splits; {fix}")  # fmt: skip
    return [Problem("sequences", message, len(torn), tuple(sorted(torn)[:100]))]

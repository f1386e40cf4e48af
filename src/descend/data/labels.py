"""One rule for labels, whatever they come from: folders, tables, data frames, lists or arrays.

* Blanks around a label do not count, and an accent is the same letter composed or decomposed (NFC).
* None, NaN, an empty cell and the texts that stand for them (``nan``, ``<NA>``, ``null``, ``unlabeled``, ...) are no label.
* Numbers are whole: ``1``, ``1.0`` and the float 1.0 that a gap makes of an integer are one class.

What was brought together, or may have been meant otherwise, is told.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.manifest import natural
from descend.data.problems import Problem, problem
from descend.errors import DataError

_MISSING = frozenset({"", "nan", "<na>", "nat", "null", "#n/a", "n/a", "-nan", "unlabeled", "unlabelled"})
_DOUBTFUL = frozenset({"none", "na", "nil", "missing", "undefined", "?"})  # classes in some data, gaps in others
_WHOLE = re.compile(r"([+-]?\d+)(\.0+)?")
_INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"  # byte order mark, zero-width and direction marks: spreadsheets leave them


def encode_labels(values: Sequence[Any], *, who: str) -> tuple[tuple[str, ...], NDArray[np.int64], list[Problem]]:
    """Return the classes in natural order, each value's class, and what its owner should know.

    values: (N,) words, numbers, booleans, None or NaN. The classes' numbers are (N,) int64, -1 where a label is missing.
    Raises DataError, in the name of ``who``, for a number that is not whole.
    """
    texts = whole_numbers([label_text(value, who=who) for value in values])
    classes = tuple(sorted(set(texts) - {""}, key=natural))
    position = {word: index for index, word in enumerate(classes)} | {"": -1}
    numbers = np.fromiter((position[text] for text in texts), np.int64, len(texts))
    return classes, numbers, [*_merged(values, texts), *_similar(classes), *_doubtful(classes), *_several(classes)]


def whole_numbers(texts: list[str]) -> list[str]:
    """Return texts as they are, or, where all of them are whole numbers, without the ``.0`` that a gap leaves behind them.

    >>> from descend.data.labels import whole_numbers
    >>> whole_numbers(["1.0", "", "2"]), whole_numbers(["1.0", "1.5"])
    (['1', '', '2'], ['1.0', '1.5'])
    """
    if all(_WHOLE.fullmatch(text) for text in texts if text):
        return [text.partition(".")[0] for text in texts]
    return texts


def label_text(value: Any, *, who: str) -> str:
    """Return a label as text, "" for one that is missing. Raises DataError for a number that is not whole."""
    text = cell_text(value)
    if isinstance(value, (float, np.floating)) and text and not _WHOLE.fullmatch(text):
        raise DataError(who, "labels must be whole numbers or words", got=text, fix="Number the classes, or name them.")
    return text


def cell_text(value: Any) -> str:
    """Return what stands in a cell as clean text: "" for an empty or missing one, ``3`` for the float 3.0.

    >>> from descend.data.labels import cell_text
    >>> [cell_text(value) for value in (" cat ", None, float("nan"), "NaN", 3.0, b"dog", True)]
    ['cat', '', '', '', '3', 'dog', 'True']
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas' missing values, which refuse comparison
        return ""
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return ""
        value = int(value) if float(value).is_integer() else value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = clean_text(str(value))
    return "" if text.casefold() in _MISSING else text


def clean_text(text: str) -> str:
    """Return text composed (NFC), without blanks and invisible marks around it."""
    return unicodedata.normalize("NFC", text).strip(_INVISIBLE).strip().strip(_INVISIBLE)


def _merged(values: Sequence[Any], texts: Sequence[str]) -> list[Problem]:
    """Return the problem of spellings that became one class."""
    spellings: dict[str, set[str]] = {}
    for value, text in zip(values, texts, strict=True):
        if text and isinstance(value, str):
            spellings.setdefault(text, set()).add(value)
    several = [" = ".join(map(repr, sorted(ways))) for ways in spellings.values() if len(ways) > 1]
    return problem("merged", "1 class was spelled in several ways", "{n} classes were spelled in several ways", several)


def _similar(classes: Sequence[str]) -> list[Problem]:
    """Return the problem of classes that differ in upper and lower case only."""
    folded: dict[str, list[str]] = {}
    for name in classes:
        folded.setdefault(name.casefold(), []).append(name)
    pairs = [" and ".join(map(repr, names)) for names in folded.values() if len(names) > 1]
    return problem("similar", "1 name stands for several classes, but for upper and lower case",
                   "{n} names stand for several classes, but for upper and lower case", pairs)  # fmt: skip


def _doubtful(classes: Sequence[str]) -> list[Problem]:
    named = [repr(name) for name in classes if name.casefold() in _DOUBTFUL]
    return problem("doubtful", "1 class has a name that may stand for a missing label; leave its cells empty if so",
                   "{n} classes have names that may stand for a missing label; leave their cells empty if so", named)  # fmt: skip


def _several(classes: Sequence[str]) -> list[Problem]:
    """Return the problem of classes made of others: ``cat|dog`` beside ``cat``."""
    parted = ((name, [part.strip() for part in re.split(r"[|;,]", name)]) for name in classes)
    named = [repr(name) for name, parts in parted if len(parts) > 1 and set(parts) & set(classes)]
    return problem("doubtful", "1 class may be several labels of one picture; each picture has one class here",
                   "{n} classes may be several labels of one picture; each picture has one class here", named)  # fmt: skip

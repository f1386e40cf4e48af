"""One rule for labels, whatever they come from: folders, tables, data frames, lists or arrays.

* Blanks around a label do not count, nor how many and which stand between its words, nor marks that nobody sees; an accent is the
  same letter composed or decomposed (NFC).
* None, NaN, an empty cell and the texts that stand for them (``nan``, ``<NA>``, ``null``, ``unlabeled``, ...) are no label.
* Numbers are whole: ``1``, ``1.0`` and the float 1.0 that a gap makes of an integer are one class.

What was brought together, or may have been meant otherwise, is told.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.manifest import natural
from descend.data.problems import Problem, problem
from descend.data.scalars import plain
from descend.errors import DataError

_MISSING = frozenset({
    "", "nan", "-nan", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind", "nat", "<na>", "n/a", "#na", "#n/a", "#n/a n/a", "null",
    "(null)", "[null]", "\\n", "(blank)", "#ref!", "#value!", "#div/0!", "#name?", "#null!", "#num!", "unlabeled", "unlabelled",
    "not labeled",
})  # fmt: skip
_DOUBTFUL = frozenset({"none", "na", "n.a.", "nil", "missing", "undefined", "unknown", "tbd", "todo", "no label", "not available",
                       "[]", "{}"})  # fmt: skip
# classes in some data, gaps in others, as are - ? . * and their like
_ONLY_MARKS = re.compile(r"[-\u2013\u2014?.*/#_\u2026]+")
_CODES_OF_GAPS = frozenset({"-1", "-9", "-99", "-999", "-9999", "99", "999", "9999"})  # beside classes that are numbered
_WHOLE = re.compile(r"([+-]?\d+)(\.0+)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_INVISIBLE = re.compile(
    "[\0\ufeff\u200b\u200e\u200f\u2060\u00ad]"
)  # byte order mark, zero-width and direction marks, soft hyphen
# as file managers name a second folder: Windows, macOS, GNOME
_COPY = re.compile(
    r"^(copy of|kopie von|copie de|copia de) |[ _-]+\(?(copy|kopie|copie|copia)\)?( ?\(?\d+\)?)?$| \(\d+\)$", re.IGNORECASE
)
_TRUTHS = {"true": "1", "yes": "1", "y": "1", "t": "1", "1": "1", "false": "0", "no": "0", "n": "0", "f": "0", "0": "0"}
# Cyrillic letters that look like Latin ones
_ALIKE = str.maketrans("\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425"
                       "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455", "ABEKMHOPCTYXaeopcyxijs")  # fmt: skip


def encode_labels(
    values: Sequence[Any], *, who: str, are_names: bool = False
) -> tuple[tuple[str, ...], NDArray[np.int64], list[Problem]]:
    """Return the classes in order (``_in_order``), each value's class, and what its owner should know.

    values: (N,) words, numbers, booleans, None or NaN. The classes' numbers are (N,) int64, -1 where a label is missing.
    are_names: each value names a class of many pictures, as a folder does, and so measures nothing (``0.5``, ``1.5``).
    Raises DataError, in the name of ``who``, for a number that is not whole, and for texts that measure something.
    """
    texts = whole_numbers([label_text(value, who=who) for value in values])
    if not are_names:
        _refuse_measures(texts, who)
    classes = tuple(_in_order(set(texts) - {""}))
    position = {word: index for index, word in enumerate(classes)} | {"": -1}
    numbers = np.fromiter((position[text] for text in texts), np.int64, len(texts))
    told = [*_similar(classes), *_copied(classes), *_doubtful(classes), *_several(classes)]
    return classes, numbers, [*_merged(values, texts), *told]


def _in_order(classes: set[str]) -> list[str]:
    """Return classes in natural order; numbers, where all are, in theirs: -5, -2, 2."""
    if all(_WHOLE.fullmatch(name) for name in classes):
        return sorted(classes, key=lambda name: (int(name.partition(".")[0]), natural(name)))
    return sorted(classes, key=natural)


def whole_numbers(texts: list[str]) -> list[str]:
    """Return texts as they are, or, where all of them are whole numbers, without the ``.0`` that a gap leaves behind them.

    >>> from descend.data.labels import whole_numbers
    >>> whole_numbers(["1.0", "", "2"]), whole_numbers(["1.0", "1.5"])
    (['1', '', '2'], ['1.0', '1.5'])
    """
    if all(_WHOLE.fullmatch(text) for text in texts if text):
        return [text.partition(".")[0] for text in texts]
    return texts


def _refuse_measures(texts: list[str], who: str) -> None:
    """Refuse texts that are numbers, not all whole, and mostly different: versions (``1.5``) are classes, such are not."""
    numbers = [text for text in texts if text]
    if len(set(numbers)) > len(numbers) / 2 and all(map(_NUMBER.fullmatch, numbers)) and not all(map(_WHOLE.fullmatch, numbers)):
        got = next(text for text in numbers if not _WHOLE.fullmatch(text))
        raise DataError(who, "labels must be whole numbers or words", got=got, fix="Number the classes, or name them.")


def label_text(value: Any, *, who: str) -> str:
    """Return a label as text, "" for one that is missing.

    Raises DataError for several labels, for a number that is not whole, and for bytes that are no text.
    """
    value = one_label(value, who=who)
    try:
        text = cell_text(value.decode() if isinstance(value, bytes) else value)
    except UnicodeDecodeError:  # a mark in the place of each strange byte would make one class of several
        raise DataError(who, "labels that are bytes must be UTF-8", got=value,
                        fix="Decode them before: label.decode('cp1252'), or whatever their encoding is.") from None  # fmt: skip
    if isinstance(value, float) and text and not _WHOLE.fullmatch(text):
        raise DataError(who, "labels must be whole numbers or words", got=text, fix="Number the classes, or name them.")
    return text


def one_label(value: Any, *, who: str) -> Any:
    """Return a label as plain Python, None for one that is masked or null. Raises DataError, by the name ``who``, for several."""
    value = plain(value)
    if isinstance(value, (list, tuple, set, frozenset, dict)) or getattr(value, "ndim", 0):
        raise DataError(who, "a label must be one word or one number", got=value, fix=_way_to_one(value))
    return value


def _way_to_one(value: Any) -> str:
    """Return how what holds several labels, or one in brackets, becomes one label."""
    if math.prod(getattr(value, "shape", (0,))) == 1:  # argmax(1) of a column would make one class of all
        return "Give labels of shape (n,), not (n, 1): ravel()."
    if isinstance(value, (set, frozenset, dict)) or any(isinstance(part, (str, bytes)) for part in value):
        return "Name one class for each picture" + (", without brackets around it." if len(value) == 1 else ".")
    if len(value) == 1:
        return "Give the number itself, without brackets around it."
    return "Turn one-hot rows into numbers: argmax(1)."


def is_missing(value: Any) -> bool:
    """Return whether a value stands for none: None, NaN, masked, Arrow's null, and those of pandas, which refuse comparison."""
    value = plain(value)
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def cell_text(value: Any) -> str:
    """Return what stands in a cell as clean text: "" for an empty or missing one, ``3`` for the float 3.0.

    >>> from descend.data.labels import cell_text
    >>> [cell_text(value) for value in (" cat ", None, float("nan"), "NaN", 3.0, b"dog", True)]
    ['cat', '', '', '', '3', 'dog', 'True']
    """
    value = plain(value)
    if is_missing(value):
        return ""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")  # what differs stays different
    text = clean_text(str(value))
    return "" if text.strip("'\"").casefold() in _MISSING else text


def clean_text(text: str) -> str:
    r"""Return text composed (NFC), with one blank between its words and none around them, without marks that nobody sees.

    >>> from descend.data.labels import clean_text
    >>> clean_text(" great\u00a0dane\u200b")
    'great dane'
    """
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", text)).split())


def _merged(values: Sequence[Any], texts: Sequence[str]) -> list[Problem]:
    """Return the problem of spellings that became one class."""
    spellings: dict[str, set[str]] = {}
    for value, text in zip(values, texts, strict=True):
        if text and isinstance(value, str):
            spellings.setdefault(text, set()).add(value)
    several = [" = ".join(map(repr, sorted(ways))) for ways in spellings.values() if len(ways) > 1]
    return problem("merged", "1 class was spelled in several ways", "{n} classes were spelled in several ways", several)


def _similar(classes: Sequence[str]) -> list[Problem]:
    """Return the problem of classes that differ in capitals, in what stands between or around words, or in letters' look only."""
    folded: dict[str, list[str]] = {}
    are_truths = all(_folded(name) in _TRUTHS for name in classes)  # 1 and TRUE
    for name in classes:
        fold = _folded(name)
        folded.setdefault(_TRUTHS[fold] if are_truths else fold, []).append(name)
    pairs = [" and ".join(map(ascii if len(set(map(_visible, names))) < len(names) else repr, names))
             for names in folded.values() if len(names) > 1]  # fmt: skip
    but = "but for upper and lower case, marks or zeros"
    return problem("similar", f"1 name stands for several classes, {but}", f"{{n}} names stand for several classes, {but}", pairs)


def _copied(classes: Sequence[str]) -> list[Problem]:
    """Return the problem of classes that are called like a copy of another one: ``OK - Copy`` beside ``OK``."""
    by_fold = {_folded(name): name for name in classes}
    originals = {name: by_fold.get(_folded(_COPY.sub("", name))) for name in classes if _COPY.search(name)}
    named = [f"{name!r} of {original!r}" for name, original in originals.items() if original is not None]
    return problem("copied", "1 class is called like a copy of another: bring them together if they are one",
                   "{n} classes are called like copies of others: bring together what is one", named)  # fmt: skip


def _folded(name: str) -> str:
    """Return what classes share that are likely one: ``Great_Dane``, ``great dane`` and ``'great dane'``; ``01`` and ``1``."""
    text = _visible(name).casefold()
    text = re.sub(r"(?<=[^\W\d_])[\s_\-]+(?=[^\W\d_])", " ", text)
    bare = text.strip("'\"`\u2018\u2019\u201c\u201d.,;: ") or text
    return str(int(bare)) if re.fullmatch(r"[0-9]+", bare) else bare


def _visible(name: str) -> str:
    """Return what a name looks like: full-width and Cyrillic letters like Latin ones, joiners like nothing."""
    return re.sub("[\u200c\u200d]", "", unicodedata.normalize("NFKC", name)).translate(_ALIKE)


def _doubtful(classes: Sequence[str]) -> list[Problem]:
    """Return the problem of classes that may be gaps: words, marks alone, and a number of its own beside numbered classes."""
    numbered = {name for name in classes if name.isdecimal()}
    codes = {name for name in _CODES_OF_GAPS if str(int(name) - 1) not in numbered and len(numbered - {name}) > 1}
    named = [repr(name) for name in classes if name.casefold() in _DOUBTFUL or name in codes or _ONLY_MARKS.fullmatch(name)]
    return problem("doubtful", "1 class has a name that may stand for a missing label; leave its cells empty if so",
                   "{n} classes have names that may stand for a missing label; leave their cells empty if so", named)  # fmt: skip


def _several(classes: Sequence[str]) -> list[Problem]:
    """Return the problem of classes made of others: ``cat|dog`` beside ``cat``, or ``cat dog`` beside both."""
    bare = {name: name.strip("[](){}' \"") for name in classes}
    known = set(bare.values())
    parted = ((name, [part.strip(" '\"") for part in re.split(r"[|;,/+&]", text)]) for name, text in bare.items())
    named = [name for name, parts in parted if len(parts) > 1 and all(parts) and set(parts) & known]
    named += [name for name in classes if len(words := name.split()) > 1 and set(words) <= known]
    return problem("doubtful", "1 class may be several labels of one picture; each picture has one class here",
                   "{n} classes may be several labels of one picture; each picture has one class here",
                   [*map(repr, named)])  # fmt: skip

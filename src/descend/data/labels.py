"""One rule for labels, whatever they come from: folders, tables, data frames, lists or arrays.

* Blanks around a label do not count, nor how many and which stand between its words, nor marks that nobody sees; an accent is the
  same letter composed or decomposed (NFC).
* None, NaN, an empty cell and the texts that stand for them (``nan``, ``<NA>``, ``null``, ``unlabeled``, ...) are no label.
* Numbers are whole: ``1``, ``1.0`` and the float 1.0 that a gap makes of an integer are one class.

What was brought together, or may have been meant otherwise, is told.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.folder_names import left_over
from descend.data.manifest import natural
from descend.data.problems import Problem, problem
from descend.data.scalars import on_each, plain
from descend.errors import DataError

_MISSING = frozenset({
    "", "nan", "-nan", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind", "nat", "<na>", "n/a", "#na", "#n/a", "#n/a n/a", "null",
    "(null)", "[null]", "\\n", "(blank)", "unlabeled", "not labeled", "<null>", "pd.na", "np.nan",
    "#nv", "#n/v", "#n/d", "#n/b", "#n/disp", "#\u043d/\u0434", "#div/0", "#ref", "#value", "#null", "#num", "#error",
})  # fmt: skip
# of spreadsheets, in any language: #REF!, #NAME?, #WERT!, #\u00a1REF!; LibreOffice's Err:502
_SPREADSHEET_ERROR = re.compile(r"#[\u00a1\u00bf]?[^\W\d_][\w/ .]*[!?]|#?(Err|Fehler|Erreur):\d{3}")
_DOUBTFUL = frozenset({
    "", "none", "na", "n.a", "n.a.", "n.d.", "nil", "missing", "undefined", "undef", "unknown", "unk", "tbd", "todo", "no label",
    "no class", "no annotation", "not available", "not applicable", "not annotated", "not classified", "not specified",
    "unannotated", "unclassified", "uncategorized", "uncategorised", "unspecified", "unassigned", "unset", "not set", "void",
    "ignore", "ignored", "empty", "blank", "no data", "no value", "not a number", "not known", "loading...", "loading\u2026",
    "k.a.", "keine angabe", "unbekannt", "inconnu", "desconocido", "desconhecido", "sconosciuto", "onbekend",
})  # fmt: skip
_JOINED = frozenset(word.replace(" ", "") for word in _DOUBTFUL)  # NoLabel
# classes in some data, gaps in others, as are - ? . * and their like, a blank of Braille, and what stands for no character
_ONLY_MARKS = re.compile(r"[-\u2013\u2014?.*/#_\u2026\u2800\ufffd]+")
_AROUND_GAPS = "'\"`\u2018\u2019\u201c\u201d<>()[]{} "
_NEGATIVE_GAPS = frozenset({"-1", "-2", "-9", "-99", "-100", "-999", "-9999", *(str(-(2**bits)) for bits in (7, 15, 31, 63))})
_LARGEST_GAPS = frozenset(str(2**bits - 1) for bits in (8, 15, 16, 31, 32, 63, 64))  # where none is larger
_CODES_OF_GAPS = _NEGATIVE_GAPS | {"99", "999", "9999"} | _LARGEST_GAPS  # beside words, or classes that are numbered otherwise
_WHOLE = re.compile(r"([+-]?\d+)(\.0+)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.IGNORECASE)
# control characters but blanks, and what Unicode calls ignorable by default, less joiners and what selects a variant of a letter;
# a flag of England, which is a black one and such marks, stays
_INVISIBLE = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)|[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c"
                        "\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
                        "\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff]")  # fmt: skip
_JOINERS = "\u200c\u200d"
_VARIANTS = "\u180b-\u180d\u180f\U000e0100-\U000e01ef"  # of Mongolian letters and of ideographs
# as file managers name a second folder: Windows, macOS, GNOME
_COPY = re.compile(
    r"^(copy of|kopie von|copie de|copia de) |[ _-]+\(?(copy|kopie|copie|copia)\)?( ?\(?\d+\)?)?$| \(\d+\)$", re.IGNORECASE
)
_TRUTHS = {"true": "1", "yes": "1", "y": "1", "t": "1", "1": "1", "false": "0", "no": "0", "n": "0", "f": "0", "0": "0"}
# Cyrillic letters that look like Latin ones
_ALIKE = str.maketrans("\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425"
                       "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455", "ABEKMHOPCTYXaeopcyxijs")  # fmt: skip
# typographic dashes and the minus; apostrophes, and accents that stand alone
_MARKS_ALIKE = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
                             | dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4`", "'"))  # fmt: skip
_THOUSANDS = re.compile(r"(?<=\d)[,'_ ](?=\d{3}(?!\d))")
_LONGEST_NUMBER = 300  # digits, whose value tells what is one class
_LISTED = re.compile(r"[|;]")  # between labels; the others may belong to one: "crane, bird", "and/or", "C++"
_BETWEEN = re.compile(r"[|;,/]")  # ... where many names have them
_PARTS = re.compile(r"[|;,/+&]")
_SELDOM = 100  # once in as many cases


def encode_labels(
    values: Sequence[Any] | NDArray[Any], *, who: str, are_names: bool = False
) -> tuple[tuple[str, ...], NDArray[np.int64], list[Problem]]:
    """Return the classes in order (``_in_order``), each value's class, and what its owner should know.

    values: (N,) words, numbers, booleans, None or NaN. The classes' numbers are (N,) int64, -1 where a label is missing.
    are_names: each value names a class of many pictures, as a folder does, and so measures nothing (``0.5``, ``1.5``).
    Raises DataError, in the name of ``who``, for a number that is not whole, and for texts that measure something.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "biufUS" and not np.ma.isMaskedArray(values):
        values = values.tolist()
    texts = whole_numbers(on_each(lambda value: label_text(value, who=who), values))
    if not are_names:
        _refuse_measures(texts, who)
    classes = tuple(_in_order(set(texts) - {""}))
    position = {word: index for index, word in enumerate(classes)} | {"": -1}
    numbers = np.fromiter((position[text] for text in texts), np.int64, len(texts))
    told = [*_similar(classes), *_copied(classes, are_names=are_names), *_doubtful(classes), *_several(classes)]
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
    if all(map(_WHOLE.fullmatch, {*texts} - {""})):
        return [text.partition(".")[0] for text in texts] if any("." in text for text in {*texts}) else texts
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
        text = _text(value.decode() if isinstance(value, bytes) else value)
    except UnicodeDecodeError:  # a mark in the place of each strange byte would make one class of several
        raise DataError(who, "labels that are bytes must be UTF-8", got=value,
                        fix="Decode them before: label.decode('cp1252'), or whatever their encoding is.") from None  # fmt: skip
    if isinstance(value, float) and text and not _WHOLE.fullmatch(text):
        raise DataError(who, "labels must be whole numbers or words", got=text, fix="Number the classes, or name them.")
    return text


def check_one_for_each(labels: Any, *, who: str) -> None:
    """Raise DataError for labels in what has no order, or gives something else one by one: a dict its keys.

    Those of a generator or a dict's values are in a list by now (``descend.data.listed``).
    """
    fix = "Give a list with the label of each picture."
    if isinstance(labels, Mapping):
        fix = "Where its keys are the paths: [labels[path] for path in paths]."
    elif hasattr(labels, "columns"):
        fix = "Give the column that holds them: frame['label']."
    elif hasattr(labels, "__getitem__") and not isinstance(labels, (str, bytes)):
        return
    raise DataError(who, "labels must be a list or an array, in the order of the pictures", got=type(labels).__name__, fix=fix)


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


def _is_none(value: Any) -> bool:
    """Return whether a value in plain Python stands for none: None, NaN, and those of pandas, which refuse comparison."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))


def cell_text(value: Any) -> str:
    """Return what stands in a cell as clean text: "" for an empty or missing one, ``3`` for the float 3.0.

    >>> from descend.data.labels import cell_text
    >>> [cell_text(value) for value in (" cat ", None, float("nan"), "NaN", 3.0, b"dog", True)]
    ['cat', '', '', '', '3', 'dog', 'True']
    """
    return _text(plain(value))


def _text(value: Any) -> str:
    """Return a value in plain Python as clean text."""
    if _is_none(value):
        return ""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")  # what differs stays different
    text = clean_text(str(value))
    word = text.strip("'\"")
    if _SPREADSHEET_ERROR.fullmatch(word) and (word == word.upper() or ":" in word):
        return ""
    word = word.casefold()
    return "" if {word, _in_words(word), _in_words(word).replace(" ", "")} & _MISSING else text


def group_text(value: Any) -> str:
    """Return a group's name as clean text: "" for a missing one, also by words that may be classes (``NA``, ``none``, ``?``).

    One group of all that have none would tie strangers together.
    """
    text = cell_text(value)
    return "" if _may_be_gap(text) or text in _NEGATIVE_GAPS else text


def _in_words(word: str) -> str:
    """Return words with blanks between them where underscores or hyphens are, in American spelling: ``not_labeled``."""
    return re.sub(r"(?<=[a-z])[_-](?=[a-z])", " ", word).replace("labelled", "labeled")


def _may_be_gap(name: str) -> bool:
    """Return whether a name may stand for none, by its words, in whatever quotes or brackets, or as marks alone."""
    words = _in_words(name.casefold().strip(_AROUND_GAPS))
    return words in _DOUBTFUL or words.replace(" ", "") in _JOINED or _ONLY_MARKS.fullmatch(name) is not None


def clean_text(text: str) -> str:
    r"""Return text composed (NFC), with one blank between its words and none around them, without marks that nobody sees.

    >>> from descend.data.labels import clean_text
    >>> clean_text(" great\u00a0dane\u200b")
    'great dane'
    """
    seen = _INVISIBLE.sub(lambda found: found[1] or "", text)  # before NFC: one may stand between a letter and its accent
    seen = " ".join(unicodedata.normalize("NFC", seen).split())
    return seen if seen.strip(f" {_JOINERS}") else ""


def _merged(values: Iterable[Any], texts: Sequence[str]) -> list[Problem]:
    """Return the problem of spellings that became one class."""
    spellings: dict[str, set[str]] = {}
    for value, text in dict.fromkeys(pair for pair in zip(values, texts, strict=True) if isinstance(pair[0], str) and pair[1]):
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


def _copied(classes: Sequence[str], *, are_names: bool) -> list[Problem]:
    """Return the problem of classes that are called like a copy of another one: ``OK - Copy`` beside ``OK``.

    are_names: of folders, those that say so in words are told where it is decided which folders are classes.
    """
    aside = {*left_over(classes)} if are_names else set[str]()
    by_fold = {_folded(name): name for name in classes}
    originals = {name: by_fold.get(_folded(_COPY.sub("", name))) for name in classes
                 if name not in aside and _COPY.search(name)}  # fmt: skip
    named = [f"{name!r} of {original!r}" for name, original in originals.items() if original is not None]
    return problem("copied", "1 class is called like a copy of another: bring them together if they are one",
                   "{n} classes are called like copies of others: bring together what is one", named)  # fmt: skip


def _folded(name: str) -> str:
    """Return what classes share that are likely one: ``Great_Dane``, ``great dane``, ``'great dane'``; ``01``, ``1.0``, ``1``."""
    text = _visible(html.unescape(name)).casefold()
    text = re.sub(r"(?<=[^\W\d_])[\s_\-]+(?=[^\W\d_])", " ", text)
    bare = text.strip("'\"`\u201c\u201d.,;: ") or text
    number = _THOUSANDS.sub("", bare)
    return str(Fraction(number)) if _NUMBER.fullmatch(number) and len(number) <= _LONGEST_NUMBER else bare


def _visible(name: str) -> str:
    """Return what a name looks like: full-width and Cyrillic letters like Latin ones, one dash, one apostrophe, no joiners."""
    text = unicodedata.normalize("NFKC", name.translate(_MARKS_ALIKE))
    return re.sub(f"[{_JOINERS}{_VARIANTS}]", "", text).replace("\u2800", " ").strip().translate(_ALIKE)


def _doubtful(classes: Sequence[str]) -> list[Problem]:
    """Return the problem of classes that may be gaps: words, marks alone, and a number of its own beside numbered classes."""
    values = {name: _folded(name) for name in classes}
    numbered = {value for value in values.values() if value.isdecimal()}
    are_words = any(map(str.isalpha, "".join(values.values())))
    largest = max((int(value) for value in numbered if len(value) <= _LONGEST_NUMBER), default=0)

    def is_code(value: str) -> bool:
        if value not in _CODES_OF_GAPS or str(int(value) - 1) in numbered or (value in _LARGEST_GAPS and int(value) < largest):
            return False
        is_step = value == "-2" and (are_words or {"-1", "2"} <= {*values.values()})  # below 0, as there is one above it
        return not is_step and (are_words or len(numbered - {value}) > 1)

    named = [repr(name) for name, value in values.items() if _may_be_gap(name) or is_code(value)]
    return problem("doubtful", "1 class has a name that may stand for a missing label; leave its cells empty if so",
                   "{n} classes have names that may stand for a missing label; leave their cells empty if so", named)  # fmt: skip


def _several(classes: Sequence[str]) -> list[Problem]:
    """Return the problem of classes made of others: ``cat|dog`` beside ``cat`` or ``dog|bird``, or ``cat dog`` beside both."""
    bare = {name: name.strip("[](){}' \"") for name in classes}
    known = set(bare.values())
    parted = {name: [part.strip(" '\"") for part in _PARTS.split(text)] for name, text in bare.items()}
    parted = {name: parts for name, parts in parted.items() if len(parts) > 1 and all(parts)}
    words = {name: name.split() for name in classes if " " in name}
    found = {name for name, parts in parted.items() if set(parts) & known}
    found |= {name for name, parts in words.items() if set(parts) <= known}
    found |= _sharing({name: parts for name, parts in parted.items() if _LISTED.search(name) or name[0] in "[{("})
    words = {name: parts for name, parts in words.items() if name not in parted}
    listed = {name: parts for name, parts in parted.items() if _BETWEEN.search(bare[name])}
    joined = {name: parts for name, parts in parted.items() if name not in listed}
    found |= _mixed(listed, len(classes))
    found |= {name for names in (joined, words) if _are_lists(names.values()) for name in _mixed(names, len(classes))}
    return problem("doubtful", "1 class may be several labels of one picture; each picture has one class here",
                   "{n} classes may be several labels of one picture; each picture has one class here",
                   [repr(name) for name in classes if name in found])  # fmt: skip


def _sharing(parted: Mapping[str, list[str]]) -> set[str]:
    """Return the names with a part that stands behind different ones: ``cat|dog``, ``dog|bird``; not ``pet|cat``, ``pet|dog``."""
    before: dict[str, set[tuple[str, ...]]] = {}
    for parts in parted.values():
        for at, part in enumerate(parts):
            before.setdefault(part, set()).add(tuple(parts[:at]))
    return {name for name, parts in parted.items() if any(len(before[part]) > 1 for part in parts)}


def _mixed(parted: Mapping[str, list[str]], n_classes: int) -> set[str]:
    """Return the names whose parts are those of others too, in no fixed order: ``clear primary``, ``haze primary water``.

    In names of one thing an adjective stands first (``red car``, ``red bus``) and a noun last, however many share it. Told are
    the names whose parts all recur, if these are most, and those with a part of half the classes that is neither first nor last.
    """
    times = Counter(part for parts in parted.values() for part in set(parts))
    places: dict[str, set[tuple[int, int]]] = {}
    for parts in parted.values():
        for at, part in enumerate(parts):
            places.setdefault(part, set()).add((at, len(parts) - at))
    sides = {part: tuple(map(set, zip(*where, strict=True))) for part, where in places.items() if len(where) > 1}
    found = {name for name, parts in parted.items() if all(times[part] > 1 for part in parts)}
    moves = any(len(sides[part][0]) > 1 and len(sides[part][1]) > 1 for name in found for part in parted[name] if part in sides)
    common = {part for part, (firsts, lasts) in sides.items()
              if times[part] >= max(3, n_classes / 2) and firsts != {0} and lasts != {1}}  # fmt: skip
    whole = found if moves and 2 * len(found) > len(parted) else set[str]()
    return whole | {name for name, parts in parted.items() if common & set(parts)}


def _are_lists(names: Collection[Sequence[str]]) -> bool:
    """Return whether words stand as in lists: most that are met together repeatedly in either order, or all by the alphabet.

    In names of one thing what varies is a part or a place: ``Apple Red 1``, ``Tomato leaf blight``, ``Early blight leaf``. The
    alphabet counts where chance would seldom sort all names.
    """
    folded = [[word.casefold() for word in words] for words in names]
    times, orders = Counter[frozenset[str]](), set[tuple[str, str]]()
    for words in folded:
        pairs = {pair for pair in combinations(words, 2) if pair[0] != pair[1]}
        times.update({frozenset(pair) for pair in pairs})
        orders |= pairs
    together = [pair for pair, n in times.items() if n > 1]
    both = [pair for pair in together if all(order in orders for order in permutations(pair))]
    by_alphabet = all(words == sorted(words) for words in folded)
    by_chance = sum(math.lgamma(len(words) + 1) for words in folded)
    return 2 * len(both) > len(together) or (by_alphabet and by_chance > math.log(_SELDOM))

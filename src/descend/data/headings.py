"""The headings of tables: which column names the files, which the classes, and what others may be.

Headings are compared by their letters and digits. ``path`` and ``label`` are taken as they are; where one of them is missing, a
column is taken by another name if it alone can be meant: names of files (``filename``, ``image``), or else of ids (``id_code``);
names of classes (``class``, ``breed``), or a word of theirs (``category_id``). Where no column names the classes, columns of 0
and 1 do, one for each class. What was taken so is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from descend.data.formats import is_picture_name
from descend.data.labels import cell_text, clean_text
from descend.data.manifest import SPLIT_WORDS
from descend.data.problems import Problem, problem
from descend.errors import DataError

COLUMNS = ("path", "label", "split", "group")
_FILES = frozenset({
    "path", "paths", "file", "files", "filename", "filenames", "filepath", "filepaths", "fname", "image", "images", "img", "imgs",
    "imagepath", "imgpath", "imagefile", "imagefilename", "imagename", "imagenames", "imgname", "imageindex", "picture", "photo",
})  # fmt: skip
_IDS = frozenset({"id", "imageid", "imgid", "idcode", "fileid", "name", "uuid", "key"})  # files' names without ending, mostly
_CLASSES = frozenset({
    "y", "classname", "classid", "breed", "species", "diagnosis", "dx", "level", "landmarkid", "emotion", "disease", "finding",
    "findings", "tags", "choice", "variety",
})  # fmt: skip
_CLASS_WORDS = frozenset({"label", "labels", "class", "classes", "category", "categories", "target", "targets"})
_UNUSED = {
    "split": frozenset({"isvalid", "isval", "istest", "istrain", "set", "subset", "dataset", "datatype", "partition", "phase",
                        "usage", "fold", "kfold", "splits", "splitname", "traintest", "mode"}),
    "group": frozenset({"groups", "groupid", "patient", "patientid", "subject", "subjectid", "video", "videoid", "burst", "scene",
                        "lesion", "lesionid", "case", "caseid", "study", "studyid", "series", "seriesid", "slide", "slideid",
                        "site", "camera", "cameraid", "location", "person", "personid", "seqid", "session"}),
}  # fmt: skip
_MINUS = frozenset({"-1", "-1.0"})  # in the place of 0; beside it, what is uncertain, as in CheXpert
_ZERO, _ONE = frozenset({"0", "0.0", "false", "no", "", *_MINUS}), frozenset({"1", "1.0", "true", "yes", "x"})
_PIXELS = re.compile(r"pixel_?\d+|\d+x\d+")
_ROWS_SHOWN = 3


class Picked(NamedTuple):
    """Where the columns that are used stand, the cells of all rows, with a label added or not, and what is to be told."""

    where: dict[str, int]
    cells: list[list[Any]]
    notes: list[Problem]


def is_heading(cell: Any) -> bool:
    """Say whether a cell is a heading that tells the files or the classes."""
    return bool(_named("path", [cell]) or _named("label", [cell]))


def pick_columns(who: str, header: Sequence[Any], cells: list[list[Any]]) -> Picked:
    """Return where the columns of a table stand. Raises DataError where files or classes are named by none, or by several."""
    names = [_text(name) for name in header]
    where = {column: names.index(column) for column in COLUMNS if column in names}
    where["path"] = pick_path(who, header)
    hot = [] if "label" in where else _pick_label(who, header, cells, where)
    taken = [f"{str(header[where[column]])!r} as {column}" for column in ("path", "label")
             if column in where and names[where[column]] != column]  # fmt: skip
    notes = taken_by_name(taken)
    if hot:
        notes += problem("headings", "", "{n} columns of 0 and 1 are taken as the classes", [repr(str(header[at])) for at in hot])
        cells = [[*row, label] for row, label in zip(cells, _labels_of(who, header, cells, hot), strict=True)]
        where["label"] = len(header)
    return Picked(where, cells, notes)


def taken_by_name(taken: Sequence[str]) -> list[Problem]:
    """Return what is to be told of columns that are used though they are called otherwise: ``'breed' as label``."""
    return problem("headings", "1 column is taken by another name", "{n} columns are taken by other names", taken)


def pick_path(who: str, header: Sequence[Any]) -> int:
    """Return which column names the files. Raises DataError where none does, where several may, and for a repeated heading."""
    names = [_text(name) for name in header]
    for column in COLUMNS:
        if names.count(column) > 1:
            raise DataError(who, f"must have one column {column!r}", got=", ".join(map(str, header)), fix="Rename the others.")
    found = _named("path", header)
    if len(found) == 1:
        return found[0]
    if found:
        fix = f"Rename the one that names the files to 'path': {_listed(header, found)}."
    else:
        fix = "Rename the column that names the files to 'path'; a table has the columns path,label and may add split and group."
        if any(is_picture_name(name) for name in names):
            fix = f"The first line seems to name a picture: put the line {','.join(_guessed(names))} above it."
        if any(_PIXELS.fullmatch(name) for name in names):
            fix = "The cells hold pixels: in Python, make an array (N, H, W) uint8 of them, and give (images, labels)."
    raise DataError(who, "must have a column 'path'", got=_got(header), fix=fix)


def _guessed(cells: Sequence[str]) -> list[str]:
    """Return a heading for each cell of a row: what can be told is named, the first of the others is the label."""
    kinds = ["path" if is_picture_name(cell) else "split" if cell in SPLIT_WORDS else "" for cell in cells]
    found = [kind if kind and kind not in kinds[:at] else "" for at, kind in enumerate(kinds)]
    others = [at for at, kind in enumerate(found) if not kind]
    return [kind or ("label" if at == others[0] else f"more{others.index(at)}") for at, kind in enumerate(found)]


def path_columns(header: Sequence[Any]) -> list[int]:
    """Return the columns that by their headings may name the files."""
    return _named("path", header)


def names_table(header: Sequence[Any]) -> bool:
    """Return whether headings alone, those of a dict too, name one column of pictures and one of classes."""
    return len(_named("path", header)) == 1 and label_column(header) is not None


def columns_by_name(header: Sequence[Any]) -> dict[str, int]:
    """Return where the columns stand that are used by their headings alone; none of which several may be meant."""
    found = {column: _named(column, header) for column in ("path", "label")}
    found |= {column: [at for at, name in enumerate(header) if _text(name) == column] for column in ("split", "group")}
    return {column: places[0] for column, places in found.items() if len(places) == 1}


def label_column(header: Sequence[Any]) -> int | None:
    """Return the column that alone may name the classes by its heading, or None."""
    found = _named("label", header)
    return found[0] if len(found) == 1 else None


def unused_columns(header: Sequence[Any], cells: Sequence[Sequence[Any]], where: dict[str, int]) -> list[str]:
    """Return the columns that by their names may give the split or the groups, and how, where no column is called so."""
    return [
        f"{str(name)!r} ({_way_to_use(column, [row[at] for row in cells])} to use it)"
        for column, words in _UNUSED.items()
        if column not in where
        for at, name in enumerate(header)
        if _key(name) in words and at not in where.values()
    ]


def _way_to_use(column: str, cells: Sequence[Any]) -> str:
    if column == "split" and not all(_text(cell) in SPLIT_WORDS for cell in cells):  # is_valid: True, fold: 3
        return "write train, val or test for its cells in a column 'split'"
    return f"rename it to {column!r}"


def _pick_label(who: str, header: Sequence[Any], cells: Sequence[Sequence[Any]], where: dict[str, int]) -> list[int]:
    """Add to ``where`` the column that alone may name the classes, or return the columns of 0 and 1 that do. Raises DataError."""
    others = [at for at in range(len(header)) if at not in where.values()]
    candidates = [at for at in _named("label", header) if at in others]
    if len(candidates) == 1:
        where["label"] = candidates[0]
        return []
    hot = _of_zeros_and_ones(header, cells, others)
    if len(hot) < 2 or not set(candidates) <= set(hot):
        raise _no_label(who, header, candidates or hot or others * (len(others) == 1))
    return _without_flags(cells, hot, _with_minus(who, header, cells, hot))


def _with_minus(who: str, header: Sequence[Any], cells: Sequence[Sequence[Any]], hot: Sequence[int]) -> list[int]:
    """Return the columns with -1 for 0. Raises DataError for one with both; an empty cell beside -1 may be either."""
    found = list[int]()
    for at in hot:
        marks = [_text(row[at]) for row in cells]
        kinds = {*marks}
        if kinds & _MINUS and kinds & (_ZERO - _MINUS - {""}):
            number = next(number for number, mark in enumerate(marks, start=2) if mark in _MINUS)
            must = f"a column of classes must hold 0 and 1, or -1 and 1, {str(header[at])!r} holds all three"
            raise DataError(who, must, got=f"row {number}: {marks[number - 2]}",
                            fix="If -1 says that a class is uncertain, write 0 or 1 for it, or leave the row out.")  # fmt: skip
        found += [at] * bool(kinds & _MINUS)
    return found


def _without_flags(cells: Sequence[Sequence[Any]], hot: list[int], with_minus: list[int]) -> list[int]:
    """Return the columns of -1 and 1 where these alone give each row one 1, and those of 0 and 1 beside them others: ``male``."""

    def gives_one_each(columns: list[int]) -> bool:
        return all(sum(_text(row[at]) in _ONE for at in columns) == 1 for row in cells)

    if not 1 < len(with_minus) < len(hot) or gives_one_each(hot):
        return hot
    return with_minus if gives_one_each(with_minus) else hot


def _labels_of(who: str, header: Sequence[Any], cells: Sequence[Sequence[Any]], hot: Sequence[int]) -> list[str]:
    """Return the class of each row, the heading under which its only 1 stands. Raises DataError for a row that has not one."""
    marked = [[str(header[at]).strip() for at in hot if _text(row[at]) in _ONE] for row in cells]
    several = [number for number, found in enumerate(marked, start=2) if len(found) != 1]
    if several:
        shown = "; ".join(f"row {number}: {' and '.join(marked[number - 2][:3]) or 'none'}" for number in several[:_ROWS_SHOWN])
        must = f"each row must have one 1 in its columns {_listed(header, hot)}, {len(several):,} of {len(cells):,} have not"
        raise DataError(who, must, got=shown,
                        fix="A picture has one class here: name it in a column 'label', and leave the others out.")  # fmt: skip
    return [found[0] for found in marked]


def _named(column: str, header: Sequence[Any]) -> list[int]:
    """Return the columns that by their names tell the files, or the classes: one of that very name before all others."""
    exact = [at for at, name in enumerate(header) if _text(name) == column]
    if exact:
        return exact
    if column == "path":
        files = [at for at, name in enumerate(header) if _key(name) in _FILES]
        return files or [at for at, name in enumerate(header) if _key(name) in _IDS]
    classes = _CLASSES - {"y"} if any(_key(name) == "x" for name in header) else _CLASSES  # beside x it is a place
    return [at for at, name in enumerate(header) if _key(name) in classes or _CLASS_WORDS & _words(name)]


def _of_zeros_and_ones(header: Sequence[Any], cells: Sequence[Sequence[Any]], among: Sequence[int]) -> list[int]:
    """Return the columns whose cells are all 0 or 1 (or empty or x, -1 or 1), less those that may be a split or a group."""
    aside = frozenset[str]().union(*_UNUSED.values())
    found = [at for at in among if cells and _key(header[at]) and _key(header[at]) not in aside]
    kinds = [(at, {_text(row[at]) for row in cells}) for at in found]
    return [at for at, kind in kinds if kind <= _ZERO | _ONE and kind != {""}]


def _no_label(who: str, header: Sequence[Any], candidates: Sequence[int]) -> DataError:
    fix = ("Rename the column that holds the classes to 'label'; or, where each class has a column, mark that of each picture "
           "with 1 and the others with 0.")  # fmt: skip
    if candidates:
        fix = f"Rename the one that holds the classes to 'label': {_listed(header, candidates)}."
    return DataError(who, "must have a column 'label'", got=_got(header), fix=fix)


def _got(header: Sequence[Any]) -> str:
    return ", ".join(map(_text, header)) or "no header"


def _listed(header: Sequence[Any], places: Sequence[int]) -> str:
    shown = [repr(str(header[at])) for at in places]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")


def _text(cell: Any) -> str:
    return cell_text(cell).casefold()


def _key(name: Any) -> str:
    return re.sub(r"[\W_]+", "", _text(name))


def _words(name: Any) -> set[str]:
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", clean_text(str(name)))
    return set(re.findall(r"[^\W\d_]+", parted.casefold()))

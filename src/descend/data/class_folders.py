"""Which folders can be classes beside each other: what refuses such a reading, and what only speaks against it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from descend.data.folder_names import are_partitions, is_wrapper, left_over, split_names, stands_aside
from descend.data.labels import cell_text
from descend.data.split import TRAIN
from descend.data.tree import Folder
from descend.errors import DataError


def check_classes(classes: Sequence[Folder], who: str, *, evaluation: bool, in_split: bool = False) -> str:
    """Return what speaks against a reading of folders, side by side, as classes that is taken all the same, or nothing.

    Raises DataError for folders that cannot all be classes. in_split: they lie in the folder of a split, or beside one that holds
    the same, which says that they are classes. evaluation: as in ``layout.decide``; the classes of a run say which reading is
    meant, and nothing is refused.
    """
    if not evaluation:
        _refuse_split_of_some(classes, who)
        _refuse_classes_in_a_class(classes, who, in_split=in_split)
        if not in_split:
            _refuse_repeated_folders(classes, who)
    return "; ".join(filter(None, [_dragged(classes), _doubt(classes, evaluation=evaluation, in_split=in_split)]))


def _refuse_classes_in_a_class(classes: Sequence[Folder], who: str, *, in_split: bool) -> None:
    """Refuse ``yes``, ``no`` beside ``all/yes``, ``all/no``: pictures of all classes would be a class of their own.

    Not where each class holds such folders: what is shown and what it is taken for, say. In a split, only a folder that holds all
    classes beside it, or is called like a split, is surely none.
    """
    held = [(folder, *_classes_inside(folder, classes)) for folder in classes]
    if all(inside for _, inside, _ in held):
        return
    for folder, inside, others in held:
        if len(inside) > 1 and (not in_split or inside == others or split_names([folder.name])):
            must = f"a class folder must not hold folders that are called like the classes beside it: {listed(sorted(inside))}"
            raise DataError(who, must, got=folder.path, fix="Move it out of the data: it may be a copy of them.")


def _classes_inside(folder: Folder, classes: Sequence[Folder]) -> tuple[set[str], set[str]]:
    """Return which names of the classes beside a folder lie in it too, and these names; numbers in a number say nothing."""
    others = {other.label for other in classes if not (_is_number(other.label) and _is_number(folder.label))} - {folder.label}
    return {inner.label for inner in unwrapped(folder).populated} & others, others


def _is_number(name: str) -> bool:
    return name.isdecimal()


def _refuse_split_of_some(classes: Sequence[Folder], who: str) -> None:
    """Refuse a split that is given inside some class folders and not in others, or beside pictures and folders without one."""
    strays, n_split = list[str](), 0
    for folder in classes:
        named = split_names(part.name for part in folder.populated)
        if TRAIN not in named.values() or len(set(named.values())) < 2:
            strays.append(folder.path)
            continue
        n_split += 1
        strays += [part.path for part in folder.populated if part.name not in named and not stands_aside(part.name)]
        strays += [folder.joined(name) for name in folder.pictures[:1]]
    if n_split and strays:
        must = "where class folders hold the folders of a split, all of them must, and nothing else"
        raise DataError(who, must, got=", ".join(strays), fix="Move these into a split, or out of the data.")


def _refuse_repeated_folders(classes: Sequence[Folder], who: str) -> None:
    """Refuse folders that all hold folders of the same names and nothing else: those may be the classes as well."""
    inner = [tuple(folder.label for folder in unwrapped(outer).populated) for outer in classes]
    if len(classes) < 2 or len(set(inner)) > 1 or len(inner[0]) < 2 or any(outer.pictures for outer in classes):
        return
    if _says_nothing(inner[0]):
        return
    outside = listed(folder.name for folder in classes)
    raise ambiguous(who, f"classes {outside}", f"classes {listed(inner[0])}, in each of them")


def _dragged(classes: Sequence[Folder]) -> str:
    """Return the note of ``dog/cat`` beside ``cat``: a folder called like a class that lies in another, and is read as that one.

    What only wraps pictures, or stands aside, is called so by its kind, and a number may count something else.
    """
    names = {folder.label for folder in classes if not stands_aside(folder.name) and not is_wrapper(folder.name, "")}
    names = {name for name in names if not _is_number(name)}
    inside = [(outer, inner) for outer in classes for inner in outer.below() if inner is not outer and inner.n_pictures]
    dragged = [inner for outer, inner in inside if inner.label in names - {outer.label}]
    if not dragged:
        return ""
    n = sum(folder.n_pictures for folder in dragged)
    return (f"{listed(folder.path for folder in dragged)} {'is' if len(dragged) == 1 else 'are'} called like a class and read as "
            f"part of another, with {n:,} {'picture' if n == 1 else 'pictures'}")  # fmt: skip


def _doubt(classes: Sequence[Folder], *, evaluation: bool, in_split: bool) -> str:
    """Return what speaks against a reading of folders as classes that is taken all the same, or nothing."""
    classes = [folder for folder in classes if cell_text(folder.name)]  # pictures in one called unlabeled have no class
    if len(classes) < 2 or evaluation:
        return ""
    names = listed(folder.name for folder in classes)
    inner = [{folder.label for folder in unwrapped(outer).populated} for outer in classes]
    shared = set[str].intersection(*inner)
    aside = [folder.name for folder in classes if stands_aside(folder.name)]
    wrappers = [folder.name for folder in classes if is_wrapper(folder.name, "")]
    counted = in_split and all(map(_is_number, shared))  # of numbered subjects, say
    if len(shared) > 1 and not any(outer.pictures for outer in classes) and not counted and not _says_nothing(sorted(shared)):
        return f"{names} are read as classes; folders of the same names lie in each of them: {listed(sorted(shared))}"
    if _are_kinds(classes):
        held = listed(part.path for outer in classes for part in unwrapped(outer).populated)
        return f"{names} are read as classes, each with the folders in it: {held}; move these up if they are the classes"
    if are_partitions(folder.name for folder in classes):
        return f"{names} are read as classes, and are called like the parts of one whole"
    if wrappers:
        return f"{names} are read as classes; {listed(wrappers)} may only be what lies around pictures"
    aside += left_over(folder.name for folder in classes)
    if 0 < len(aside) < len(classes):
        return f"{names} are read as classes; by their names {listed(aside)} may hold something else"
    return ""


def _are_kinds(classes: Sequence[Folder]) -> bool:
    """Return whether each class holds folders of its own and nothing else: ``animal/cat``, ``animal/dog``, ``plant/oak``, ...

    Folders that one class shares with another, and numbered ones, are of another kind: subjects, sites.
    """
    held = [folder for outer in classes for folder in unwrapped(outer).populated]
    names = [folder.label for folder in held]
    if any(unwrapped(outer).pictures or len(unwrapped(outer).populated) < 2 for outer in classes):
        return False
    return len({*names}) == len(names) and not any(re.search(r"\d", name) for name in names) and not _says_nothing(names)


def _says_nothing(names: Sequence[str]) -> bool:
    """Return whether folders that are called alike everywhere are so by their kind: masks, wrappers, numbered parts."""
    return all(stands_aside(name) or is_wrapper(name, "") for name in names) or are_partitions(names)


def unwrapped(folder: Folder) -> Folder:
    """Return the folder of a split in which the class folders lie: itself, or what it wraps."""
    while len(folder.populated) == 1 and not folder.pictures:
        (only,) = folder.populated
        same = split_names([folder.name]) == {folder.name: split_names([only.name]).get(only.name)}
        if not (is_wrapper(only.name, folder.name) or same):
            break
        folder = only
    return folder


def ambiguous(who: str, first: str, second: str, told: str = "") -> DataError:
    """Return the error for folders that can be read in two ways, of which neither is taken. told: what else may mend it."""
    fix = f"{told}Rename the folders, give the one that holds the classes, or name the labels in a table: path,label."
    return DataError(who, f"the folders can be read in two ways: {first}; or {second}", fix=fix)


def listed(names: Iterable[str]) -> str:
    """Return names as they are shown in sentences: five at most, and how many more."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")

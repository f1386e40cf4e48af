"""How a tree of folders is to be read: which folders are classes, which are splits, and what belongs to neither.

Evidence is weighed over all folders. A folder is a split where its name says so *and* the folders around it agree: class folders
lie inside, several splits stand side by side, they name the same classes. A class may be called ``train``. Where two readings
remain, both are said and neither is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from descend.data.class_folders import ambiguous, check_classes, listed, unwrapped
from descend.data.folder_names import is_wrapper, split_names, stands_aside
from descend.data.manifest import SPLIT_WORDS, UNASSIGNED
from descend.data.split import TRAIN, VAL
from descend.data.tree import EXPECTED, Folder
from descend.errors import DataError, did_you_mean

_FEW = 0.1  # of the pictures: folders with less do not decide


@dataclass
class Layout:
    """A reading. labeled: (class, split, the folder that holds its pictures). unlabeled: folders of pictures without a class.

    empty: class folders that hold no picture. loose: paths of pictures beside class folders. beside: folders with pictures that
    belong to neither classes nor splits. note: what was decided against, or nothing.
    """

    labelled: list[tuple[str, int, Folder]] = field(default_factory=list)
    unlabelled: list[Folder] = field(default_factory=list)
    empty: list[Folder] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    beside: list[Folder] = field(default_factory=list)
    note: str = ""


def decide(root: Folder, who: str, *, evaluation: bool) -> Layout:
    """Return how the tree is to be read. evaluation: one split, and one class, is enough. Raises DataError."""
    layout = Layout()
    level = _unwrapped(root, evaluation, layout)
    parts = split_names(folder.name for folder in level.folders)
    if not evaluation:
        _refuse_closed_splits(level, who)
    named = [folder for folder in level.folders if folder.name in parts]
    if not any(folder.n_pictures for folder in named):
        return _classes(level, who, layout, evaluation)
    reader = _Splits(level, who, evaluation, layout, {folder.path: parts[folder.name] for folder in named})
    return reader.read()


def _unwrapped(level: Folder, evaluation: bool, layout: Layout) -> Folder:
    """Go down through folders that only wrap what counts (``images/``, a folder of the same name)."""
    while True:
        populated = level.populated
        inside = [folder for folder in populated if not stands_aside(folder.name)] if len(populated) > 1 else populated
        if len(inside) != 1 or len(level.pictures) > _FEW * level.n_pictures or split_names([inside[0].name]):
            return level
        (only,) = inside
        if not only.populated or len(only.pictures) > _FEW * only.n_pictures:
            return level  # pictures lie in it: a class, or no class at all
        decides = only.n_pictures >= (1 - _FEW) * level.n_pictures
        maybe_class = evaluation and not split_names(folder.name for folder in only.populated)
        if not is_wrapper(only.name, level.name) and (maybe_class or not decides):
            return level
        layout.loose += [level.joined(name) for name in level.pictures]
        layout.beside += [folder for folder in populated if folder is not only]
        level = only


def _refuse_closed_splits(level: Folder, who: str) -> None:
    """Refuse a folder called like validation or test that cannot be entered: what it holds must not be replaced unasked."""
    unlisted = ((path, why) for folder in level.folders for path, why in folder.passed_over if path == f"{folder.path}/")
    closed = {path.rstrip("/").rpartition("/")[2]: why for path, why in (*level.passed_over, *unlisted) if why not in EXPECTED}
    for name, number in split_names(closed).items():
        if number != TRAIN:
            raise _lost(who, name, number, closed[name])


def _lost(who: str, name: str, number: int, why: str) -> DataError:
    """Return the error for a validation or test folder that is given and gives nothing."""
    use, instead = ("validation", " to have validation taken out of train") if number == VAL else ("testing", "")
    return DataError(who, f"{name!r} must hold labeled pictures for {use} ({why})",
                     fix=f"Fill it, or rename or remove {name!r}{instead}.")  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- class folders


def _classes(level: Folder, who: str, layout: Layout, evaluation: bool) -> Layout:
    """Read the folders of a level as classes; a split may be given inside each of them."""
    populated = level.populated
    _refuse_wrapped_pictures(populated, who, evaluation)
    if _split_inside(populated):
        _refuse_classes_in_splits(populated, who)
        for folder in populated:
            numbers = split_names(part.name for part in folder.folders)
            layout.labelled += [(folder.name, numbers[part.name], part) for part in folder.populated]
    else:
        _refuse_empty_inside(populated, who, evaluation)
        layout.note = layout.note or check_classes(populated, who, evaluation=evaluation)
        layout.labelled += [(folder.name, UNASSIGNED, folder) for folder in populated]
    layout.empty += [folder for folder in level.folders if not folder.n_pictures and not stands_aside(folder.name)]
    layout.loose += [level.joined(name) for name in level.pictures]
    return layout


def _split_inside(classes: Sequence[Folder]) -> bool:
    """Return whether each class folder holds split folders and nothing else: ``cat/train``, ``cat/test``, ``dog/train``, ..."""
    numbers = [split_names(part.name for part in folder.populated) for folder in classes]
    only_splits = all(
        folder.populated and not folder.pictures and len(named) == len(folder.populated)
        for folder, named in zip(classes, numbers, strict=True)
    )
    together = {number for named in numbers for number in named.values()}
    return only_splits and len(classes) > 1 and TRAIN in together and len(together) > 1


def _refuse_wrapped_pictures(classes: Sequence[Folder], who: str, evaluation: bool) -> None:
    """Refuse ``images/*.jpg``, beside masks or alone: a folder called so around all pictures is no class."""
    inside = [folder for folder in classes if not stands_aside(folder.name)]
    if len(inside) == 1 and is_wrapper(inside[0].name, "") and not inside[0].populated and not evaluation:
        must = f"pictures must lie in class folders, those in {inside[0].name!r} lie directly there"
        raise DataError(who, must, fix="Make a folder for each class, or a table with the columns path,label.")


def _refuse_classes_in_splits(outer: Sequence[Folder], who: str) -> None:
    """Refuse ``fold1/train/cat``, ``fold2/train/cat``: the folders inside the splits are the classes, not those around them."""
    inner = [{deep.label for deep in part.populated} for folder in outer for part in folder.populated if not part.pictures]
    shared = set[str].intersection(*inner) if len(inner) == sum(len(folder.populated) for folder in outer) else set()
    if len(shared) > 1:
        outside = listed(folder.name for folder in outer)
        raise ambiguous(who, f"classes {outside}", f"classes {listed(sorted(shared))}, in the splits of each of them")


def _refuse_empty_inside(classes: Sequence[Folder], who: str, evaluation: bool) -> None:
    """Refuse ``cat/train`` and ``dog/train`` with pictures beside ``cat/val`` and ``dog/val`` without any."""
    numbers = [split_names(part.name for part in folder.folders) for folder in classes]
    held = {numbers[at].get(part.name) for at, folder in enumerate(classes) for part in folder.populated}
    if evaluation or held != {TRAIN}:
        return
    for named, folder in zip(numbers, classes, strict=True):
        for name, number in named.items():
            if number != TRAIN:
                raise _lost(who, f"{folder.name}/{name}", number, "it holds no picture")


# ---------------------------------------------------------------------------------------------------------- split folders


class _Splits:
    """Reads a level in which folders are named like splits. parts: path -> split."""

    def __init__(self, level: Folder, who: str, evaluation: bool, layout: Layout, parts: dict[str, int]) -> None:
        self.level, self.who, self.evaluation, self.layout = level, who, evaluation, layout
        self.number = parts
        self.named = [folder for folder in level.folders if folder.path in parts]
        self.parts = {folder.path: unwrapped(folder) for folder in self.named}
        self.others = [folder for folder in level.populated if folder.path not in parts]
        self.rivals = [folder for folder in self.others if not stands_aside(folder.name)]
        structured = [folder for folder in self.named if self.parts[folder.path].populated]
        trained = [folder for folder in structured if parts[folder.path] == TRAIN]
        self.structured = structured
        self.classes = {inner.label for folder in trained or structured for inner in self.parts[folder.path].populated}

    def read(self) -> Layout:
        """Return the reading that the evidence favors. Raises DataError where two remain."""
        populated = [folder for folder in self.named if folder.n_pictures]
        if not self.structured:
            return self._flat(populated)
        if self.rivals and not self._agree():
            return self._contested(populated)
        self._refuse_strays()
        if len(populated) > 1 and not self._share_classes() and len(self._labelled_parts()) > 1:
            raise self._both(populated)
        return self._splits()

    def _refuse_strays(self) -> None:
        """Refuse a folder beside the splits that holds their classes too and is called like none: ``vaildation``, ``extra``."""
        for folder in self.rivals:
            if len({inner.label for inner in unwrapped(folder).populated} & self.classes) > 1:
                near = did_you_mean(folder.name.casefold(), SPLIT_WORDS)
                fix = f"{near} " * bool(near) + "Rename it, move its pictures into a split, or out of the data."
                must = "a folder beside the splits that holds their classes must be called like a split"
                raise DataError(self.who, must, got=folder.name, fix=fix)

    def _flat(self, populated: list[Folder]) -> Layout:
        """Pictures lie directly in all folders that are named like splits."""
        splits = {self.number[folder.path] for folder in populated}
        if self.rivals and TRAIN in splits:
            self.layout.note = f"{listed(folder.name for folder in populated)} are read as classes: no class folders lie inside"
            return _classes(self.level, self.who, self.layout, self.evaluation)
        names = listed(folder.name for folder in populated)
        if self.rivals:
            raise self._both(populated)
        must = f"pictures must lie in class folders, those in {names} lie directly there"
        fix = "Make a folder for each class, or a table with the columns path,label."
        if self.evaluation or splits != {TRAIN}:
            fix += f" To classify pictures without labels: descend predict RUN {self.who}"
        raise DataError(self.who, must, fix=fix)

    def _agree(self) -> bool:
        """Return whether the splits are certain although other folders stand beside them."""
        populated = [folder for folder in self.named if folder.n_pictures]
        splits = {self.number[folder.path] for folder in populated}
        n_beside = sum(folder.n_pictures for folder in self.rivals)
        few = n_beside < _FEW * self.level.n_pictures
        if len(splits) > 1 and TRAIN in splits:
            return self._share_classes() or (few and any(self.number[f.path] == TRAIN for f in self.structured))
        return few and splits == {TRAIN}

    def _share_classes(self) -> bool:
        """Return whether two splits or more hold class folders of the same names."""
        sets = [{inner.label for inner in self.parts[folder.path].populated} for folder in self.structured]
        return any(first & second for i, first in enumerate(sets) for second in sets[:i])

    def _contested(self, populated: list[Folder]) -> Layout:
        """Weigh folders named like splits against others beside them."""
        splits = {self.number[folder.path] for folder in populated}
        beside = {folder.label for folder in self.rivals}
        inside = [{inner.label for inner in folder.populated} for folder in self.rivals]
        if TRAIN not in splits and len(beside) > 1 and self.classes <= beside:
            return self._train_around()
        strangers = all(names and not names & self.classes for names in inside)
        if len(splits) == 1 and TRAIN in splits and strangers:
            self.layout.note = f"{listed(folder.name for folder in populated)} is read as a class, as the folders beside it"
            return _classes(self.level, self.who, self.layout, self.evaluation)
        raise self._both(populated)

    def _train_around(self) -> Layout:
        """Class folders stand beside a test or validation folder that holds the same classes: they are for training."""
        told = "the class folders beside " + listed(folder.name for folder in self.named) + " are read as train"
        doubts = check_classes(self.rivals, self.who, evaluation=self.evaluation, in_split=True)
        self.layout.note = "; ".join(filter(None, [told, doubts]))
        self.layout.labelled += [(folder.name, TRAIN, folder) for folder in self.rivals]
        self.others = [folder for folder in self.others if folder not in self.rivals]
        return self._splits(train_given=True)

    def _splits(self, *, train_given: bool = False) -> Layout:
        layout = self.layout
        if not self.evaluation and not train_given and TRAIN not in self.number.values():
            raise DataError(self.who, "must have a folder 'train' beside " + " and ".join(repr(f.name) for f in self.named))
        labelled, notes = self._labelled_parts(), [layout.note]
        for folder in self.named:
            part, number = self.parts[folder.path], self.number[folder.path]
            if folder in labelled:
                notes.append(check_classes(part.populated, self.who, evaluation=self.evaluation, in_split=True))
                layout.labelled += [(inner.name, number, inner) for inner in part.populated]
                layout.empty += [inner for inner in part.folders if not inner.n_pictures and not stands_aside(inner.name)]
                layout.loose += [inside.joined(name) for inside in _between(folder, part) for name in inside.pictures]
            elif (number == VAL or (number != TRAIN and not folder.n_pictures)) and not self.evaluation:
                why = "none of its folders is a class" if folder.n_pictures else _why_empty(folder)
                raise _lost(self.who, folder.name, number, why)
            elif folder.n_pictures:
                if number == TRAIN and not self.evaluation:
                    raise DataError(self.who, f"{folder.name!r} must hold class folders, pictures lie directly in it",
                                    fix="Make a folder for each class, or a table with the columns path,label.")  # fmt: skip
                layout.unlabelled.append(folder)
        layout.note = "; ".join(dict.fromkeys(filter(None, notes)))
        layout.loose += [self.level.joined(name) for name in self.level.pictures]
        layout.beside += self.others
        return layout

    def _labelled_parts(self) -> list[Folder]:
        """Return the split folders that hold class folders, less those that only wrap pictures without a class."""
        return [folder for folder in self.structured if self._is_labelled(folder)]

    def _is_labelled(self, folder: Folder) -> bool:
        part = self.parts[folder.path]
        names = {inner.label for inner in part.populated}
        if self.number[folder.path] == TRAIN or names & self.classes:
            return True
        return len(names) > 1 and not part.pictures

    def _both(self, populated: list[Folder]) -> DataError:
        spellings = {inner.label for folder in self.structured for inner in self.parts[folder.path].populated}
        alike = [
            sorted(name for name in spellings if name.casefold() == fold) for fold in sorted(map(str.casefold, self.classes))
        ]
        if several := next((spelled for spelled in alike if len(spelled) > 1), None):
            must = "a class folder must be called the same in every split, down to its capitals"
            return DataError(self.who, must, got=" and ".join(several), fix="Rename the folders in one of them.")
        names = [folder.name for folder in populated]
        held = f"with classes {listed(sorted(self.classes))}" if self.classes else "without labels"
        everything = listed(folder.name for folder in self.level.populated)
        inside = {folder.name: [inner.label for inner in self.parts[folder.path].populated] for folder in self.structured}
        told = "If these are splits, call their class folders alike: " + ", ".join(
            f"{name!r} holds {listed(labels)}" for name, labels in inside.items()) + ". "  # fmt: skip
        differ = len(set(map(frozenset, inside.values()))) > 1
        return ambiguous(self.who, f"splits {listed(names)} {held}", f"classes {everything}", told if differ else "")


def _why_empty(folder: Folder) -> str:
    """Return why a folder has no pictures: what kept it, or a folder in it, from being read, if anything did."""
    reasons = [why for inner in folder.below() for _, why in inner.passed_over if why not in EXPECTED]
    return f"it holds no picture that can be read: {reasons[0]}" if reasons else "it holds no picture"


def _between(folder: Folder, part: Folder) -> list[Folder]:
    """Return the folders from a split's own to the one that holds its class folders."""
    path = [folder]
    while path[-1] is not part:
        (inner,) = path[-1].populated
        path.append(inner)
    return path

"""Folders of pictures become a manifest: what the layout calls labeled is listed, everything else is counted and named."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from descend.data import heic
from descend.data.archives import packed_folder
from descend.data.class_folders import listed
from descend.data.folder_names import holds_thumbnails, is_wrapper, stands_aside
from descend.data.formats import is_picture_name
from descend.data.labels import clean_text, encode_labels
from descend.data.layout import Layout, decide
from descend.data.manifest import Manifest, natural
from descend.data.places import is_folder
from descend.data.pointers import archives, is_packed, pointers
from descend.data.problems import Problem, problem, refusal
from descend.data.table_files import SUFFIXES
from descend.data.tree import EXPECTED, HIDDEN, SYSTEM_FILE, SYSTEM_FOLDER, Folder, add_passed_over, walk
from descend.errors import DataError

_MASK = re.compile(r"(.*)[ ._-](?:mask|segmentation|seg|gt|label|annotation)(?:[ ._-]?\d+)?", re.IGNORECASE | re.DOTALL)
_MOST_BESIDE = 100  # folders
_MOST_SEEN = 2**16  # of what lies in a folder that is not entered: 0.2 s


@dataclass(frozen=True)
class PictureFiles:
    """Picture files, and what was passed over on the way to them: path -> why; a folder's path ends in a slash."""

    paths: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)


def find_pictures(sources: Iterable[str | os.PathLike[str]]) -> PictureFiles:
    """Find the picture files that files and folders stand for, folders searched recursively, in natural order.

    A file that is named is taken whatever its ending; in folders, files that are no pictures are passed over and named, but for
    those of a system; hidden folders and those of a system (thumbnails, recycle bins) are named where they hold pictures. Raises
    DataError for a name without a letter.
    """
    files = PictureFiles()
    for source in sources:
        if not os.fspath(source).strip():
            raise DataError("pictures", "must be files or folders", got=os.fspath(source), fix="Write . for the current folder.")
        path = Path(source)
        if not is_folder(path):
            files.paths.append(str(path))
            continue
        names, passed_over = pictures_below(walk(path), lambda name, path=path: _holds_pictures(path / name))
        files.paths.extend(str(path / name) for name in names)
        files.passed_over.update({f"{path / name}{'/' * name.endswith('/')}": why for name, why in passed_over.items()})
    return files


def pictures_below(tree: Folder, holds_pictures: Callable[[str], bool]) -> tuple[list[str], dict[str, str]]:
    """Return the pictures of a tree in natural order, and path -> why of what was passed over, but for what is a system's.

    holds_pictures: asked for the path of a folder that was not entered; one that does is named.
    """
    others = dict[str, str]()
    for path, why in sorted(
        (entry for folder in tree.below() for entry in folder.passed_over), key=lambda entry: natural(entry[0])
    ):
        if why == SYSTEM_FOLDER and holds_pictures(path):
            others[path] = HIDDEN if path.rstrip("/").rpartition("/")[2].startswith(".") else why
        elif why not in (SYSTEM_FILE, SYSTEM_FOLDER):
            others[path] = why
    return sorted(tree.picture_paths(), key=natural), others


def _holds_pictures(folder: Path) -> bool:
    """Say whether a picture lies among the first files of a folder, by their names, at any depth; links are not followed."""
    n_seen = 0
    for _, folders, files in os.walk(folder):
        if any(map(is_picture_name, files)):
            return True
        n_seen += len(folders) + len(files)
        if n_seen > _MOST_SEEN:
            return False
    return False


def list_pictures(sources: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the picture files of ``find_pictures``."""
    return find_pictures(sources).paths


def read_folder(
    root: Path, *, evaluation: bool = False, who: str = "", packed: bool = False, left_out: Sequence[tuple[str, str]] = ()
) -> Manifest:
    """List a folder of class folders, or of ``train``, ``val`` and ``test`` folders that hold class folders.

    evaluation: one split, or one class, is enough. who: what errors call it, where that is not the folder. packed: zips in it may
    stand for folders, where it holds neither pictures nor a table. left_out: (path, why) of what was passed over when the folder
    was unpacked. Raises DataError, also where it can be read in two ways.
    """
    tree = walk(root)
    if left_out:
        add_passed_over(tree, left_out)
    tabled = any(Path(path).suffix.lower() in SUFFIXES for path, _ in tree.passed_over)
    files = [path for path, _ in tree.passed_over if "/" not in path and not path.startswith(".")]
    zips = [path for path in files if path.lower().endswith(".zip")]
    held = packed_folder(root, tree.name, zips) if packed and zips and not tree.n_pictures and not tabled else None
    if held is not None:
        return read_folder(held, evaluation=evaluation, who=str(root))
    return read_tree(tree, root, evaluation=evaluation, who=who)


def read_tree(tree: Folder, root: Path, *, evaluation: bool = False, who: str = "") -> Manifest:
    """List the pictures of a tree of folders as ``read_folder`` does; root: what errors call it, unless ``who`` does."""
    called = Path(who) if who else root
    try:
        layout = decide(tree, str(called), evaluation=evaluation)
    except DataError as error:
        raise _pointing(error, tree, called) from None
    names, source, left_out = list[str](), list[int](), list[str]()  # source: the place in layout.labeled that a name is from
    for place, (_, _, folder) in enumerate(layout.labelled):
        names += _class_pictures(folder, left_out)
        source += [place] * (len(names) - len(source))
    called_classes = [label for label, _, _ in layout.labelled]
    classes, numbers, about_labels = encode_labels(called_classes, who=str(called), are_names=True)
    order = np.array(sorted(range(len(names)), key=lambda row: natural(names[row])), np.int64)
    places = np.array(source, np.int64)[order]
    problems = [*_passed_over(root, tree, layout, left_out), *about_labels]
    problems += _masks(names)
    labels = numbers[places]
    if (labels < 0).any():
        problems += _without_label([names[row] for row in order[labels < 0]], layout, numbers)
        order, places, labels = order[labels >= 0], places[labels >= 0], labels[labels >= 0]
    if not len(order):
        raise _refusal(called, tree, problems)
    _refuse_empty_classes(called, tree, layout, problems)
    problems += pointers(tree, called) if len(classes) < 2 else archives(tree, called)
    splits = np.array([split for _, split, _ in layout.labelled], np.int8)[places]
    return Manifest(tree.name, root, classes, [names[row] for row in order], labels, splits, problems=problems)


def _class_pictures(folder: Folder, left_out: list[str]) -> Iterator[str]:
    """Yield the paths of a class's pictures; masks and the like beside a folder ``images``, and thumbnails, are none."""
    yield from (folder.joined(name) for name in folder.pictures)
    has_images = not folder.pictures and any(is_wrapper(inner.name, "") for inner in folder.populated)
    for inner in folder.folders:
        if (has_images and stands_aside(inner.name)) or (folder.pictures and holds_thumbnails(inner.name)):
            left_out += inner.picture_paths()
        else:
            yield from _class_pictures(inner, left_out)


def _passed_over(root: Path, tree: Folder, layout: Layout, left_out: list[str]) -> list[Problem]:
    """Return the problems of what lies below the root and is not among the labeled pictures."""
    files = [entry for folder in tree.below() for entry in folder.passed_over]
    needs_extra = [path for path, why in files if why == heic.ADVICE]
    others = sorted(
        (entry for entry in files if entry[1] != heic.ADVICE and not is_packed(entry[0])), key=lambda entry: natural(entry[0])
    )
    ignored = [path if why in EXPECTED else f"{path} ({why})" for path, why in others]
    beside = [f"{folder.path}/ ({folder.n_pictures:,} pictures)" for folder in layout.beside]
    problems = problem("ignored", "1 file or folder is no picture in a class folder and was ignored",
                       "{n} files or folders are no pictures in a class folder and were ignored",
                       [*sorted(layout.loose, key=natural), *beside, *sorted(left_out, key=natural), *ignored])  # fmt: skip
    problems += problem(
        "heic", f"1 picture is left out: {heic.ADVICE}", f"{{n}} pictures are left out: {heic.ADVICE}", needs_extra
    )
    for folder in layout.unlabelled:
        n = folder.n_pictures
        message = (f"{n:,} {'picture' if n == 1 else 'pictures'} in {folder.path!r} lie in no class folder and are left out; "
                   f"to classify them: descend predict RUN {root / folder.path}")  # fmt: skip
        problems.append(Problem("unlabeled", message, n))
    if layout.note:
        problems.append(Problem("layout", layout.note, 1))
    return problems


def _masks(names: Sequence[str]) -> list[Problem]:
    """Return the problem of pictures that are called like the mask of another beside them: ``x_mask.png``, ``x_mask_1.png``."""
    stems = {name.rpartition(".")[0] for name in names}
    found = [name for name in names if (mask := _MASK.fullmatch(name.rpartition(".")[0])) and mask[1] in stems]
    return problem("masks", "1 picture is called like the mask of another beside it, and counts as a picture; move masks away",
                   "{n} pictures are called like the masks of others beside them, and count as pictures; move masks away",
                   sorted(found, key=natural))  # fmt: skip


def _without_label(names: list[str], layout: Layout, numbers: NDArray[np.int64]) -> list[Problem]:
    folders = {label for (label, _, _), number in zip(layout.labelled, numbers, strict=True) if number < 0}
    words = ", ".join(map(repr, sorted(folders)))
    return problem("unlabeled", f"1 picture lies in a folder called {words}, which stands for a missing label, and is left out",
                   f"{{n}} pictures lie in a folder called {words}, which stands for a missing label, and are left out",
                   names)  # fmt: skip


def _refuse_empty_classes(root: Path, tree: Folder, layout: Layout, problems: list[Problem]) -> None:
    """Refuse class folders without a picture; one that has some in another split is not empty."""
    held = {clean_text(label) for label, _, folder in layout.labelled if folder.n_pictures}
    missing = sorted({folder.label for folder in layout.empty} - held, key=natural)
    if missing:
        hold = "holds" if len(missing) == 1 else "hold"
        must = f"every class folder must hold a picture, {', '.join(map(repr, missing))} {hold} none"
        raise _pointing(refusal(str(root), must, problems, fix="Remove the folder or add pictures."), tree, root)


def _refusal(root: Path, tree: Folder, problems: list[Problem]) -> DataError:
    unlisted = next((why for path, why in tree.passed_over if path == "./"), None)
    if unlisted is not None:
        return DataError(str(root), f"must be a folder that can be read ({unlisted})")
    n_loose = len(tree.pictures)
    if n_loose:
        fix = "Make a folder for each class, or a CSV table with columns path,label."
        if beside := _classes_beside(root):
            fix += f" If this folder and {listed(beside)} beside it are the classes, give {root.absolute().parent}."
        must = f"pictures must lie in one folder for each class ({n_loose:,} lie directly in it)"
        return refusal(str(root), must, problems, fix=fix)
    folders = [folder.name for folder in tree.folders]
    n_others = len(tree.passed_over)
    what = (
        f"none of its {n_others:,} files is one"
        if n_others > 1
        else "its only file is none"
        if n_others
        else "the folder is empty"
    )
    what = f"the folders {', '.join(map(repr, folders[:5]))} hold none" if folders else what
    return _pointing(refusal(str(root), f"must hold pictures in class folders ({what})", problems), tree, root)


def _classes_beside(root: Path) -> list[str]:
    """Return the names of folders beside this one in which pictures lie, as in it; it may itself be a class."""
    whole = root.absolute()
    try:
        beside = sorted(path for path in whole.parent.iterdir() if path.is_dir() and path != whole)[:_MOST_BESIDE]
        return [path.name for path in beside if any(is_picture_name(one.name) for one in islice(path.iterdir(), _MOST_SEEN))]
    except OSError:  # the folder above, or one beside it, is another's
        return []


def _pointing(error: DataError, tree: Folder, root: Path) -> DataError:
    """Return an error with lines below it about what lies there and may hold labels, or more pictures."""
    error.add_lines(*map(str, pointers(tree, root)))
    return error

"""A folder, walked once: where its pictures lie, and what else lies there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from descend.data.formats import is_hidden_picture, is_system_folder, kind_of, why_no_picture
from descend.data.labels import clean_text
from descend.data.manifest import natural
from descend.data.opening import is_picture_file
from descend.regular_files import kernel_file_systems

SYSTEM_FILE, SYSTEM_FOLDER, RUN_FOLDER = "a system's file", "a system's folder", "a run folder"
HIDDEN = "hidden: its name begins with a dot"
EXPECTED = ("not a picture", SYSTEM_FILE, SYSTEM_FOLDER, RUN_FOLDER, HIDDEN)  # reasons for passing over that hide nothing
_RECIPE = "recipe.toml"  # what makes a folder a run's
DEEPEST = 64  # folders within each other; what lies deeper is passed over
_LINKED_DEPTH = 3  # folders above are shown wherever a link shows them, folders below once for each folder of this depth
_BROKEN = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR)


@dataclass
class Folder:
    """A folder of the tree. path: relative to the root, with forward slashes, "" for the root.

    pictures: names of the pictures directly inside, in no order. folders: what lies below, in natural order. passed_over: (path,
    why) of files that are no pictures, and of folders that are not entered.
    """

    name: str
    path: str
    pictures: list[str] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The class that the folder would be: its name, as labels are compared."""
        return clean_text(self.name)

    @cached_property
    def n_pictures(self) -> int:
        """The number of pictures at any depth."""
        return len(self.pictures) + sum(folder.n_pictures for folder in self.folders)

    @property
    def populated(self) -> list[Folder]:
        """The folders directly inside that hold pictures at any depth."""
        return [folder for folder in self.folders if folder.n_pictures]

    def joined(self, name: str) -> str:
        """Return the path of something directly inside."""
        return f"{self.path}/{name}" if self.path else name

    def below(self) -> Iterator[Folder]:
        """Yield this folder and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.below()

    def picture_paths(self) -> Iterator[str]:
        """Yield the paths of all pictures at any depth."""
        for folder in self.below():
            yield from (folder.joined(name) for name in folder.pictures)


def walk(root: Path) -> Folder:
    """Return the tree below a folder. Links are followed, but never in a circle; system folders and runs are not entered."""
    top = Folder(root.resolve().name, "")
    _fill(top, os.path.realpath(root), {os.path.realpath(root)}, 0)
    return top


def tree_of(name: str, pictures: Iterable[str], passed_over: Iterable[tuple[str, str]]) -> Folder:
    """Return the tree of pictures that are named by their paths, as ``walk`` finds one. passed_over: (path, why) of the rest."""
    others = [*passed_over]
    runs = {path.rpartition("/")[0] for path, _ in others if path.rpartition("/")[2] == _RECIPE} - {""}
    top = Folder(name, "")
    known: dict[str, Folder | None] = {"": top}  # None for one that is not entered
    for path in pictures:
        at, _, file = path.rpartition("/")
        folder = _entered(at, known, runs)
        if folder is not None:
            folder.pictures.append(file)
    for path, why in others:
        folder = _entered(path.rpartition("/")[0], known, runs)
        if folder is not None:
            folder.passed_over.append((path, why))
    for folder in top.below():
        folder.passed_over += [(f"{inner.path}/", RUN_FOLDER) for inner in folder.folders if _held_runs(inner)]
        left = [inner for inner in folder.folders if not _held_runs(inner)]
        folder.folders = sorted(left, key=lambda inner: natural(inner.name))
    return top


def add_passed_over(tree: Folder, passed_over: Iterable[tuple[str, str]]) -> None:
    """Note in a tree what was passed over before it was walked: (path, why); a folder that held nothing else comes into it."""
    known: dict[str, Folder | None] = {folder.path: folder for folder in tree.below()}
    for path, why in passed_over:
        folder = _entered(path.rpartition("/")[0], known, set())
        if folder is not None:
            folder.passed_over.append((path, why))
    for folder in tree.below():
        folder.folders.sort(key=lambda inner: natural(inner.name))


def _held_runs(folder: Folder) -> bool:
    """Say whether nothing was found in a folder but runs."""
    found = folder.pictures or folder.folders or not folder.passed_over
    return not found and all(why == RUN_FOLDER for _, why in folder.passed_over)


def _entered(path: str, known: dict[str, Folder | None], runs: set[str]) -> Folder | None:
    """Return the folder at a path, made with those above it where it is new; None where it lies in one that is not entered."""
    if path.count("/") > DEEPEST:
        path = "/".join(path.split("/", DEEPEST + 1)[:-1])
    if path in known:
        return known[path]
    above, _, name = path.rpartition("/")
    outer = _entered(above, known, runs)
    why = f"deeper than {DEEPEST} folders" if path.count("/") >= DEEPEST else ""
    why = SYSTEM_FOLDER if is_system_folder(name) else RUN_FOLDER if path in runs else why
    known[path] = folder = None if outer is None or why else Folder(name, path)
    if outer is not None and folder is not None:
        outer.folders.append(folder)
    elif outer is not None:
        outer.passed_over.append((f"{path}/", why))
    return folder


def _fill(folder: Folder, real: str, seen: set[str], depth: int) -> None:
    """List what lies in the folder at ``real``. seen: folders that a link must not lead to again."""
    inside: list[tuple[str, str]] = []
    try:
        with os.scandir(real) as entries:
            for entry in entries:
                kind = _kind(entry)
                if kind == "folder":
                    inside.append((entry.name, os.path.realpath(entry.path) if entry.is_symlink() else f"{real}/{entry.name}"))
                elif kind == "picture":
                    folder.pictures.append(entry.name)
                else:
                    slash = "/" * (kind in (SYSTEM_FOLDER, RUN_FOLDER))
                    folder.passed_over.append((folder.joined(entry.name) + slash, kind))
    except OSError as error:
        folder.passed_over.append((f"{folder.path or '.'}/", (error.strerror or "cannot be listed").lower()))
    for name, target in sorted(inside, key=lambda item: natural(item[0])):
        if depth >= DEEPEST:
            folder.passed_over.append((f"{folder.joined(name)}/", f"deeper than {DEEPEST} folders"))
        elif target not in seen:
            inner = Folder(name, folder.joined(name))
            seen_below = seen if depth >= _LINKED_DEPTH else {*seen, target}
            seen_below.add(target)
            _fill(inner, target, seen_below, depth + 1)
            folder.folders.append(inner)


def _kind(entry: os.DirEntry[str]) -> str:
    """Return ``folder``, ``picture``, or why something is passed over."""
    try:
        if entry.is_dir():
            if is_system_folder(entry.name):
                return SYSTEM_FOLDER
            if entry.stat().st_dev in kernel_file_systems():
                return "a folder of the kernel"
            return RUN_FOLDER if _holds_runs(Path(entry.path)) else "folder"
        if not entry.is_file():
            entry.stat()  # of what a link leads to; a broken one fails
            return "a pipe, a socket or a device"
    except OSError as error:
        return (
            "a broken link" if entry.is_symlink() and error.errno in _BROKEN else (error.strerror or "cannot be opened").lower()
        )
    kind = kind_of(entry.name)
    if kind == "system":
        return HIDDEN if is_hidden_picture(entry.name) else SYSTEM_FILE
    if kind == "picture" or (kind == "unknown" and is_picture_file(Path(entry.path))):
        return "picture"
    return why_no_picture(entry.name)


def _is_run(folder: Path) -> bool:
    return (folder / _RECIPE).is_file()


def _holds_runs(folder: Path) -> bool:
    """Say whether this is a run folder or holds nothing else: `descend fit .` writes ``runs/`` beside the classes."""
    if _is_run(folder):
        return True
    n_runs = 0
    try:
        for path in folder.iterdir():
            if not path.name.startswith("."):
                if not (path.is_dir() and _is_run(path)):
                    return False
                n_runs += 1
    except OSError:
        return False
    return n_runs > 0

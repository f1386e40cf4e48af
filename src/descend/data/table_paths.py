"""The paths of a table: from what stands in a cell to the file that it means.

A path means the file as it is written, or with ``/`` for the backslashes of Windows, with accents in any form, with ``%20`` for a
blank as in addresses, in other capitals where one file alone can be meant. Paths that then lead to no file may lack what their
owner's program adds: folders before them and an ending behind them (``17`` for ``train_images/17.png``), or they name folders of
another machine (``D:/pets/img/17.png`` for ``img/17.png``). Where no path is right as it is written, and one such change finds
files, each at most once, it is made and told; not where another finds other files for many of the same paths: ``17`` may be
``train/17.png`` or ``test/17.png``, also where one of the two is missing.
"""

from __future__ import annotations

import os
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from descend.data.archives import is_archive
from descend.data.formats import is_picture_name
from descend.data.labels import cell_text, clean_text
from descend.data.places import is_file, is_folder
from descend.data.problems import Problem, problem

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_ENDINGS = ("", ".jpg", ".png", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")
_TRIED = 5  # paths that lead to no file, for the changes that find them; from the whole table: its first may be those that lack
_COMPARED = 100  # paths, of which each change shows what it finds
_MOST_ELSEWHERE = 0.1  # of them, that another change may lead to other files: a few pictures lie in a second folder too
_DEEPEST, _MOST_FOLDERS = 3, 200  # folders below the table's, in which files are sought: how deep, and how many of one depth
_DIRECTIONS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # Windows copies a path with one before it
_AROUND = f"{string.whitespace}\xa0\ufeff\u200b{_DIRECTIONS}"
_QUOTES = ("''", '""', "``", "\u2018\u2019", "\u201c\u201d")


def clean_path(cell: Any) -> str:
    """Return a path's cell as text: "" where it is missing; accents stay as they are, the file system may tell them apart."""
    text = "" if not cell_text(cell) else os.fspath(cell) if isinstance(cell, (str, os.PathLike)) else cell_text(cell)
    text = text.strip(_AROUND)
    text = text[1:-1].strip() if len(text) > 1 and text[0] + text[-1] in _QUOTES else text
    return url2pathname(urlsplit(text).path) if text[:8].casefold() == "file:///" else text


def leads_out(path: str, root: str) -> bool:
    """Say whether a path, by its words, leads out of a folder; links inside are followed as everywhere."""
    path = path.replace("\\", "/")
    if not (path.startswith("/") or ".." in path or ":" in path):
        return False
    full = os.path.normpath(os.path.join(root, path))  # noqa: PTH118 (as text: nothing is looked at)
    return not any(Path(full).is_relative_to(place) for place in (root, os.path.realpath(root)))


class Change(NamedTuple):
    """What is done to paths that lead to no file: folders left off at their beginning, one put before, an ending put behind.

    replaces: whether the new ending takes the place of the path's own.
    """

    n_left_off: int
    folder: str
    ending: str
    replaces: bool

    def of(self, path: str) -> str | None:
        """Return the path, changed, or None for one that has no more folders than are left off."""
        parts = _parts(path)[self.n_left_off :]
        if not parts or (self.replaces and not is_picture_name(parts[-1])):
            return None
        stem = "/".join(parts).rpartition(".")[0] if self.replaces else "/".join(parts)
        return f"{self.folder}{stem}{self.ending}"


class FileFinder:
    """Finds the files that the paths of a table mean. root: the folder that they are relative to."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[Path, tuple[dict[str, str], dict[str, str]]] = {}

    def find_all(self, paths: Sequence[str]) -> tuple[list[str | None], list[Problem]]:
        """Return the file that each path means, None for none or for "", and what is to be told of a change.

        Where any path leads to a file as it is written, the others are missing: a file of their name may be another picture.
        """
        files = [self.find(path) if path else None for path in paths]
        written = [*dict.fromkeys(path for path in paths if path)]
        change = None if any(files) else self._change(written)
        if change is None:
            return files, []
        meant = self._found_by(change, written)
        if len(set(meant.values())) < len(meant):  # two paths would mean one file
            return files, []
        told = problem("paths", "1 path leads to no file as it is written, and is taken for another",
                       "{n} paths lead to no file as they are written, and are taken for others",
                       [f"{path[:200]} for {file}" for path, file in meant.items()])  # fmt: skip
        return [meant.get(path) for path in paths], told

    def _change(self, written: Sequence[str]) -> Change | None:
        """Return the change of paths that finds the most files, or None where another finds others for many of the paths."""
        compared = _spread(written, _COMPARED)
        changes = dict.fromkeys(change for path in _spread(written, _TRIED) for change in self.changes(path))
        found = {change: self._found_by(change, compared) for change in changes}
        if not found:
            return None
        best = max(found, key=lambda change: len(found[change]))
        most = _MOST_ELSEWHERE * len(compared)
        elsewhere = (sum(found[best].get(path, file) != file for path, file in files.items()) for files in found.values())
        return best if all(n <= most for n in elsewhere) else None

    def _found_by(self, change: Change, paths: Sequence[str]) -> dict[str, str]:
        """Return the file that each path leads to when it is changed, of those that lead to one."""
        return {path: file for path in paths if (changed := change.of(path)) and (file := self.find(changed))}

    def meanings(self, paths: Sequence[str]) -> list[str]:
        """Return the paths of files that one of these paths may mean: of one that may mean several, if there is any."""
        found = [[change.of(path) or "" for change in self.changes(path)] for path in _spread(paths, _TRIED)]
        return max(found, key=lambda meant: (len(meant) > 1, bool(meant)), default=[])

    def find(self, path: str) -> str | None:
        """Return the path of an existing file, with forward slashes, or None."""
        forms = dict.fromkeys((path.replace("\\", "/"),) if os.sep == "\\" else (path, path.replace("\\", "/")))
        if "%" in path:
            forms |= dict.fromkeys(form for form in map(unquote, forms) if ".." not in form and "\0" not in form)
        for form in forms:
            if is_file(self._root / form):
                return Path(form).as_posix() if os.sep == "/" else form  # without ./ and //
        return next((file for form in forms if (file := self._spelled(form))), None)

    def changes(self, path: str) -> list[Change]:
        """Return the changes that lead to a file: those that leave off the fewest folders, one for each file that there is."""
        for n_left_off in range(len(_parts(path))):
            found = dict[str, Change]()
            for folder in self._folders():
                for ending, replaces in product(_ENDINGS, (False, True)):
                    change = Change(n_left_off, folder, ending, replaces)
                    if file := self.find(change.of(path) or ""):
                        found.setdefault(file, change)
            if found:
                return [*found.values()]
        return []

    def _folders(self) -> Iterator[str]:
        """Yield "", and the folders below the root, those of one depth after those above them, with a slash behind."""
        yield ""
        n, level = 0, [""]
        for _ in range(_DEEPEST):
            below = list[str]()
            for folder in level:
                names = sorted(name for name in self._names(self._root / folder)[0].values() if not name.startswith("."))
                below += [f"{folder}{name}/" for name in names[: 10 * _MOST_FOLDERS] if is_folder(self._root / folder / name)]
                if (n := n + len(names)) > 10 * _MOST_FOLDERS or len(below) > _MOST_FOLDERS:
                    break
            yield from below[:_MOST_FOLDERS]
            level = below[:_MOST_FOLDERS]

    def _spelled(self, path: str) -> str | None:
        """Walk a path from folder to folder, accents and capitals as each name may have them."""
        at, names = self._root, list[str]()
        for part in Path(path).parts:
            name = part if is_file(at / part) or is_folder(at / part) else self._name(at, unicodedata.normalize("NFC", part))
            if name is None:
                return None
            at /= name
            names.append(name)
        return Path(*names).as_posix() if is_file(at) else None

    def _name(self, folder: Path, composed: str) -> str | None:
        """Return the name in a folder that is this one composed, or else the only one that is but for its capitals."""
        names, alone = self._names(folder)
        return names.get(composed) or alone.get(_folded(composed))

    def _names(self, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
        """Return the names in a folder by their composed form, and those that are alone but for capitals and unseen marks."""
        if folder not in self._listed:
            try:
                names = {unicodedata.normalize("NFC", entry.name): entry.name for entry in folder.iterdir()}
            except OSError:
                names = {}
            folds = Counter(map(_folded, names))
            alone = {fold: name for form, name in names.items() if folds[fold := _folded(form)] == 1}
            self._listed[folder] = names, alone
        return self._listed[folder]


def paths_fix(root: Path, absent: Sequence[str]) -> str:
    """Return what to do about paths that lead to no file: the file that one of them may mean, or the several."""
    fix = f"Paths are relative to {root}."
    meant = [repr(path[:200]) for path in FileFinder(root).meanings(absent)[:2]]
    if meant:
        fix += f" {' and '.join(meant)} {'exists: write them like that' if len(meant) == 1 else 'exist: write which is meant'}."
    elif packed := _packed_beside(root):
        fix += f" {packed!r} lies beside the table: unpack it first."
    drive = next((path for path in absent if _DRIVE.match(path)), None)
    if drive is not None and os.sep == "/":
        fix += f" {drive[:2]} is a drive of another machine: write the paths from that folder on."
    return fix


def _packed_beside(root: Path) -> str | None:
    """Return the name of an archive in a folder, if there is one."""
    try:
        return min((path.name for path in root.iterdir() if is_archive(path)), default=None)
    except OSError:
        return None


def _folded(name: str) -> str:
    """Return what names share that differ in capitals, or in blanks and marks that nobody sees."""
    return clean_text(name).casefold()


def _spread(paths: Sequence[str], n: int) -> Sequence[str]:
    """Return at most n of the paths, evenly spread."""
    return paths[:: max(1, -(-len(paths) // n))]


def _parts(path: str) -> list[str]:
    """Return the parts of a path; what stands before ``..`` is left off, so that none leads out of the table's folder."""
    path = path.replace("\\", "/").rpartition("../")[2]
    return [part for part in path.split("/") if part not in ("", ".", "..")]

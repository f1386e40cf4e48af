"""Folders of pictures: class folders, with or without train/val/test folders around them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from descend.data.formats import is_picture_name
from descend.data.manifest import SPLIT_WORDS, UNASSIGNED, Manifest, encode_labels, natural
from descend.data.problems import Problem, problem
from descend.errors import DataError


def list_pictures(sources: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the picture files that files and folders stand for, folders searched to their bottom, in natural order.

    A file that is named is taken whatever its ending; in folders, files that are no pictures are passed over.
    """
    found: list[str] = []
    for source in sources:
        path = Path(source)
        inside = [str(path / name) for name in _files(path, []) if is_picture_name(name)] if path.is_dir() else [str(path)]
        found += sorted(inside, key=natural)
    return found


def read_folder(root: Path) -> Manifest:
    """List a folder of class folders, or a folder of ``train``, ``val`` and ``test`` folders that hold class folders."""
    ignored: list[str] = []
    folders = _subfolders(root, ignored)
    parts = {name: SPLIT_WORDS[name.lower()] for name in folders if name.lower() in SPLIT_WORDS}
    split_layout = bool(parts) and all(_holds_folders(root / name) for name in parts)
    if not split_layout:
        parts = {"": UNASSIGNED}
    elif 0 not in parts.values():
        raise DataError(str(root), "must have a folder 'train' beside " + " and ".join(map(repr, sorted(parts))))
    else:
        ignored += [f"{name}/" for name in folders if name not in parts]
    rows = [row for part, split in parts.items() for row in _class_rows(root, part, split, ignored)]
    empty = {row[1] for row in rows if not row[0]}
    rows = sorted((row for row in rows if row[0]), key=lambda row: natural(row[0]))
    if not rows:
        raise _refusal(root, folders, ignored)
    classes, labels = encode_labels([row[1] for row in rows])
    missing = sorted(empty - set(classes), key=natural)
    if missing:
        hold = "holds" if len(missing) == 1 else "hold"
        must = f"every class folder must hold a picture, {', '.join(map(repr, missing))} {hold} none"
        raise DataError(str(root), must, fix="Remove the folder or add pictures.")
    splits = np.array([row[2] for row in rows], np.int8)
    names = [row[0] for row in rows]
    return Manifest(root.resolve().name, root, classes, names, labels, splits, problems=_ignored(ignored))


def _ignored(names: list[str]) -> list[Problem]:
    return problem("ignored", "1 file or folder is not a picture and was ignored",
                   "{n} files or folders are not pictures and were ignored", sorted(names, key=natural))  # fmt: skip


def _subfolders(folder: Path, ignored: list[str]) -> list[str]:
    """Return the visible folders directly inside; files that stand beside them belong to no class."""
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            hidden = entry.name.startswith((".", "__"))  # .ipynb_checkpoints, __MACOSX
            if entry.is_dir() and not hidden and not _holds_runs(Path(entry.path)):
                names.append(entry.name)
            else:
                ignored.append(entry.name + "/" * entry.is_dir())
    return sorted(names, key=natural)


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.toml").is_file()


def _holds_runs(folder: Path) -> bool:
    """Say whether this is a run folder or holds nothing else: `descend fit .` writes ``runs/`` beside the classes."""
    if _is_run(folder):
        return True
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return bool(inside) and all(path.is_dir() and _is_run(path) for path in inside)


def _holds_folders(folder: Path) -> bool:
    """Say whether class folders lie inside (a class that happens to be called 'train' holds pictures itself)."""
    inside: list[str] = []
    return bool(_subfolders(folder, inside)) and not any(is_picture_name(name) for name in inside)


def _class_rows(root: Path, part: str, split: int, ignored: list[str]) -> Iterator[tuple[str, str, int]]:
    """Yield (relative path, class, split) for each picture; a class folder without any yields an empty path once."""
    outside: list[str] = []
    for folder in _subfolders(root / part, outside):
        stem = f"{part}/{folder}" if part else folder
        found = False
        for name in _files(root / stem, ignored, stem):
            if is_picture_name(name):
                found = True
                yield f"{stem}/{name}", folder, split
            else:
                ignored.append(f"{stem}/{name}")
        if not found:
            yield "", folder, split
    if part:
        ignored += [f"{part}/{name}" for name in outside]


def _files(folder: Path, ignored: list[str], stem: str = "") -> Iterator[str]:
    """Yield the files below ``folder``, relative, with forward slashes; links are followed, but never in a circle."""
    waiting = [("", os.path.realpath(folder))]
    seen = {waiting[0][1]}
    while waiting:
        prefix, real = waiting.pop()
        with os.scandir(real) as entries:
            for entry in entries:
                if entry.is_file():
                    yield prefix + entry.name
                elif entry.is_dir() and not entry.name.startswith((".", "__")):
                    target = os.path.realpath(entry.path)
                    if target not in seen:
                        seen.add(target)
                        waiting.append((f"{prefix}{entry.name}/", target))
                else:
                    ignored.append(f"{stem}/{prefix}{entry.name}")


def _refusal(root: Path, folders: list[str], ignored: list[str]) -> DataError:
    loose = sum(is_picture_name(name) and "/" not in name for name in ignored)
    if loose:
        return DataError(str(root), f"pictures must lie in one folder for each class ({loose:,} lie directly in it)",
                         fix="Make a folder for each class, or a CSV table with columns path,label.")  # fmt: skip
    what = f"the folders {', '.join(map(repr, folders[:5]))} hold none" if folders else "the folder is empty"
    return DataError(str(root), f"must hold pictures in class folders ({what})")

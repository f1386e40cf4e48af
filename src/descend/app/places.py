"""What the page may name: folders, tables and archives below one root, and built-in sets; no address on a network."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from descend.data.archives import ENDINGS as ARCHIVES
from descend.data.builtin import SETS
from descend.data.corrections import ENDINGS
from descend.data.manifest import natural
from descend.data.table_files import SUFFIXES
from descend.errors import DataError, RunError
from descend.printable import printable
from descend.train import folder

MOST_LISTED = 500  # folders and tables of one folder


class Places:
    """Paths below a root, links followed before they are judged. root: a folder that exists."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def below(self, text: str) -> Path:
        """Return the path that a text means, absolute. Raises DataError where it does not lie below the root."""
        written = self.root / text
        try:
            path = written.resolve()
        except (OSError, ValueError, RuntimeError):
            path = None
        if path is not None and path.is_relative_to(self.root):
            return path
        must, other = f"may only look below {self.root}", "FOLDER"
        if path is not None and Path(os.path.normpath(written)).is_relative_to(self.root):  # as it is written it lies there
            must, other = f"{must} (it is a link to {path})", shlex.quote(str(path if path.is_dir() else path.parent))
        raise DataError("the app", must, got=text, fix=f"Start it with --root {other} to allow another folder.")

    def data(self, text: str) -> str:
        """Return DATA for ``fit`` and ``scan``: a built-in set, or an absolute path below the root that exists."""
        if text.strip() in SETS:
            return text.strip()
        if not text.strip():
            raise DataError("data", "must be a folder of class folders, a table, or a built-in set", fix="Such as: photos")
        path = self.below(text)
        if not path.exists():
            raise DataError("data", "must be a folder or a table that exists", got=text, fix=f"Paths begin at {self.root}.")
        return str(path)

    def table(self, text: str) -> Path:
        """Return the path of a table of corrections, which need not exist yet."""
        path = self.below(text)
        if path.suffix.lower() not in ENDINGS or not path.parent.is_dir():
            raise DataError("corrections", f"must be a file in a folder that exists, ending in {' or '.join(ENDINGS)}", got=text)
        return path

    def has(self, text: str) -> bool:
        """Return whether a path lies below the root and exists."""
        try:
            return self.below(text).exists()
        except (DataError, OSError):
            return False

    def shown(self, path: Path | str) -> str:
        """Return a path as the page writes it: relative to the root."""
        place = Path(path)
        return place.relative_to(self.root).as_posix() if place.is_relative_to(self.root) else str(path)

    def listed(self, text: str) -> dict[str, Any]:
        """Return the folders, tables and archives in a folder, for choosing one; none that is hidden or leads out."""
        folder = self.below(text)
        try:
            entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        except OSError as error:
            raise DataError("the app", f"must be able to list a folder ({error.strerror})", got=text) from None
        entries = [entry for entry in entries if self._is_offered(entry) and printable(entry.name) == entry.name]
        entries.sort(key=lambda entry: (entry.is_file(), natural(entry.name)))
        return {
            "folder": "" if folder == self.root else self.shown(folder),
            "parent": None if folder == self.root else self.shown(folder.parent).removeprefix("."),
            "entries": [{"path": self.shown(entry), "name": entry.name, "is_folder": entry.is_dir()}
                        for entry in entries[:MOST_LISTED]],
            "n_left_out": max(0, len(entries) - MOST_LISTED),
        }  # fmt: skip

    def _is_offered(self, entry: Path) -> bool:
        try:
            within = entry.resolve().is_relative_to(self.root)
            return within and (entry.is_dir() or entry.name.lower().endswith((*SUFFIXES, *ARCHIVES)))
        except (OSError, RuntimeError):
            return False


def folder_and_run(place: Path | None) -> tuple[Path, str | None]:
    """Return the folder of runs that a place means, and the run to show first: a run, a folder of runs, or ``runs`` for None.

    Raises RunError for a place that is named and is not there, and for a folder of other things.
    """
    if place is None:
        return Path("runs"), None
    path = folder.resolve_run(place)
    if (path / folder.RECORD).is_file():
        path = path.resolve()
        return path.parent, path.name
    if not path.is_dir():
        raise RunError("app", "must be given a run, or a folder of runs, that exists", got=str(place),
                       fix="Leave it out to begin without one.")  # fmt: skip
    if not folder.newest_first(path) and any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise RunError("app", "must be given a run, or a folder of runs, and there is none here", got=str(place),
                       fix="Pictures are chosen on the page: descend app")  # fmt: skip
    return path, None

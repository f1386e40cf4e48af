"""The runs of a folder: what each is and came to, from its record alone; what differs between some; how they are deleted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.errors import RunError, nearest
from descend.plain_data import finite
from descend.train import folder
from descend.train.lock import RunLock, in_use
from descend.train.record import RunRecord, load
from descend.unfinished import delete, unfinished_name

GIVEN = (folder.RECIPE, folder.RECORD)  # what tells a run folder from any other


@dataclass(frozen=True)
class ListedRun:
    """One run of a folder.

    record: None where it cannot be read; problem says why. status: ``finished``, ``interrupted``, ``running`` (a process has it),
    ``killed`` (its process ended without a word) or ``damaged``. n_bytes: of the whole folder.
    """

    path: Path
    record: RunRecord | None
    status: str
    n_bytes: int
    problem: str = ""

    @classmethod
    def of(cls, path: Path) -> ListedRun:
        """Look at a run folder; one that is damaged is told, not raised."""
        n_bytes = _size(path)
        try:
            record = load(path)
        except RunError as error:
            return cls(path, None, "damaged", n_bytes, str(error))
        status = record.status
        if in_use(path):
            status = "running"
        elif status == "running":
            status = "killed"
        return cls(path, record, status, n_bytes)

    @property
    def wall_s(self) -> float:
        """Seconds of all stages, resumed ones included; of a search, what lies between its stages, too."""
        return max(sum(self.record.wall_s.values()), self.record.budget_used_s) if self.record else 0.0

    def setting(self, name: str) -> str | None:
        """Return what the run ended with, such as its backbone, or where it has not ended what was planned."""
        if self.record is None:
            return None
        chosen: dict[str, Any] = {**(self.record.chosen or {})}
        value = chosen.get(name, self.record.plan.get(name))
        return None if value is None else str(value)

    def facts(self) -> dict[str, Any]:
        """Return the run as plain data."""
        facts: dict[str, Any] = {"run": str(self.path), "name": self.path.name, "status": self.status, "bytes": self.n_bytes}
        if self.record is None:
            return facts | {"problem": self.problem}
        record = self.record
        return finite(
            facts
            | {
                "created": record.created, "data": record.data.get("name"), "classes": len(record.classes),
                "transfer": self.setting("transfer"), "backbone": self.setting("backbone"), "seed": record.seed,
                "val": record.val, "test": record.test, "wall_s": self.wall_s, "stopped_by": record.stopped_by,
            }
        )  # fmt: skip


def listed(parent: Path) -> list[ListedRun]:
    """Return the runs in a folder, the newest first. Raises RunError where it is no folder, or a run itself."""
    if (parent / folder.RECORD).is_file():
        raise RunError("runs", "must be given a folder that holds runs, not a run", got=str(parent),
                       fix=f"Try: descend runs {shlex.quote(str(parent.absolute().parent))}")  # fmt: skip
    if not parent.is_dir():
        raise RunError("runs", "must be given a folder that exists", got=str(parent), fix="Train a run first: descend fit DATA.")
    return [ListedRun.of(path) for path in folder.newest_first(parent)]


def named(name: str, parent: Path) -> Path:
    """Return the run folder of a name in ``parent``, of a path, or of ``latest``. Raises RunError where it is no run folder."""
    place = parent / name  # an absolute path stands for itself
    path = folder.resolve_run(place if place.exists() or name == folder.LATEST else Path(name))
    if not any((path / file).is_file() for file in GIVEN):
        known = [run.name for run in folder.newest_first(parent)]
        hint = nearest(name, known) if known and not path.exists() else "Give the folder that `descend fit` printed."
        raise RunError("runs", "must be given run folders", got=name, fix=hint)
    return path


def differing(runs: Sequence[ListedRun]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ: name -> the value in each, None where it has none."""
    plans = [run.record.plan if run.record else {} for run in runs]
    names = sorted({name for plan in plans for name in plan})
    rows = {name: [plan.get(name) for plan in plans] for name in names}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def check_deletable(paths: Iterable[Path]) -> None:
    """Raise RunError for what is not to be deleted: a link, a folder with other runs inside, a run that a process has."""
    for path in paths:
        if path.is_symlink():
            raise RunError("--delete", "must be given run folders, not a link to one", got=str(path),
                           fix=f"Give {path.resolve()}.")  # fmt: skip
        inner = folder.newest_first(path)
        if inner:
            raise RunError("--delete", f"must be given a run, and this folder holds others, such as {inner[0].name}",
                           got=str(path), fix="Move or delete those first.")  # fmt: skip
        RunLock(path).release()


def delete_run(path: Path) -> None:
    """Delete a run folder: it loses its name in one step, then its files go. Raises RunError where that cannot be done."""
    path = path.resolve()  # from inside the folder its name is a dot
    lock = RunLock(path)
    hidden = path.with_name(unfinished_name())
    try:
        path.rename(hidden)
    except OSError as error:
        raise RunError("--delete", f"{path} must be a folder that can be renamed ({error.strerror or error})",
                       fix="Give yourself the right to write there.") from None  # fmt: skip
    finally:
        lock.release()
    if not delete(hidden):
        raise RunError("--delete", f"every file of {path} must be one that can be deleted", got=str(hidden),
                       fix="What is left lies there.")  # fmt: skip


def _size(path: Path) -> int:
    """Return the bytes of all files below a folder; links count as themselves."""
    total = 0
    for file in path.rglob("*"):
        with suppress(OSError):  # deleted meanwhile
            if file.is_symlink() or file.is_file():
                total += file.lstat().st_size
    return total

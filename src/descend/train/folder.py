"""The run folder: what a run leaves behind, under which name, written so that a crash never leaves half a file."""

from __future__ import annotations

import errno
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from descend import files
from descend.errors import RunError, way_to_write
from descend.regular_files import read_text_bytes, size_on_disk
from descend.train import run_manifest
from descend.train.lock import LOCK
from descend.unfinished import sweep_unfinished

RECIPE, RECORD, METRICS = "recipe.toml", "record.json", "metrics.jsonl"
MODEL, PREDICTIONS, REPORT = "model.safetensors", "predictions.csv", "report.html"
CHECKPOINT, PREVIOUS, FORMER_CHECKPOINT = "checkpoint.safetensors", "checkpoint.previous.safetensors", "checkpoint.pt"
SNAPSHOTS, INITIAL, PICTURES = "snapshots", "initial.safetensors", "pictures.json"
CORRECTIONS, FIGURES = "corrections.csv", "figures"
CHANGED = "its SHA-256 digest is not the one in the run's manifest: it is damaged, or of another run"
_VERIFIED = (RECIPE, MODEL, CHECKPOINT, INITIAL, PICTURES, PREDICTIONS, CORRECTIONS)
_LEFT_OVER = (RECIPE, PICTURES, LOCK, run_manifest.MANIFEST)
LATEST = "latest"  # stands for the newest run of a folder


@contextmanager
def replacing(path: Path, *, previous: Path | None = None) -> Iterator[Path]:
    """Yield a path to write at that becomes ``path`` as in ``files.replacing``; RunError where the disk does not take it.

    The run's manifest learns the digest of what is verified when it is read. previous: the name under which what is there now
    stays. Between the two renames only that one exists.
    """
    try:
        with files.replacing(path) as unfinished:
            yield unfinished
            if path.name in _VERIFIED:
                run_manifest.expect(path, unfinished)
            if previous is not None and path.exists():
                files.flush(unfinished)
                path.replace(previous)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RunError:
    way_out = way_to_write(error, "Give yourself the right to write there")
    return RunError(f"folder {path.parent}", f"must be writable ({path.name}: {error.strerror or error})",
                    fix=f"{way_out}; what was saved before is intact.")  # fmt: skip


def make_inner(path: Path) -> None:
    """Make a folder within a run folder, where there is none yet. Raises RunError where the disk does not take it."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be valid Unicode


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` as JSON, one line per entry, atomically; NaN is not JSON and is refused."""
    lines = [f"{json.dumps(name)}: {json.dumps(entry, allow_nan=False)}" for name, entry in value.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or damaged file is a RunError that names the folder."""
    try:
        return json.loads(read_text_bytes(path).decode())
    except FileNotFoundError:
        raise RunError(str(path.parent), f"must be a run folder with a {path.name}",
                       fix="Give the folder that `descend fit` printed.") from None  # fmt: skip
    except OSError as error:
        raise RunError(str(path.parent), f"must be a run folder ({path.name}: {error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}", f"must be intact JSON ({error})") from None


def resolve_run(path: Path) -> Path:
    """Return the run folder that a path names: itself, or for ``runs/latest`` the newest run in ``runs``. Raises RunError.

    An empty folder of that name is in nobody's way: nothing but a run would be looked for in it.
    """
    if path.name != LATEST or (path.exists() and not _is_empty(path)):
        return path
    runs = newest_first(path.parent)
    if not runs:
        raise RunError(str(path), f"needs a run in {path.parent}", fix="Train one: descend fit DATA.")
    return runs[0]


def _is_empty(path: Path) -> bool:
    """Return whether a path leads to a folder that holds nothing."""
    try:
        return path.is_dir() and not any(path.iterdir())
    except OSError:
        return False


def newest_first(parent: Path) -> list[Path]:
    """Return the run folders in a folder, by when their recipe was last written; none where it cannot be listed.

    One that is just being made, or deleted, has a hidden name and is none yet, or none any more.
    """
    try:
        runs = [entry for entry in parent.iterdir() if not entry.name.startswith(".") and (entry / RECORD).is_file()]
    except OSError:
        return []
    return sorted(runs, key=lambda run: (_last_written(run / RECIPE), run.name), reverse=True)


def _last_written(path: Path) -> float:
    """Return seconds since 1970; 0 for a file that is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def check_free(out: Path | None) -> None:
    """Raise RunError if ``out`` holds anything: nothing is ever overwritten.

    What a process that was killed while it made a run here has left is nothing: a recipe without a record.
    """
    if out is not None and (out.is_file() or (out.is_dir() and any(path.name not in _LEFT_OVER for path in _listed(out)))):
        go_on = f", or go on with the run there: descend fit --resume {shlex.quote(str(out))}" if (out / RECORD).is_file() else ""
        raise RunError("--out", "must be a new or empty folder", got=str(out), fix=f"Choose another{go_on}.")


def create(out: Path | None, name: str, fill: Callable[[Path], None] = lambda _: None, root: str = "runs") -> Path:
    """Make a fresh run folder: ``out``, or ``ROOT/NAME-YYYYmmdd-HHMMSS``.

    fill: writes what the folder holds when it appears: nobody sees it without, and of two processes that choose the same name
    one gets the next. An empty folder that is there already is filled where it is. Raises RunError.
    """
    check_free(out)
    if out is not None and out.is_dir():
        fill(out)
        return out
    names = [out] if out is not None else named(name, Path(root))
    try:
        names[0].parent.mkdir(parents=True, exist_ok=True)
        sweep_unfinished(names[0].parent)
        for place in names:
            if not place.exists() and _born(place, fill):
                return place
    except OSError as error:
        raise RunError("--out", f"must be a folder that can be made ({error.strerror})", got=str(names[0])) from None
    raise RunError("--out", "must be a new or empty folder", got=str(names[0]), fix="Choose another.")


def named(name: str, root: Path) -> list[Path]:
    """Return the places for a run that is begun now, the first that is free counts: ``ROOT/NAME-YYYYmmdd-HHMMSS``, ``...-2``."""
    first = root / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    return [first, *(first.with_name(f"{first.name}-{k}") for k in range(2, 1000))]


def _born(place: Path, fill: Callable[[Path], None]) -> bool:
    """Let a filled folder appear as ``place``; False where another process was quicker."""
    try:
        with files.replacing(place) as unfinished:
            unfinished.mkdir()
            fill(unfinished)
    except RunError as error:  # it names the hidden folder, which nobody knows
        refused = error.__cause__ or error.__context__
        if isinstance(refused, OSError):
            raise refused from None
        raise
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _listed(folder: Path) -> list[Path]:
    """Return what is in a folder but what others are just writing there."""
    sweep_unfinished(folder)
    return list(folder.iterdir())


def verify(path: Path, fix: str, *, as_: str | None = None) -> None:
    """Raise RunError where a file of a run is another than was written. fix: what to do then. as_: the name it had then."""
    try:
        size_on_disk(path)  # of a run folder from elsewhere
        if run_manifest.is_changed(path, as_):
            raise RunError(str(path), f"must be intact ({CHANGED})", fix=fix)
    except OSError as error:
        raise RunError(str(path), f"must be readable ({error.strerror or error})") from None


def train_anew(run: Path) -> str:
    """Return the command that trains a run's recipe again, in a folder NEW of one's choice."""
    return f"descend fit --recipe {shlex.quote(str(run / RECIPE))} --out NEW"


def corrections_of(run: Path) -> Path | None:
    """Return a run's own copy of the corrections of its data, None where there were none. Raises RunError for a changed one."""
    path = run / CORRECTIONS
    if not path.exists():
        return None
    verify(path, f"Undo the change, or train anew: {train_anew(run)}.")
    return path


def verify_recipe(run: Path) -> None:
    """Raise RunError, naming the settings, where a run's recipe is not the one that it began with."""
    differing = run_manifest.changed_settings(run / RECIPE)
    if differing:
        raise RunError(f"run {run}", f"must have the recipe that it began with; its {RECIPE} differs in "
                       f"{', '.join(differing[:10])}",
                       fix=f"Undo the change, or train anew: {train_anew(run)}.")  # fmt: skip


def is_trained(run: Path) -> bool:
    """Return whether a run folder keeps anything that was trained: a model, or a checkpoint to go on from."""
    return any((run / name).exists() for name in (MODEL, CHECKPOINT, PREVIOUS))


def has_checkpoint(run: Path) -> bool:
    """Return whether a run can go on from a checkpoint. Raises RunError for one in a format that is no longer read."""
    if (run / CHECKPOINT).exists() or (run / PREVIOUS).exists():
        return True
    if (run / FORMER_CHECKPOINT).exists():
        raise RunError(f"run {run}", f"must have a {CHECKPOINT}: an older version wrote {FORMER_CHECKPOINT}, which is not read",
                       fix="Delete that file to train from the beginning, or go on with the version that wrote it.")  # fmt: skip
    return False


def damage(model: Path) -> str | None:
    """Return what is wrong with a run's model, None if it is as it was written and can be read."""
    try:
        size_on_disk(model)
        if run_manifest.is_changed(model):
            return CHANGED
        with safe_open(model, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                file.get_tensor(name)
    except FileNotFoundError:
        return "it is missing"
    except (SafetensorError, OSError) as error:
        return str(error).splitlines()[0]
    return None


def append_line(path: Path, row: Mapping[str, object]) -> None:
    """Append one JSON line. Raises RunError where the disk does not take it."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
    except OSError as error:
        raise _unwritable(path, error) from error


def flush_lines(path: Path) -> None:
    """Wait until the lines that were appended are on the disk. Raises RunError where it does not take them."""
    try:
        files.flush(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def by_epoch(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``, one per epoch in order; where a crash has left two of one, the later one counts."""
    rows = {line["epoch"]: dict(line) for line in lines if isinstance(line.get("epoch"), int)}
    return [rows[epoch] for epoch in sorted(rows)]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines up to the first that is none: a last line may be cut short by a crash."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for line in _text(path).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows


def _text(path: Path) -> str:
    try:
        return read_text_bytes(path).decode(errors="replace")
    except OSError as error:
        raise RunError(str(path), f"must be readable ({error.strerror})") from None

"""The run folder: what a run leaves behind, under which name, written so that a crash never leaves half a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from descend import files
from descend.errors import RunError

RECIPE, RECORD, METRICS = "recipe.toml", "record.json", "metrics.jsonl"
MODEL, CHECKPOINT, PREDICTIONS, REPORT = "model.safetensors", "checkpoint.pt", "predictions.csv", "report.html"
SNAPSHOTS, INITIAL = "snapshots", "initial.safetensors"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write at that becomes ``path`` as in ``files.replacing``; RunError where the disk does not take it."""
    try:
        with files.replacing(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"run folder {path.parent}", f"must be writable ({error.strerror or error})",
                    fix="Free some space or choose another --out; what was saved before is intact.")  # fmt: skip


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
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(str(path.parent), f"must be a run folder with a {path.name}",
                       fix="Give the folder that `descend fit` printed.") from None  # fmt: skip
    except OSError as error:
        raise RunError(str(path.parent), f"must be a run folder ({error.strerror})") from None
    except ValueError as error:
        raise RunError(f"{path}", f"must be intact JSON ({error})") from None


def check_free(out: Path | None) -> None:
    """Raise RunError if ``out`` holds anything: nothing is ever overwritten."""
    if out is not None and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise RunError("--out", "must be a new or empty folder", got=str(out),
                       fix="Choose another, or go on with an interrupted run: descend fit --resume RUN.")  # fmt: skip


def create(out: Path | None, name: str) -> Path:
    """Make a fresh run folder: ``out``, or ``runs/NAME-YYYYmmdd-HHMMSS``."""
    if out is None:
        stem = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
        out = next(p for p in (stem, *(stem.with_name(f"{stem.name}-{k}") for k in range(2, 1000))) if not p.exists())
    check_free(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError("--out", f"must be a folder that can be made ({error.strerror})", got=str(out)) from None
    return out


def append_line(path: Path, row: Mapping[str, object]) -> None:
    """Append one JSON line. Raises RunError where the disk does not take it."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
    except OSError as error:
        raise _unwritable(path, error) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line cut short by a crash is dropped."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows

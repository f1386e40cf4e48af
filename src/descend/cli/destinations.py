"""Where a command may write what it was asked for: over no picture, and over nothing that it reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from descend.errors import KnobError
from descend.outputs import check_output, is_same_file

if TYPE_CHECKING:
    from descend.train.recipe import Recipe


def destination(text: str) -> Path:
    """Return the file that a flag names; in ``runs/latest/...`` it lies in the newest run, as where a run is named.

    Raises RunError where there is no run.
    """
    from descend.train.folder import LATEST, resolve_run

    path = Path(text)
    folder = next((parent for parent in path.parents if parent.name == LATEST), None)
    return path if folder is None else resolve_run(folder) / path.relative_to(folder)


def check_text_file(who: str, path: Path, *, reads: Iterable[str | Path] = (), run: Path | None = None) -> None:
    """Raise what ``outputs.check_output`` raises, and KnobError for a file that is, or is called like, a picture.

    who: the flag. reads: files that the command reads; folders among them are looked at by the names of their pictures alone.
    run: a run that it opens, whose own files stay.
    """
    from descend.data.archives import is_archive
    from descend.data.formats import is_called_picture
    from descend.data.opening import is_picture_file
    from descend.data.parquet_rows import has_pictures

    if is_called_picture(path.name):
        raise KnobError(who, "must not end like a picture: no picture is written", got=str(path),
                        fix=f"Such as {path.stem}.csv for a table, {path.stem}.html for a page.")  # fmt: skip
    if path.is_file() and (is_archive(path) or has_pictures(path) or is_picture_file(path)):
        raise KnobError(who, "must not be a file that holds pictures", got=str(path), fix="Choose another name.")
    check_output(who, path, reads=[*map(Path, reads), *_own_files(run)])


def check_figure(who: str, path: Path, recipe: Recipe) -> None:
    """Raise KnobError where a figure would be written over a picture of a recipe's data. who: the flag.

    Raises DataError for data that cannot be listed.
    """
    from descend.data.formats import is_picture_name
    from descend.data.sources import read

    if recipe.data is None or not path.is_file() or not is_picture_name(path.name):
        return
    listed = read(recipe.data, outside=bool(recipe.outside))
    if listed.root is None or listed.pictures is not None:
        return
    if any(is_same_file(path, listed.root / name) for name in listed.names):
        raise KnobError(who, "must not be a picture of the data set", got=str(path), fix="Choose another name.")


def _own_files(run: Path | None) -> list[Path]:
    """Return the files that a run consists of, and those that are read when it is opened; none of a run on a hub."""
    if run is None:
        return []
    from descend.train import folder, run_manifest
    from descend.train.lock import LOCK

    names = (
        folder.RECIPE, folder.RECORD, folder.METRICS, folder.MODEL, folder.PREDICTIONS, folder.REPORT, folder.CHECKPOINT,
        folder.PREVIOUS, folder.FORMER_CHECKPOINT, folder.INITIAL, folder.PICTURES, folder.CORRECTIONS,
        run_manifest.MANIFEST, LOCK,
    )  # fmt: skip
    return [folder.resolve_run(run) / name for name in names]

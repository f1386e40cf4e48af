"""What can be said of a command's words before torch is imported: of runs and data here, of techniques by ``catalogue``.

It only says sooner what would be said anyway: a typo is answered at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from descend.errors import RunError, did_you_mean

if TYPE_CHECKING:
    from descend.train.run import Run


def check_run(place: Path) -> None:
    """Raise RunError unless a run lies where RUN says; an address on the hub is looked at when it is fetched."""
    from descend.train.folder import LATEST, RECORD, newest_first, read_json, resolve_run

    if str(place).startswith("hf:/"):
        return
    path = resolve_run(place)
    if not os.path.lexists(path):
        runs = [run.name for run in newest_first(path.parent)]
        near = did_you_mean(path.name, [LATEST, *runs] if runs else [])
        raise RunError(str(path), "must be a run folder, there is nothing of that name",
                       fix=near or "Give the folder that `descend fit` printed.")  # fmt: skip
    read_json(path / RECORD)


def load(place: Path) -> Run:
    """Open a run as ``descend.load`` does; that there is none is told before what opens it is imported."""
    check_run(place)
    from descend import api

    return api.load(place)


def check_data(data: str | None) -> None:
    """Raise DataError unless there is a folder, a file or a built-in set of that name; None is left to whoever needs it."""
    from descend.data.places import check_place

    if data is not None:
        check_place(data)

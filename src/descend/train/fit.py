"""One run from start to end: prepare, train, judge. Each stage is timed and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from descend.errors import RunError
from descend.progress import Progress
from descend.train import folder
from descend.train import recipe as recipes
from descend.train.judge import judge
from descend.train.prepare import Survey, prepared, survey, threads
from descend.train.recipe import Recipe
from descend.train.run import Run
from descend.train.run_log import RunLog
from descend.train.training import train

Search = Callable[[Survey, RunLog, Progress], Run]
"""Makes the run of a plan whose transfer is ``auto``; it stands above this package, so it is handed down."""


def fit(recipe: Recipe, *, arrays: Any, out: Path | None, progress: Progress, command: list[str], search: Search) -> Run:
    """Train from the beginning. ``arrays`` stands for data that is no path; see ``descend.fit``."""
    folder.check_free(out)
    log = RunLog(out=out, command=command)
    with threads(recipe.threads):
        try:
            return _made(survey(recipe, arrays=arrays, log=log, progress=progress), log, progress, search)
        except KeyboardInterrupt:
            if log.folder is None:
                raise
            return log.stopped()


def resume(path: Path, *, arrays: Any, progress: Progress, search: Search) -> Run:
    """Go on with an interrupted run. Raises RunError if it is finished, or if its data are not what they were."""
    log = RunLog.reopened(path)
    if log.record.status == "finished":
        raise RunError(f"run {path}", "must be unfinished to go on", got=log.record.status,
                       fix="To train it again: descend fit --recipe RUN/recipe.toml --out NEW.")  # fmt: skip
    recipe = recipes.read(path / folder.RECIPE)
    with threads(recipe.threads):
        try:
            surveyed = survey(recipe, arrays=arrays, log=log, progress=progress, who="resume", of=Run(path))
            return _made(surveyed, log, progress, search, restore=True)
        except KeyboardInterrupt:
            return log.stopped()


def _made(surveyed: Survey, log: RunLog, progress: Progress, search: Search, *, restore: bool = False) -> Run:
    if surveyed.plan.transfer == "auto":
        return search(surveyed, log, progress)
    return judge(train(prepared(surveyed, log=log, progress=progress), restore=restore))

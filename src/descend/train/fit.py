"""One run from start to end: prepare, train, judge. Each stage is timed and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from descend.errors import RunError
from descend.progress import Progress
from descend.train import folder
from descend.train import recipe as recipes
from descend.train.judge import judge
from descend.train.prepare import prepare, threads
from descend.train.recipe import Recipe
from descend.train.run import Run
from descend.train.run_log import RunLog
from descend.train.training import train


def fit(recipe: Recipe, *, arrays: Any, out: Path | None, progress: Progress, command: list[str]) -> Run:
    """Train from the beginning. ``arrays`` stands for data that is no path; see ``descend.fit``."""
    folder.check_free(out)
    log = RunLog(out=out, command=command)
    with threads(recipe.threads):
        try:
            return judge(train(prepare(recipe, arrays=arrays, log=log, progress=progress)))
        except KeyboardInterrupt:
            if log.folder is None:
                raise
            return log.stopped()


def resume(path: Path, *, arrays: Any, progress: Progress) -> Run:
    """Go on with an interrupted run. Raises RunError if it is finished, or if its data are not what they were."""
    log = RunLog.reopened(path)
    if log.record.status == "finished":
        raise RunError(f"run {path}", "must be unfinished to go on", got=log.record.status,
                       fix="To train it again: descend fit --recipe RUN/recipe.toml --out NEW.")  # fmt: skip
    recipe = recipes.read(path / folder.RECIPE)
    with threads(recipe.threads):
        try:
            setup = prepare(recipe, arrays=arrays, log=log, progress=progress, who="resume", of=Run(path))
            return judge(train(setup, restore=True))
        except KeyboardInterrupt:
            return log.stopped()

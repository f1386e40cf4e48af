"""One run from start to end: prepare, train, judge, write up. Each stage is timed and told."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from descend.available_memory import forget_peak
from descend.data.builtin import SETS
from descend.data.places import is_address
from descend.errors import DataError, KnobError, RunError
from descend.progress import Progress
from descend.train import folder, run_manifest
from descend.train import recipe as recipes
from descend.train.callbacks import OnEpoch
from descend.train.failure import in_words
from descend.train.interrupt import ending_with_sigterm
from descend.train.judge import judge
from descend.train.prepare import Survey, prepare_surveyed, survey, threads
from descend.train.recipe import Recipe
from descend.train.resume_differences import resume_differences
from descend.train.run import Run
from descend.train.run_log import RunLog
from descend.train.tracking import Tracker
from descend.train.training import train
from descend.train.world import World, current

Search = Callable[[Survey, RunLog, Progress], Run]
"""Makes the run of a plan whose transfer is ``auto``; it stands above this package, so it is handed down."""

WriteUp = Callable[[Run], Run]
"""Writes the report of a run and returns it; it stands above this package too. The run folder is locked until it is done."""


def fit(
    recipe: Recipe,
    *,
    arrays: Any,
    out: Path | None,
    progress: Progress,
    command: list[str],
    search: Search,
    write_up: WriteUp,
    on_epoch: OnEpoch | None = None,
    tracker: Tracker | None = None,
) -> Run:
    """Train from the beginning. ``arrays`` stands for data that is no path; see ``descend.fit``."""
    world = current()
    if world.leads:
        folder.check_free(out)
    forget_peak()
    on_epoch, tracker = (on_epoch, tracker) if world.leads else (None, None)
    log = RunLog(out=out, command=command, on_epoch=on_epoch, writes=world.leads, tracker=tracker)
    with ending_with_sigterm(), log:
        with threads(world.threads(recipe.threads)):
            log.record.n_threads = torch.get_num_threads()
            try:
                with world.in_turn():
                    surveyed = survey(recipe, arrays=arrays, log=log, progress=progress)
                _check_same_data(surveyed, world)
                run = _made(surveyed, log, progress, search)
            except KeyboardInterrupt:
                run = _stopped(log, world)
        return _written_up(run, write_up)


def resume(
    path: Path,
    *,
    data: Any,
    progress: Progress,
    search: Search,
    write_up: WriteUp,
    on_epoch: OnEpoch | None = None,
    tracker: Tracker | None = None,
    n_threads: int | None = None,
) -> Run:
    """Go on with an interrupted run; one that lacks only its report, or whose model, metrics or predictions are damaged, is
    completed.

    data: the place where its pictures are now, or the arrays that it was started on; None where they are where they were.
    n_threads: of torch from here on; None for as many as the run began with, without which bits differ.
    Raises RunError if nothing is left to do, if the data are not what they were, or if another process has the run.
    """
    world = current()
    on_epoch, tracker = (on_epoch, tracker) if world.leads else (None, None)
    forget_peak()
    with ending_with_sigterm(), RunLog.reopened(path, on_epoch, writes=world.leads, tracker=tracker) as log:
        lacks = world.told(_lacks(path, log) if world.leads else None)
        if lacks == "nothing":
            raise RunError(f"run {path}", "must be unfinished to go on", got=log.record.status,
                           fix=f"For more epochs: {more_epochs(path)}. "
                           f"To train it again: {folder.train_anew(path)}.")  # fmt: skip
        if lacks == "a report":
            return _written_up(Run(path, log.record), write_up)
        if lacks == "a model" and world.leads:
            (path / folder.MODEL).unlink(missing_ok=True)  # nothing may be read from a damaged one
        if not run_manifest.is_there(path):
            progress.say("  this run is of an older version: its files cannot be verified")
        recipe, arrays = _moved(Run(path, log.record).recipe, data, path)
        folder.has_checkpoint(path)  # one that cannot be read is refused before pictures are decoded
        as_then = log.record.n_threads if _n_processes(log) == world.size else 0  # other processes share the processors otherwise
        with threads(n_threads or as_then or world.threads(recipe.threads)):
            _note_departures(log, progress)
            try:
                with world.in_turn():
                    surveyed = survey(recipe, arrays=arrays, log=log, progress=progress, who="resume", of=Run(path))
                _check_same_data(surveyed, world)
                run = _made(surveyed, log, progress, search, restore=True)
            except KeyboardInterrupt:
                run = _stopped(log, world)
        return _written_up(run, write_up)


def _check_same_data(surveyed: Survey, world: World) -> None:
    """Raise DataError where this process sees other pictures than the one that leads."""
    if world.told(surveyed.dataset.fingerprint) != surveyed.dataset.fingerprint:
        raise DataError(surveyed.dataset.name, f"must hold the same pictures for all {world.size} processes",
                        fix="Put the same data in the same place on every machine.")  # fmt: skip


def _stopped(log: RunLog, world: World) -> Run:
    """Return what Ctrl-C has left. Raises KeyboardInterrupt where there is no run, or where others wait for one that goes on."""
    if log.folder is None:
        raise KeyboardInterrupt
    run = log.stopped()
    if world.size > 1:
        raise KeyboardInterrupt
    return run


def _written_up(run: Run | None, write_up: WriteUp) -> Run:
    """Return the run with its report. run: None in a process that does not lead: it waits, and gets what the other has."""
    if run is not None and current().leads:
        run = write_up(run)
    place, record = current().told((None, None) if run is None else (run.folder, run.record))
    assert place is not None and record is not None  # noqa: PT018 (the process that leads has a run)
    return run or Run(place, record)


def _n_processes(log: RunLog) -> int:
    return 1 if log.record.processes is None else log.record.processes["n"]


def _moved(recipe: Recipe, data: Any, path: Path) -> tuple[Recipe, Any]:
    """Return the recipe with the place of its data, and the data where they are no path."""
    if isinstance(data, (str, Path)):
        if recipe.data is None:
            raise RunError(f"run {path}", "was started on arrays, and goes on with them", got=str(data),
                           fix="In Python: descend.resume(RUN, data=(images, labels)).")  # fmt: skip
        return replace(recipe, data=str(data)), None
    if data is None and recipe.data is not None and not _is_there(recipe.data):
        raise RunError(f"run {path}", "its data must be where they were when it began", got=recipe.data,
                       fix=f"Say where they are now: descend fit --resume {shlex.quote(str(path))} --data NEWPLACE.")  # fmt: skip
    return recipe, data


def _is_there(data: str) -> bool:
    return data in SETS or os.path.lexists(data) or is_address(data)


def _note_departures(log: RunLog, progress: Progress) -> None:
    """Tell and write down what keeps the run from ending in the bits of one that was never stopped."""
    different = resume_differences(log.record, n_threads=torch.get_num_threads(), n_processes=current().size)
    if different:
        progress.say(f"  not bit-exact: {', '.join(different)}; the run agrees to rounding with one that was never stopped")
        log.record.departures = [*dict.fromkeys([*log.record.departures, *different])]


def more_epochs(path: Path, epochs: int | str = "N") -> str:
    """Return the command that trains a finished run's network for more epochs."""
    data = recipes.read(path / folder.RECIPE).data or "DATA"
    return f"descend fit {shlex.quote(data)} --init {shlex.quote(str(path))} --epochs {epochs}"


def _lacks(path: Path, log: RunLog) -> Literal["an end", "a model", "a judgment", "a report", "nothing"]:
    """Return the first that is missing, changed or damaged of what a run leaves behind; it changes nothing.

    Raises RunError where a finished run's model is damaged and cannot be built again.
    """
    if log.record.status != "finished":
        return "an end"
    model = path / folder.MODEL
    damage = folder.damage(model)
    begun = folder.has_checkpoint(path)
    again = begun or log.record.head_trials or log.record.search_ended
    if damage is not None and not again:
        raise RunError(str(model), f"must be intact ({damage}), and there is no checkpoint to build it from",
                       fix=f"Train again from its recipe: {folder.train_anew(path)}.")  # fmt: skip
    if damage is not None:
        return "a model"
    if begun and log.record.metrics_are_changed(path):
        return "a judgment"
    if again and (not (path / folder.PREDICTIONS).exists() or run_manifest.is_changed(path / folder.PREDICTIONS)):
        return "a judgment"
    return "nothing" if (path / folder.REPORT).exists() and "report" in log.record.wall_s else "a report"


def _made(surveyed: Survey, log: RunLog, progress: Progress, search: Search, *, restore: bool = False) -> Run | None:
    """Make the run; returns None in a process that does not lead."""
    if log.on_epoch is not None and "epochs" not in surveyed.plan.settings:
        raise KnobError("on_epoch", f"has no effect: transfer {surveyed.plan.transfer} trains no epochs here",
                        fix='Leave it out, or name what trains them: transfer="finetune", or epochs=20.')  # fmt: skip
    try:
        if surveyed.plan.transfer == "auto":
            return search(surveyed, log, progress)
        result = train(prepare_surveyed(surveyed, log=log, progress=progress), restore=restore)
        return judge(result) if current().leads else None
    except Exception as error:
        told = current().lost(error) or in_words(error, surveyed.plan)
        log.failed(told)
        raise told from error.__cause__ if told is error else error

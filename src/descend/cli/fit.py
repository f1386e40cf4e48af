"""``descend fit``: every setting of the recipe is a flag; the flags are made from the recipe's own knobs."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from descend.api import fit, resume
from descend.cli import STARTED
from descend.cli.catalogue import check_names
from descend.cli.first_look import check_data, check_run
from descend.cli.output import Parser, number, tell
from descend.cli.progress import Terminal
from descend.errors import KnobError, RunError
from descend.progress import Silent
from descend.technique import Knob, knobs
from descend.train.folder import is_trained
from descend.train.interrupt import EXIT_TERMINATED, terminable
from descend.train.recipe import FORMER_NAMES, LISTS, Recipe, from_arguments, read
from descend.train.world import ALONE, World, are_several

if TYPE_CHECKING:
    from descend.train.record_types import EpochRow
    from descend.train.run import Run
    from descend.train.tracking import Tracker

EPILOG = """examples:
  descend fit digits                                    the built-in set
  descend fit photos/                                   one folder per class, or train/ val/ test/ around such folders
  descend fit photos/ --transfer finetune --size 128
  descend fit table.csv --augment "flip(p=0.5)" --optimizer "adamw(lr=0.002)"
  descend fit --recipe runs/photos/recipe.toml --seed 1
  descend fit --resume runs/photos                      go on where Ctrl-C stopped it
  descend fit more/ --init runs/photos --epochs 20      begin from a run's weights: more epochs, other settings, new classes
  descend fit --resume runs/photos --data /new/photos   and the pictures have moved
"""


def main(argv: list[str]) -> int:
    """Train, or go on with an interrupted run; with the processes that torchrun has started beside this one, together."""
    if not are_several(os.environ):
        return _main(argv, ALONE)
    from descend.train.distributed import processes

    with processes() as world:
        return _main(argv, world)


def _main(argv: list[str], world: World) -> int:
    parser = _parser()
    args = vars(parser.parse_args(argv))
    as_json, resumed, moved, on = args.pop("json"), args.pop("resume"), args.pop("moved"), args.pop("on")
    tracked = args.pop("mlflow"), args.pop("tensorboard")
    settings = settings_of(args)
    if resumed is not None:
        if not settings:  # with some, what is wrong with those comes first
            check_run(resumed)
    else:
        if moved is not None:
            raise KnobError("--data", "tells --resume where a run's pictures are now; DATA stands alone", got=moved,
                            fix=f"descend fit {shlex.quote(moved)}")  # fmt: skip
        check_settings("fit", settings)
    with terminable() as termination:
        try:
            run = _run(resumed, moved, settings, ["descend", "fit", *argv], world, tracked, on)
        except KeyboardInterrupt as error:
            if lost := world.lost(error):
                raise lost from None
            if not termination.requested:
                raise
            tell("Stopped.", file=sys.stderr)
            if world.size > 1:  # the others may be waiting for anything: only an end tells them
                raise SystemExit(EXIT_TERMINATED) from None
            return EXIT_TERMINATED
        if world.leads:
            tell(*([json.dumps(run.summary())] if as_json else _closing(run, world)))
    if run.record.status != "interrupted":
        return 0
    return EXIT_TERMINATED if termination.requested else 130


def _run(
    resumed: Path | None,
    moved: str | None,
    settings: dict[str, Any],
    command: list[str],
    world: World,
    tracked: tuple[str | None, Path | None],
    on: str | None,
) -> Run:
    terminal = Terminal() if world.leads else Silent()
    if resumed is None:
        trackers = _trackers(*tracked) if world.leads else []
        return fit(**settings, on=on, progress=terminal, command=command, started=STARTED.get(), tracker=trackers)
    threads = settings.pop("threads", None)
    if "epochs" in settings:
        _refuse_more_epochs(resumed, settings["epochs"])
    if settings:
        raise KnobError("--resume", "takes no DATA and no setting but --data and --threads: a run goes on as it began",
                        got=sorted(settings)[0], fix=f"descend fit --resume {resumed}")  # fmt: skip
    trackers = _trackers(*tracked) if world.leads else []
    return resume(resumed, data=moved, threads=threads, on=on, progress=terminal, started=STARTED.get(), tracker=trackers)


def _trackers(experiment: str | None, events: Path | None) -> list[Tracker]:
    """Return what follows the run, as ``--mlflow`` and ``--tensorboard`` ask."""
    found: list[Tracker] = []
    if experiment is not None:
        from descend.train.mlflow import MLflow

        found.append(MLflow(experiment))
    if events is not None:
        from descend.train.tensorboard import TensorBoard

        found.append(TensorBoard(events))
    return found


def check_settings(verb: str, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe; raise what can be said of it before torch is imported: no DATA, none there, an unknown technique."""
    require_data(verb, settings)
    chosen = {name: value for name, value in settings.items() if name not in ("recipe", "out", "json")}
    recipe, _ = from_arguments(None, settings.get("recipe"), chosen)
    check_names(recipe)
    if recipe.init is not None:
        check_run(Path(recipe.init))
    check_data(recipe.data)
    return recipe


def _refuse_more_epochs(resumed: Path, epochs: int) -> None:
    """Raise RunError that says how a finished run is trained for more epochs."""
    from descend.train.fit import more_epochs
    from descend.train.folder import resolve_run
    from descend.train.record import load

    resumed = resolve_run(resumed)
    if load(resumed).status == "finished":
        raise RunError(f"run {resumed}", "is finished; more epochs begin from its weights",
                       fix=f"{more_epochs(resumed, epochs)}")  # fmt: skip


def require_data(verb: str, settings: Mapping[str, Any]) -> None:
    """Raise KnobError unless DATA is given, in words or in a recipe; one that a list has swallowed is named."""
    recipe = settings.get("recipe")
    if "data" in settings or (recipe is not None and read(recipe).data is not None):
        return
    from descend.data.builtin import SETS

    for name in LISTS:  # ``--augment flip photos/`` reads photos/ as one more augmentation
        last = (settings.get(name) or [""])[-1]
        if last and (last in SETS or Path(last).exists()):
            raise KnobError("DATA", f"must stand before --{name}, which takes all that follows", got=last,
                            fix=f"descend {verb} {shlex.quote(last)} --{name} ...")  # fmt: skip
    raise KnobError(verb, "needs DATA: a folder, a table, or the name of a built-in set", fix=f"Try: descend {verb} digits")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend fit", description="Train a classifier on labeled pictures.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    parser.add_argument("--data", metavar="PLACE", dest="moved", help="with --resume: where the run's pictures are now")
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run folder; default runs/NAME-DATE-TIME")
    parser.add_argument("--on", choices=("ray",), help="where frozen features are computed: a Ray cluster; default this machine")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line of standard output")
    parser.add_argument("--mlflow", metavar="EXPERIMENT", help="log the run to MLflow, at MLFLOW_TRACKING_URI (extra [mlflow])")
    parser.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write TensorBoard's events (extra [tensorboard])")
    add_settings(parser)
    return parser


def add_settings(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Add DATA, ``--recipe`` and a flag for every setting of the recipe but those in ``without``."""
    parser.add_argument("data", nargs="?", metavar="DATA", help="a folder, a table, or the name of a built-in set (digits)")
    parser.add_argument("--recipe", type=Path, help="a TOML file of settings; flags given beside it win")
    for knob in knobs(Recipe):
        if knob.name not in ("data", *without):
            parser.add_argument(f"--{knob.name.replace('_', '-')}", **_flag(knob))
    for old in FORMER_NAMES:
        parser.add_argument(f"--{old.replace('_', '-')}", action=_Renamed, help=argparse.SUPPRESS, dest=old)


class _Renamed(argparse.Action):
    """A flag's former name: an error that tells the new one."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: object = None) -> None:  # noqa: ARG002 (argparse's protocol)
        new = FORMER_NAMES[self.dest].replace("_", "-")
        raise KnobError(f"--{self.dest.replace('_', '-')}", "is no flag", fix=f"It is called --{new}.")


def settings_of(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among parsed flags, those not given left out; ``--augment none`` asks for no augmentation at all."""
    return {name: [] if value == ["none"] else value for name, value in args.items() if value is not None}


def _flag(knob: Knob) -> dict[str, Any]:
    options: dict[str, Any] = {"help": knob.doc, "default": None}
    if knob.choices:
        return options | {"choices": knob.choices}
    kinds = getattr(knob.type, "__args__", (knob.type,))
    if knob.takes_many:
        return options | {"nargs": "+", "action": "extend", "metavar": "SPEC", "help": f"{knob.doc}; repeatable"}
    if bool in kinds or knob.type is bool:
        return options | {"action": "store_true"}
    kind = int if int in kinds else float if float in kinds else None
    if kind is None:
        return options | {"metavar": "TEXT"}
    return options | {"type": number(kind, knob.interval.removesuffix(", or None")), "metavar": "N" if kind is int else "X"}


def _closing(run: Run, world: World) -> list[str]:
    from descend.report import advice, advice_line
    from descend.report.words import with_imports

    folder = shlex.quote(str(run.folder))
    if run.record.status == "interrupted":
        go_on = with_imports(f"{world.command()} --resume {folder}", run.record)
        kept = "; what was trained is kept in" if is_trained(run.folder) else " before anything was trained:"
        return [f"Stopped{kept} {run.folder}", f"Go on:   {go_on}"]
    rows = cast("list[EpochRow]", run.record.epoch_rows(run.folder))
    return [
        *run.verdict().splitlines(),
        f"Report:  {run.folder / 'report.html'}",
        f"Predict: {with_imports(f'descend predict {folder} FILES-OR-FOLDERS', run.record)}",
        *map(advice_line, advice(run.folder, run.record, rows)[:1]),
        *run.record.notes,
    ]

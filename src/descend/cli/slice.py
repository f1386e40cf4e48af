"""``descend slice``: the loss of a trained network on planes through its weights, drawn."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from descend import landscape
from descend.cli.first_look import load
from descend.cli.output import Parser, tell
from descend.cli.progress import Terminal
from descend.durations import duration
from descend.errors import RunError, check_count

if TYPE_CHECKING:
    from descend.landscape import Plane
    from descend.train.run import Run
    from descend.train.states import States

EPILOG = """examples:
  descend slice runs/digits
  descend fit digits --out runs/path --snapshots 12 && descend slice runs/path
  descend slice runs/path --plane path --reach 0.5 --grid 31 --format png --out figures/

random   two random directions, each filter as long as the weights' own (Li et al. 2018): how sharp is the minimum?
path     the two main directions of the training path, which is drawn into it: how did training get there?

The loss is the mean cross-entropy of validation pictures; batch norms that were trained measure their statistics anew at every
point. A plane shows two directions of very many: a minimum in it may be none.
"""


def main(argv: list[str]) -> int:
    """Evaluate, draw, say what was done."""
    options = _parser().parse_args(argv)
    run = load(options.run)
    from descend.train.folder import SNAPSHOTS, resolve_run
    from descend.train.states import States

    check_count("--pictures", options.pictures)
    folder = run.folder if options.out is None else resolve_run(options.out)
    if not folder.is_dir():
        raise RunError("--out", "must be a folder that exists", got=str(folder))
    if options.plane == "path" and not list((run.folder / SNAPSHOTS).glob("*.safetensors")):
        raise _no_path(run)
    states = States(run, n_pictures=options.pictures, progress=Terminal())
    snapshots = states.snapshots()
    planes: dict[str, tuple[Plane, str]] = {}
    if options.plane in ("random", "both"):
        planes["random"] = landscape.random_plane(states.center(), seed=options.seed), "loss around the trained weights (★)"
    if options.plane == "path" or (options.plane == "both" and len(snapshots) > 2):
        if len(snapshots) < 3:
            raise _no_path(run)
        last = max(snapshots)
        title = f"training path to epoch {last} (★)"
        planes["path"] = landscape.path_plane(list(snapshots.values()), names=states.trained()), title
    if snapshots:
        tell("loss along the training path, after each epoch kept:")
        tell("  " + "  ".join(f"{epoch}: {states.loss(state):.3g}" for epoch, state in snapshots.items()))
    for name, (plane, title) in planes.items():
        path = folder / f"slice-{name}.{options.format}"
        tell(_evaluated(states, plane, title, path, options))
    if "path" not in planes and options.plane == "both":
        tell("No training path: train with --snapshots N to keep its states.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend slice", description="Draw the loss of a trained network on planes through its weights.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument(
        "--plane", choices=("random", "path", "both"), default="both", help="default both, where the run has snapshots"
    )
    parser.add_argument("--grid", type=int, default=21, metavar="N", help="N x N points per plane; default 21")
    parser.add_argument(
        "--reach", type=float, default=1.0, metavar="X",
        help="random: in units of the weights' size; path: how much of its extent more on every side; default 1",
    )  # fmt: skip
    parser.add_argument("--pictures", type=int, default=256, metavar="N", help="validation pictures at most; default 256")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random directions; default 0")
    parser.add_argument("--format", choices=("svg", "png", "gif"), default="svg", help="default svg")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the pictures go; default RUN")
    return parser


def _no_path(run: Run) -> RunError:
    from descend.train.folder import train_anew

    return RunError(f"run {run.folder}", "must hold three snapshots or more of its training path",
                    fix=f"Train it again with {train_anew(run.folder)} --snapshots 10.")  # fmt: skip


def _evaluated(states: States, plane: Plane, title: str, path: Path, options: argparse.Namespace) -> str:
    from descend.drawing import save

    started = time.perf_counter()
    states.loss(states.center())
    n_points = options.grid**2
    expected = (time.perf_counter() - started) * n_points
    cost = f"{n_points} points on {states.n_pictures} validation pictures, about {duration(expected, estimated=True)}"
    tell(f"{path.stem}: {cost}", file=sys.stderr)
    sliced = landscape.slice_loss(states.loss, plane, n=options.grid, reach=options.reach)
    save(landscape.draw_slice(sliced, title=title), path)
    wall = time.perf_counter() - started
    low, high = sliced.losses.min(), sliced.losses.max()
    points = f"loss {low:.3g} to {high:.3g} on {options.grid} x {options.grid} points, {states.n_pictures} validation pictures"
    return f"{path}: {points}, {duration(wall)}"

"""``descend surface``: walk optimizers over a test surface, print what they did, draw it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING, Any

from descend import landscape, stats
from descend.cli.catalogue import check_texts
from descend.cli.destinations import destination
from descend.cli.output import Parser, tell
from descend.optim import Rule
from descend.printable import columns
from descend.technique import build, spec

if TYPE_CHECKING:
    from descend.landscape import Course, Outcome

EPILOG = """examples:
  descend surface ravine --optimizers "sgd(lr=0.1)" momentum adam --noise 0.1 --out fig.svg
  descend surface "ravine(condition=1000, angle=30)" --steps 500 --out race.gif
  descend surface saddle                                who leaves the ridge?
  descend surface saddle --noise 0.01 --seeds 300       and with noise in the gradients?
  descend surface --page playground.html                a page to play with, in any browser
  descend list surface                                  every surface with its knobs

An optimizer without lr is tuned first, at the same cost for each. Where something is random, its walks for tuning and those
reported are different. The picture shows one of the walks that the table counts.
"""


def main(argv: list[str]) -> int:
    """Race, print, draw."""
    options = _parser().parse_args(argv)
    schedules = [] if options.schedule is None else [options.schedule]
    check_texts({"surface": [options.surface], "optimizer": options.optimizers, "schedule": schedules})
    from descend.drawing import check_path, save
    from descend.schedule import Schedule

    course = landscape.Course(
        surface=build(options.surface, landscape.Surface),
        n_steps=options.steps,
        noise=options.noise,
        spread=options.spread,
        start=None if options.start is None else tuple(options.start),
        target=options.target,
        schedule=None if options.schedule is None else build(options.schedule, Schedule),
    )
    if options.out is not None:
        check_path(options.out, who="--out")  # before the work, not after it
    if options.page is not None:
        _check_page(course, options)
    n_seeds = options.seeds if options.seeds is not None else 100 if course.random else 1
    outcomes = landscape.race(
        course, options.optimizers, n_seeds=n_seeds, watch=lambda rule: tell(f"walking {rule}", file=sys.stderr)
    )
    if options.out is not None:
        save(landscape.draw_race(course, outcomes), options.out)
    tell(*([json.dumps(describe(course, outcomes))] if options.json else _table(course, outcomes)))
    if options.out is not None:
        which = f" (the walk of seed 0, one of the {n_seeds} counted)" if n_seeds > 1 else ""
        tell(f"picture: {options.out}{which}", file=sys.stderr if options.json else sys.stdout)
    if options.page is not None:
        landscape.write_page(course, [outcome.rule for outcome in outcomes], options.page, n_seeds=n_seeds)
        tell(f"page: {options.page} (open it in a browser; it needs no network)", file=sys.stderr if options.json else sys.stdout)
    return 0


def _check_page(course: Course, options: argparse.Namespace) -> None:
    """Raise before the work what the page would say after it."""
    from descend.drawing import check_path
    from descend.landscape.playground import SUFFIX, check

    check_path(options.page, SUFFIX, who="--page")
    check(course, [build(rule, Rule) for rule in options.optimizers], n_seeds=options.seeds or 1)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend surface", description="Walk optimizers over a test surface.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "surface", metavar="SURFACE", nargs="?", default="saddle",
        help="for example ravine, saddle (default) or plateau; spec text sets its knobs",
    )  # fmt: skip
    parser.add_argument(
        "--optimizers", nargs="+", metavar="SPEC", default=["sgd", "momentum", "adam"], help="default: sgd momentum adam"
    )
    parser.add_argument("--noise", type=float, default=0.0, metavar="X", help="standard deviation added to gradients; default 0")
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="steps of every walk; default 200")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="walks that are counted; default 100, or 1 where nothing is random"
    )
    parser.add_argument("--spread", type=float, default=0.0, metavar="X", help="scatter of their starts; default 0")
    parser.add_argument("--start", type=float, nargs="+", metavar="X", help="one number per dimension; default the surface's")
    parser.add_argument("--target", type=float, metavar="LOSS", help="the loss that counts as arrived; default the surface's")
    parser.add_argument("--schedule", metavar="SPEC", help="decay of every optimizer's rate, for example cosine")
    parser.add_argument("--out", type=destination, metavar="FILE", help="draw seed 0: .svg, .png, or .gif (animated)")
    parser.add_argument("--page", type=destination, metavar="FILE", help="write a page (.html) on which to play with this race")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def _steps(steps: tuple[float, ...]) -> list[float | None]:
    if len(steps) == 1:  # one walk without randomness is a fact, not a sample
        return [_finite(steps[0])] * 3
    middle = stats.median(steps)
    return [_finite(number) for number in (middle.mean, max(middle.low, 0.0), middle.high)]


def _share(k: int, n: int) -> dict[str, float | None]:
    if n == 1:
        return {"k": k, "n": n, "share": float(k), "low": None, "high": None}
    share = stats.proportion(k, n)
    return {"k": k, "n": n, "share": share.mean, "low": share.low, "high": share.high}


def _tuning_walks(course: Course) -> int:
    from descend.landscape.racing import TUNING_SEEDS

    return len(TUNING_SEEDS) if course.random else 1


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def describe(course: Course, outcomes: list[Outcome]) -> dict[str, Any]:
    """Return a race as plain data: counts with Wilson's 95% intervals, medians with theirs; None where it is never."""
    from descend.landscape.racing import RATES

    return {
        "surface": spec(course.surface, defaults=True),
        "steps": course.n_steps,
        "noise": course.noise,
        "spread": course.spread,
        "start": list(course.start or course.surface.start()),
        "target": course.goal,
        "schedule": str(course.schedule) if course.schedule else None,
        "trap": course.surface.trap() or None,
        "tuning": {"rates": list(RATES), "walks_per_rate": _tuning_walks(course)},
        "optimizers": [_outcome(outcome) for outcome in outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    ordered = sorted(value if math.isfinite(value) else math.inf for value in outcome.final)
    return {
        "optimizer": outcome.label,
        "tuned": outcome.tuned,
        "at_edge": outcome.at_edge,
        "steps_to_target": _steps(outcome.steps),
        "arrived": _share(outcome.n_reached, outcome.n),
        "escaped": None if outcome.n_escaped is None else _share(outcome.n_escaped, outcome.n),
        "diverged": outcome.n_diverged,
        "final_loss": _finite(ordered[(outcome.n - 1) // 2]),
    }


def _table(course: Course, outcomes: list[Outcome]) -> list[str]:
    from descend.landscape.racing import RATES

    facts, trap = describe(course, outcomes), course.surface.trap()
    walks = f"{outcomes[0].n} seeds, start spread {course.spread:g}" if course.random else "one walk each, nothing is random"
    lines = [f"{facts['surface']}: {course.n_steps} steps, gradient noise {course.noise:g}, {walks}"]
    if any(outcome.tuned for outcome in outcomes):
        n = _tuning_walks(course)
        budget = f"{len(RATES)} rates from {RATES[0]:g} to {RATES[-1]:g}" + (f" on {n} other seeds" if course.random else "")
        lines.append(f"* rate tuned: {budget}, {len(RATES) * n} walks per optimizer")
    left = [f"left {trap}"] if trap else []
    head = ["", f"steps to loss {course.goal:g}", "arrived", *left, "diverged", "final loss"]
    rows = [head, *(_row(row) for row in facts["optimizers"])]
    lines += columns(rows)
    if course.random:
        lines.append("steps and final loss are medians; intervals are 95%")
    edges = [row["optimizer"] for row in facts["optimizers"] if row["at_edge"]]
    return [*lines, *(f"{name}: the best rate tried was the last one; give lr to go further" for name in edges)]


def _row(row: dict[str, Any]) -> list[str]:
    middle, low, high = ("never" if number is None else f"{number:.0f}" for number in row["steps_to_target"])
    final = "infinite" if row["final_loss"] is None else f"{row['final_loss']:.3g}"
    left = [_percent(row["escaped"])] if row["escaped"] else []
    steps = middle if low == high else f"{middle} [{low}, {high}]"
    return [
        f"  {row['optimizer']}{' *' if row['tuned'] else ''}",
        steps,
        _percent(row["arrived"]),
        *left,
        str(row["diverged"]),
        final,
    ]


def _percent(share: dict[str, Any]) -> str:
    if share["n"] == 1:
        return "yes" if share["k"] else "no"
    return f"{share['share']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"

"""``descend lr-find``: sweep the learning rate of a run that is about to be made, draw the losses, suggest a rate."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend import landscape
from descend.cli.destinations import check_figure, destination
from descend.cli.fit import add_settings, check_settings, settings_of
from descend.cli.output import Parser, tell
from descend.cli.progress import Terminal
from descend.train.recipe import SEARCH_ONLY, from_settings, read, without_flags

if TYPE_CHECKING:
    from descend.schedule import RangeTest

WITHOUT_EFFECT = ("schedule", "epochs", "metric", "on_nan", "snapshots", "checkpoint_every", "folds", *SEARCH_ONLY)  # on a sweep
EPILOG = """examples:
  descend lr-find digits
  descend lr-find photos/ --transfer finetune --optimizer "sgd(lr=0.1)" --high 10 --out rates.png

Every setting of `descend fit` that bears on a training step is a flag here too. The optimizer's own lr has no part in it: it is
what is looked for. No run is made, and nothing is written but the picture.

The suggestion is the rate at which the smoothed loss falls most steeply, before it first rises clearly. It is a place to begin:
after it, compare a few rates around it on the validation split. Where the loss falls no further than batch noise would, there is
no suggestion, and the exit status is 1.
"""


def main(argv: list[str]) -> int:
    """Sweep, draw, suggest. Returns 1 where no rate can be suggested."""
    options = vars(_parser().parse_args(argv))
    low, high, n_steps = (options.pop(name) for name in ("low", "high", "steps"))  # of the sweep: a recipe's steps are others
    asked = check_settings("lr-find", settings_of(options))
    from descend.drawing import check_path, save
    from descend.landscape.course import at_rate
    from descend.optim import with_default_knobs
    from descend.regularize import merged_knobs
    from descend.schedule import Sweep
    from descend.train.lr_sweep import find_lr

    out, as_json, recipe = options.pop("out"), options.pop("json"), options.pop("recipe")
    sweep = Sweep(low=low, high=high, n_steps=n_steps)
    suffix = check_path(out, who="--out")  # before the work, not after it
    check_figure("--out", out, asked)
    base = None if recipe is None else read(recipe)
    result, setup = find_lr(from_settings(settings_of(options), base), sweep, progress=Terminal())
    rule = setup.plan.optimizer
    save(landscape.draw_range_test(result, title=f"{rule.name} on {setup.dataset.name}, {setup.plan.transfer}"), out)
    facts = describe(result) | {"optimizer": rule.name, "data": setup.dataset.name, "picture": str(out), "format": suffix[1:]}
    if result.suggestion is not None:
        set_elsewhere = merged_knobs(setup.plan.regularize, "optimizer_knobs")  # by a penalty, which the command names too
        facts["use"] = str(with_default_knobs(at_rate(rule, float(f"{result.suggestion:.2g}")), set_elsewhere))
    tell(*([json.dumps(facts)] if as_json else _text(facts, argv)))
    return 1 if result.suggestion is None else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend lr-find", description="Find a learning rate by a range test.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,  # the words go on to `descend fit`
    )  # fmt: skip
    parser.add_argument("--low", type=float, default=1e-6, metavar="X", help="the first rate; default 1e-6")
    parser.add_argument("--high", type=float, default=1.0, metavar="X", help="the last rate; default 1")
    parser.add_argument(
        "--steps", type=int, default=100, metavar="N", help="training steps, each at a rate of its own; default 100"
    )
    parser.add_argument(
        "--out", type=destination, default=Path("lr-find.svg"), metavar="FILE", help=".svg, .png or .gif; default lr-find.svg"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    add_settings(parser, WITHOUT_EFFECT)
    return parser


def describe(result: RangeTest) -> dict[str, Any]:
    """Return a range test as plain data."""
    return {
        "suggestion": result.suggestion,
        "lowest": result.lowest,
        "rise": result.rise,
        "fall": result.fall,
        "p_fall": result.p_fall,
        "rates": [result.low, float(result.rates[-1])],
        "steps": len(result.rates),
        "diverged": result.diverged,
        "loss_at_start": float(result.smooth[0]),
        "loss_lowest": float(result.smooth[: result.n_before_rise].min()),
    }


def _text(facts: dict[str, Any], argv: list[str]) -> list[str]:
    low, last = facts["rates"]
    end = f"ended at {last:.2g}, where the loss had diverged" if facts["diverged"] else "to its end"
    lines = [f"{facts['optimizer']} on {facts['data']}: {facts['steps']} steps from rate {low:.2g}, {end}"]
    lines += _no_suggestion(facts) if facts["suggestion"] is None else _suggestion(facts, argv)
    return [*lines, f"Picture: {facts['picture']}"]


def _no_suggestion(facts: dict[str, Any]) -> list[str]:
    where = f" before it rises at {facts['rise']:.2g}" if facts["rise"] is not None else ""
    return [
        f"No suggestion: the loss has no clear fall{where}. It falls by {facts['fall']:.2%},",
        f"and so far or farther in {facts['p_fall']:.1%} of random orders of the same losses.",
        "Raise --high, lower --low where it rises at once, or take more --steps.",
    ]


def _suggestion(facts: dict[str, Any], argv: list[str]) -> list[str]:
    suggestion, lowest, rise = (facts[name] for name in ("suggestion", "lowest", "rise"))
    lines = [f"Suggestion: {suggestion:.2g}, where the loss falls most steeply; it is lowest at {lowest:.2g}"]
    if rise is not None:
        lines.append(f"From {rise:.2g} on it rises clearly: what lies beyond does not count.")
    elif lowest >= 0.9 * facts["rates"][1] and not facts["diverged"]:
        lines.append("The loss still fell at the highest rate: raise --high to see the end of it.")
    return [*lines, f"Try:     descend fit {_command(argv, facts['use'])}"]


def _command(argv: list[str], rule: str) -> str:
    """Return the words of `descend fit` that train what was swept, at the suggested rate."""
    dropped = {"--low", "--high", "--steps", "--out", "--optimizer"}
    return shlex.join([*without_flags(argv, dropped), "--optimizer", rule])

"""``descend lr-find``: sweep the learning rate of a run that is about to be made, draw the losses, suggest a rate."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from descend.cli.fit import add_settings, settings_of
from descend.cli.progress import Terminal
from descend.landscape import draw_range_test, save
from descend.landscape.course import at_rate
from descend.landscape.drawing import check_path
from descend.schedule import RangeTest, Sweep
from descend.train.range_test import find_rate
from descend.train.recipe import from_settings, read

WITHOUT_EFFECT = ("schedule", "epochs", "metric", "snapshots")  # on a sweep
EPILOG = """examples:
  descend lr-find digits
  descend lr-find photos/ --transfer finetune --optimizer "sgd(lr=0.1)" --high 10 --out rates.png

Every setting of `descend fit` that bears on a training step is a flag here too. The optimizer's own lr has no part in it: it is
what is looked for. No run is made, and nothing is written but the picture.

The suggestion is the rate at which the smoothed loss falls most steeply, before its lowest point. It is a place to begin:
after it, compare a few rates around it on the validation split.
"""


def main(argv: list[str]) -> int:
    """Sweep, draw, suggest."""
    asked = vars(_parser().parse_args(argv))
    out, as_json, recipe = asked.pop("out"), asked.pop("json"), asked.pop("recipe")
    sweep = Sweep(low=asked.pop("low"), high=asked.pop("high"), n_steps=asked.pop("steps"))
    suffix = check_path(out)  # before the work, not after it
    base = None if recipe is None else read(recipe)
    found, session = find_rate(from_settings(settings_of(asked), base), sweep, progress=Terminal())
    rule = session.plan.optimizer
    save(draw_range_test(found, title=f"{rule.name} on {session.dataset.name}, {session.plan.transfer}"), out)
    told = describe(found) | {"optimizer": rule.name, "data": session.dataset.name, "picture": str(out), "format": suffix[1:]}
    if found.suggestion is not None:
        told["use"] = str(at_rate(rule, float(f"{found.suggestion:.2g}")))
    print(json.dumps(told) if as_json else _text(told, argv))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="descend lr-find", description="Find a learning rate by a range test.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--low", type=float, default=1e-6, metavar="X", help="the first rate; default 1e-6")
    parser.add_argument("--high", type=float, default=1.0, metavar="X", help="the last rate; default 1")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="training steps, one a rate; default 100")
    parser.add_argument(
        "--out", type=Path, default=Path("lr-find.svg"), metavar="FILE", help=".svg, .png or .gif; default lr-find.svg"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    add_settings(parser, WITHOUT_EFFECT)
    return parser


def describe(found: RangeTest) -> dict[str, Any]:
    """Return a range test as plain data."""
    return {
        "suggestion": found.suggestion,
        "lowest": found.lowest,
        "rates": [found.low, float(found.rates[-1])],
        "steps": len(found.rates),
        "diverged": found.diverged,
        "loss_at_start": float(found.smooth[0]),
        "loss_lowest": float(found.smooth.min()),
    }


def _text(told: dict[str, Any], argv: list[str]) -> str:
    low, last = told["rates"]
    end = f"ended at {last:.2g}, where the loss had diverged" if told["diverged"] else "to its end"
    lines = [f"{told['optimizer']} on {told['data']}: {told['steps']} steps from rate {low:.2g}, {end}"]
    if told["suggestion"] is None:
        lines.append("No suggestion: the loss never fell. Raise --high, or take more --steps.")
    else:
        lines.append(
            f"Suggestion: {told['suggestion']:.2g}, where the loss falls most steeply; it is lowest at {told['lowest']:.2g}"
        )
        if told["lowest"] >= 0.9 * last and not told["diverged"]:
            lines.append("The loss still fell at the highest rate: raise --high to see the end of it.")
        lines.append(f"Try:     descend fit {_command(argv, told['use'])}")
    return "\n".join([*lines, f"Picture: {told['picture']}"])


def _command(argv: list[str], rule: str) -> str:
    """Return the words of `descend fit` that train what was swept, at the suggested rate."""
    own = {"--low", "--high", "--steps", "--out", "--optimizer"}
    words, skip = list[str](), False
    for word in argv:
        name = word.split("=", 1)[0]
        if not skip and name not in own and word != "--json":
            words.append(word)
        skip = not skip and name in own and "=" not in word
    return shlex.join([*words, "--optimizer", rule])

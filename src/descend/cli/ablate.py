"""``descend ablate``: every technique of a recipe left out, and added to none, on the same seeds and pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.api import ablate, recipe_of
from descend.cli.compare import add_running
from descend.cli.fit import add_settings, check_settings, settings_of
from descend.cli.output import Parser, tell
from descend.cli.progress import Terminal
from descend.errors import KnobError
from descend.plain_data import finite

if TYPE_CHECKING:
    from descend.comparison import Ablation

EPILOG = """examples:
  descend ablate digits --seeds 5
  descend ablate runs/photos photos/                    what the search of that run chose, step by step
  descend ablate tuned.toml photos/ --add "mixup(alpha=0.2)" dropout
  descend ablate digits --augment pad_crop random_erasing --regularize "dropout(p=0.2)" --epochs 10 --budget 10m

RECIPE is a file or a finished run; without one it is what `descend fit` would choose for the data, where that is a search, what
a search of five minutes chooses, which is made first and kept. Every setting of `descend fit` is a flag here too.

  base           the recipe
  drop:X         without X, against base: what X buys beside all others
  bare           without any of them, against base
  bare add:X     X alone, against bare: what X buys by itself
  add:SPEC       with one more, against base (--add)

Verdicts hold for further seeds and further pictures, at 95% for all together (Holm). Runs are shared with `descend compare`;
the same command with the same --out goes on after Ctrl-C.
"""


def main(argv: list[str]) -> int:
    """Ablate, write, tell. Returns 130 where Ctrl-C ended it."""
    options = vars(_parser().parse_args(argv))
    own = {name: options.pop(name) for name in ("seeds", "budget", "jobs", "on", "out", "add")}
    as_json, settle = options.pop("json"), options.pop("settle") / 100
    settings = with_recipe("ablate", settings_of(options))
    check_settings("ablate", settings)
    found = ablate(**own, settle=settle, progress=Terminal(), **settings)
    tell(*([json.dumps(summary(found))] if as_json else [*found.lines(), *found.places()]))
    return 130 if found.interrupted else 0


def with_recipe(verb: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which RECIPE, where it stands before DATA, is the recipe; a run's folder stands for its recipe.

    Raises KnobError where two recipes are given.
    """
    second = settings.pop("second", None)
    first = settings.get("data")
    if second is not None:
        if "recipe" in settings:
            raise KnobError(verb, "takes one recipe", got=[str(settings["recipe"]), first], fix="Leave one out.")
        settings |= {"recipe": Path(str(first)), "data": second}
    elif first is not None and first.endswith(".toml"):
        settings["recipe"] = Path(settings.pop("data"))
    if "recipe" in settings:
        settings["recipe"] = Path(recipe_of(settings["recipe"]))
    return settings


def summary(found: Ablation) -> dict[str, Any]:
    """Return the ablation in one object: its folder and every rung."""
    rungs = [{"kind": "rung"} | rung.facts() for rung in found.rungs()]
    return finite({"ablation": str(found.folder)} | found.facts() | {"rungs": rungs})


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend ablate", description="Leave every technique of a recipe out, and add every one alone.", epilog=EPILOG,
        usage="descend ablate [RECIPE] DATA [options]", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_settings(parser, without=("split_seed", "budget"))
    parser.add_argument("second", nargs="?", metavar="DATA", help="the data, where a recipe or a run stands before it")
    parser.add_argument("--add", nargs="+", default=[], metavar="SPEC", help="techniques that the recipe lacks, to be tried too")
    add_running(parser, seeds=5)
    parser.add_argument("--settle", type=float, default=0.5, metavar="POINTS", help="the difference worth finding; default 0.5")
    return parser

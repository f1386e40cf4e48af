"""``descend compare``: candidates on the same seeds, pictures and split, and what can be said of their difference."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.api import compare
from descend.cli.catalogue import FAMILIES, check_texts
from descend.cli.fit import add_settings, check_settings, settings_of
from descend.cli.output import Parser, tell
from descend.cli.progress import Terminal
from descend.comparison.candidate_text import is_change, named, require_two, settings_in
from descend.errors import KnobError
from descend.plain_data import finite

if TYPE_CHECKING:
    from descend.comparison import Comparison

EPILOG = """examples:
  descend compare photos/ base "add:mixup(alpha=0.2)" --transfer finetune
  descend compare photos/ transfer=features transfer=finetune auto.toml --seeds 3
  descend compare digits base drop:pad_crop optimizer=adam --until-decided --seeds 20
  descend compare digits "optimizer=sgd(lr=0.1)" "optimizer=adam(lr=0.002)" --epochs 5 --jobs 2
  descend compare digits optimizer=sgd optimizer=adam --epochs 5 --tune 12

The first candidate is the one that the others are measured against. A candidate is `base`, a recipe file, or changes of the base
separated by spaces: setting=value, add:technique, drop:technique; the items of a list are joined by `+`. Every setting of
`descend fit` is a flag here too, and holds for all. All runs share one split; test is looked at once per run. Runs lie beside the
comparison, named by their settings: what was made before is not made again, so the same command with the same --out goes on.

Verdicts hold for further seeds and further pictures, at 95% for all candidates together (Holm). --until-decided looks after 3,
5, 8, ... seeds and ends when every verdict is known; what each look may spend is fixed beforehand, so the 95% still hold.

--tune N first gives each candidate the same N trials on validation, to set what it leaves open: the learning rate, and the knobs
of techniques that it alone brings, in the ranges that `descend list` prints. By default candidates get 8 trials each where one of
them names an optimizer without its rate, and are compared as written elsewhere. --no-tuning compares as written in any case.

--budget is the time of all runs together; that of one auto run is a setting of a candidate: "transfer=auto budget=1m".
"""


def main(argv: list[str]) -> int:
    """Compare, write, tell. Returns 130 where Ctrl-C ended it."""
    options = vars(_parser().parse_args(argv))
    own = {name: options.pop(name) for name in ("candidates", "seeds", "budget", "until_decided", "jobs", "on", "tune", "out")}
    as_json, settle = options.pop("json"), options.pop("settle") / 100
    settings = settings_of(options)
    _first_look(own["candidates"], settings)
    found = compare(**own, settle=settle, progress=Terminal(), **settings)
    tell(*([json.dumps(summary(found))] if as_json else [*found.lines(), *_files(found)]))
    return 130 if found.interrupted else 0


def _first_look(candidates: Sequence[str], settings: dict[str, Any]) -> None:
    """Raise what can be said before torch is imported: of DATA, of the settings, of the candidates' words."""
    if is_change(settings.get("data", "")):
        raise KnobError("compare", "DATA stands before the candidates", got=settings["data"], fix="descend compare DATA base ...")
    check_settings("compare", settings)
    require_two(candidates)
    for candidate in candidates:
        with named(candidate):
            check_texts({FAMILIES[name]: texts for name, texts in settings_in(candidate) if name in FAMILIES})


def summary(found: Comparison) -> dict[str, Any]:
    """Return the comparison in one object: its folder and every verdict."""
    verdicts = [{"kind": "verdict"} | verdict.facts() for verdict in found.verdicts()]
    facts = {"comparison": str(found.folder), "seeds": list(found.seeds), "split": found.split, "ended": found.ended}
    return finite(facts | {"verdicts": verdicts})


def _files(found: Comparison) -> list[str]:
    from descend.comparison.result import FILE
    from descend.train.folder import REPORT

    return [f"Results: {found.folder / FILE}", f"Report:  {found.folder / REPORT}"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend compare", description="Compare candidates on the same seeds and pictures.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_settings(parser, without=("split_seed", "budget"))
    what = "base, setting=value, add:SPEC, drop:NAME or recipe.toml"
    parser.add_argument("candidates", nargs="+", metavar="CANDIDATE", help=what)
    add_running(parser, seeds=5)
    parser.add_argument("--until-decided", action="store_true", help="end as soon as every verdict is known; --seeds is the most")
    parser.add_argument("--settle", type=float, default=0.5, metavar="POINTS", help="the difference worth finding; default 0.5")
    trials = parser.add_mutually_exclusive_group()
    trials.add_argument("--tune", type=int, metavar="N", help="trials of each candidate before it is compared")
    trials.add_argument("--no-tuning", dest="tune", action="store_const", const=0, help="compare candidates as they are written")
    return parser


def add_running(parser: argparse.ArgumentParser, *, seeds: int) -> None:
    """Add the flags of everything that makes many runs. seeds: how many by default."""
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"runs of each candidate; default {seeds}")
    parser.add_argument("--budget", metavar="TIME", help="wall time of all runs together, for example 30m")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at the same time; default 1")
    parser.add_argument("--on", choices=("ray",), help="where runs are made: a Ray cluster; default this machine")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default comparisons/NAME-DATE-TIME")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line of standard output")

"""``descend sensitivity``: accuracy against learning rate, rule by rule, and how many decades each forgives."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from descend.api import sensitivity
from descend.cli.compare import add_running
from descend.cli.fit import add_settings, check_settings, settings_of
from descend.cli.output import Parser, tell
from descend.cli.progress import Terminal
from descend.errors import KnobError
from descend.plain_data import finite

if TYPE_CHECKING:
    from descend.comparison import Sensitivity

EPILOG = """examples:
  descend sensitivity digits --optimizers sgd momentum adam --epochs 3
  descend sensitivity photos/ --optimizers "momentum(momentum=0.95)" adamw --transfer features --seeds 5
  descend sensitivity digits --optimizers adam lion --rates 9 --low 1e-4 --high 1 --jobs 2

Every rule is trained at every rate of a logarithmic grid: by default two per decade of the range worth searching that its knob lr
names. Its width is the number of decades around its best rate that cost no more than a point (--within); rules are compared with
the first one, seed by seed. Curves and widths are of validation; test is told at the rate that validation chose. A run that
diverges is a result, and drawn. Every setting of `descend fit` but the optimizer is a flag here too.

Runs are shared with `descend compare`; the same command with the same --out goes on after Ctrl-C.
"""


def main(argv: list[str]) -> int:
    """Sweep, write, tell. Returns 130 where Ctrl-C ended it."""
    options = vars(_parser().parse_args(argv))
    from descend.data.builtin import SETS

    own = {name: options.pop(name) for name in ("optimizers", "seeds", "budget", "jobs", "on", "out", "rates", "low", "high")}
    as_json, within = options.pop("json"), options.pop("within") / 100
    settings = settings_of(options)
    last = own["optimizers"][-1]
    if "data" not in settings and (last in SETS or "/" in last):
        raise KnobError("DATA", "must stand before --optimizers, which takes all that follows", got=last,
                        fix=f"descend sensitivity {last} --optimizers ...")  # fmt: skip
    check_settings("sensitivity", settings)
    found = sensitivity(**own, within=within, progress=Terminal(), **settings)
    tell(*([json.dumps(summary(found))] if as_json else [*found.lines(), *found.places()]))
    return 130 if found.interrupted else 0


def summary(found: Sensitivity) -> dict[str, Any]:
    """Return the sensitivity in one object: its folder and every curve."""
    curves = [{"kind": "curve"} | curve.facts() for curve in found.curves()]
    return finite({"sensitivity": str(found.folder)} | found.facts() | {"curves": curves})


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend sensitivity", description="Measure accuracy against learning rate, rule by rule.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_settings(parser, without=("split_seed", "budget", "optimizer", "steps", "latency", "max_size"))
    parser.add_argument(
        "--optimizers", nargs="+", metavar="SPEC", default=["sgd", "momentum", "adam"], help="default: sgd momentum adam"
    )
    parser.add_argument("--rates", type=int, metavar="N", help="rates of each rule; default two per decade")
    parser.add_argument("--low", type=float, metavar="X", help="the lowest rate; default that of the range worth searching")
    parser.add_argument("--high", type=float, metavar="X", help="the highest rate; default that of the range worth searching")
    parser.add_argument("--within", type=float, default=1.0, metavar="POINTS", help="what a rate may cost; default 1")
    add_running(parser, seeds=3)
    return parser

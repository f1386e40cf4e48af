"""``descend doctor``: is the training that is about to be made sound? Quick checks, each with its figures and the fix."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.cli.destinations import check_figure, destination
from descend.cli.findings import told
from descend.cli.fit import add_settings, check_settings, settings_of
from descend.cli.output import Parser, tell
from descend.cli.progress import Terminal
from descend.errors import DescendError, KnobError, OutputError
from descend.findings import verdict

if TYPE_CHECKING:
    from descend.doctor import Diagnosis

WITHOUT_EFFECT = ("metric", "snapshots", "folds")  # on the first steps of a training
EPILOG = """examples:
  descend doctor digits
  descend doctor photos/ recipe.toml --out sheet.png
  descend doctor photos/ --transfer finetune --optimizer "adamw(lr=0.1)" --json

Every setting of `descend fit` is a flag here too, and means the same. A handful of pictures of every class is looked at, no run
is made, and nothing is written but the contact sheet: pictures with their labels, plain and augmented, as the network gets them.

Exit status: 0 healthy, 1 findings (or a contact sheet that cannot be written, which is told before the work), 2 unusable (the
data or the settings are refused, with the sentence of `descend fit`).
"""


def main(argv: list[str]) -> int:
    """Examine, print. Returns 0 healthy, 1 findings, 2 unusable."""
    options = vars(_parser().parse_args(argv))
    as_json = options.pop("json")
    try:
        diagnosis = _diagnosed(options)
    except OutputError:  # the data may be as they should
        raise
    except (DescendError, OSError) as error:
        if as_json:
            from descend.doctor.examination import SCHEMA

            tell(json.dumps({"schema": SCHEMA, "status": "unusable", "error": str(error)}))
        tell(*f"error: {error}".split("\n"), file=sys.stderr)
        return 2
    tell(*([json.dumps(diagnosis.describe())] if as_json else lines(diagnosis)))
    return 0 if diagnosis.healthy else 1


def _diagnosed(options: dict[str, Any]) -> Diagnosis:
    out, file = options.pop("out"), options.pop("file")
    if file is not None and options["recipe"] is not None:
        raise KnobError("RECIPE", "must be given once", got=str(file), fix="Leave --recipe out.")
    settings = settings_of(options | ({} if file is None else {"recipe": file}))
    check_figure("--out", out, check_settings("doctor", settings))
    from descend.doctor import diagnose

    return diagnose(out=out, progress=Terminal(), **settings)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend doctor", description="Check the training that is about to be made.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_settings(parser, WITHOUT_EFFECT)
    parser.add_argument("file", nargs="?", type=Path, metavar="RECIPE", help="a TOML file of settings, as --recipe")
    parser.add_argument(
        "--out", type=destination, default=Path("doctor.png"), metavar="FILE", help="the contact sheet, .png; default doctor.png"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield the diagnosis as text: every check with its mark, what it saw and the fix; tables where something is not ok."""
    yield from (f"note: {note}" for note in diagnosis.notes)
    yield from told(diagnosis.findings, always="throughput")
    end = verdict(diagnosis.findings, "healthy")
    yield f"{diagnosis.data}: {end}; {diagnosis.n_pictures:,} pictures looked at in {sum(diagnosis.wall_s.values()):.0f} s"
    if diagnosis.sheet is not None:
        yield f"Contact sheet: {diagnosis.sheet}"

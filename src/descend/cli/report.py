"""``descend report``: the page of a comparison, or of a run, written anew from what lies in its folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from descend.cli.output import Parser, tell
from descend.errors import RunError

EPILOG = """examples:
  descend report comparisons/photos-20260101-120000
  descend report runs/photos
  descend report runs/latest

Writes report.html into the folder: one file that loads nothing, for any browser; of a run, also every figure as SVG and PNG in
figures/. `fit` and `compare` write them by themselves; this writes them anew.
"""


def main(argv: list[str]) -> int:
    """Write the page of what lies in a folder."""
    parser = Parser(
        prog="descend report", description="Write the page of a comparison or a run.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of a comparison, or of a run; runs/latest")
    asked = parser.parse_args(argv).folder
    from descend.train import folder

    place = folder.resolve_run(asked)
    if not place.is_dir():
        raise RunError("report", "must be given the folder of a comparison or of a run, that exists", got=str(place))
    from descend.comparison import load
    from descend.comparison.result import FILE
    from descend.report import write, write_comparison

    if (place / FILE).exists():
        page = write_comparison(load(place))
    elif (place / folder.RECORD).exists():
        page = write(place)
    else:
        raise RunError("report", f"must be given a folder with {FILE} (a comparison) or {folder.RECORD} (a run)", got=str(place))
    tell(f"Report: {page}")
    return 0

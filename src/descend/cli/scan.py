"""``descend scan``: what is wrong with a data set, before anything is trained on it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from descend.cli.destinations import check_text_file, destination
from descend.cli.findings import told
from descend.cli.first_look import check_data
from descend.cli.output import Parser, tell
from descend.cli.progress import Terminal
from descend.errors import DescendError, OutputError, check_count
from descend.findings import verdict

if TYPE_CHECKING:
    from descend.audit import Audit

EPILOG = """examples:
  descend scan photos/
  descend scan photos/ --page scan.html
  descend scan table.csv --deep --json

Looked for: files that cannot be read or are passed over, copies and near copies, copies on both sides of a split or in two
classes, classes of few pictures, sizes, shapes, color modes, bit depths, pictures of one color, outliers, and, where a pretrained
network looks too (--deep; up to 1,000 pictures unasked), labels that are likely wrong. Nothing is changed.

Exit status: 0 clean, 1 findings (or a page that cannot be written, which is told before the work), 2 unusable (the data are
refused, with the sentence of `descend fit`).
"""


def main(argv: list[str]) -> int:
    """Scan, print, write the page. Returns 0 clean, 1 findings, 2 unusable."""
    asked = _parser().parse_args(argv)
    deep = True if asked.deep else False if asked.quick else None
    try:
        if asked.threads is not None:
            check_count("--threads", asked.threads)
        if asked.page is not None:
            check_text_file("--page", asked.page, reads=[read for read in (asked.data, asked.corrections) if read])
        check_data(asked.data)
        from descend.audit import scan

        audit = scan(
            asked.data, deep=deep, threads=asked.threads, seed=asked.seed, outside=asked.outside, corrections=asked.corrections,
            progress=Terminal(),
        )  # fmt: skip
    except OutputError:  # the data may be as they should
        raise
    except (DescendError, OSError) as error:
        if asked.json:
            from descend.audit import SCHEMA

            tell(json.dumps({"schema": SCHEMA, "status": "unusable", "error": str(error)}))
        tell(*f"error: {error}".split("\n"), file=sys.stderr)
        return 2
    tell(*([json.dumps(audit.describe())] if asked.json else lines(audit)))
    if asked.page is not None:  # last: what was found must not be lost with a page that the disk does not take
        from descend.report import write_scan

        write_scan(asked.page, audit)
    if not asked.json and (asked.page is not None or not audit.clean):
        tell("To see the pictures: --page scan.html" if asked.page is None else f"Page: {asked.page}")
    return 0 if audit.clean else 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend scan", description="Look for what is wrong with a data set.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("data", metavar="DATA", help="a folder, a table, or the name of a built-in set (digits)")
    parser.add_argument("--page", type=destination, metavar="FILE", help="write a page with the pictures; it loads nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--deep", action="store_true", help="let a pretrained network look at every picture, however many")
    depth.add_argument("--quick", action="store_true", help="let none look")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the split that descend fit would make; default 0")
    parser.add_argument("--outside", action="store_true", help="a table may name pictures that do not lie below its folder")
    parser.add_argument("--corrections", type=Path, metavar="TABLE", help="apply these first: path,label,action")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: all cores")
    return parser


def lines(audit: Audit) -> Iterator[str]:
    """Yield the audit as text: every check with its mark, what it saw, and the fix; pictures where something is wrong."""
    yield from told(audit.findings)
    if not audit.deep:
        yield "No network has looked at the pictures: --deep looks for wrong labels too."
    yield f"{audit.data}: {verdict(audit.findings, 'clean')}; {audit.n_pictures:,} pictures in {sum(audit.wall_s.values()):.0f} s"

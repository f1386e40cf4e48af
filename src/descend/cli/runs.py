"""``descend runs``: the runs of a folder as a table, some of them side by side, and the deletion of others."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from descend.cli.output import Parser, tell
from descend.errors import KnobError
from descend.percentages import percent
from descend.quantities import size_in_words

if TYPE_CHECKING:
    from descend.train.run_list import ListedRun

EPILOG = """examples:
  descend runs                                  the runs in runs/, the newest first
  descend runs comparisons
  descend runs --compare photos-1 photos-2      what differs in settings, and what came out
  descend runs --delete photos-1 photos-2       asks first; --yes does not

A RUN is the name of one in FOLDER, a path, or `latest`.
"""


def main(argv: list[str]) -> int:
    """List, compare or delete."""
    args = _parser().parse_args(argv)
    if args.yes and not args.delete:
        raise KnobError("--yes", "has no effect without --delete", got=True, fix="Leave it out.")
    if args.json and args.delete:
        raise KnobError("--json", "has no effect with --delete", got=True, fix="Leave it out.")
    if args.delete:
        return _delete(args.delete, args.folder, sure=args.yes)
    from descend.cli import run_tables
    from descend.train.run_list import ListedRun, listed, named

    if args.compare:
        if len(args.compare) < 2:
            raise KnobError("--compare", "needs two runs or more", got=args.compare, fix="Such as: --compare photos-1 photos-2")
        runs = [ListedRun.of(named(name, args.folder)) for name in args.compare]
        if args.json:
            tell(json.dumps(run_tables.facts_side_by_side(runs)))
        else:
            tell(*run_tables.side_by_side(runs))
        return 0
    runs = listed(args.folder)
    if args.json:
        tell(json.dumps([run.facts() for run in runs]))
    elif runs:
        tell(*run_tables.table(runs))
    else:
        tell(f"no run in {args.folder}", "Train one: descend fit DATA")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend runs", description="List, compare and delete the runs of a folder.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--compare", nargs="+", metavar="RUN", help="two runs or more: what differs, and what came out")
    what.add_argument("--delete", nargs="+", metavar="RUN", help="delete these run folders with all that they hold")
    parser.add_argument("--yes", action="store_true", help="with --delete: without asking")
    parser.add_argument("--json", action="store_true", help="one line of JSON on standard output")
    return parser


def _delete(names: Sequence[str], parent: Path, *, sure: bool) -> int:
    """Delete runs, all or none: what must not be deleted is refused before the first one goes."""
    from descend.train.run_list import ListedRun, check_deletable, delete_run, named

    paths = [named(name, parent) for name in names]
    check_deletable(paths)
    runs = [ListedRun.of(path) for path in {path.resolve(): path for path in paths}.values()]  # each once
    tell(*(_about(run) for run in runs))
    if not sure and not _agreed(len(runs)):
        tell("Nothing was deleted.")
        return 1
    for run in runs:
        delete_run(run.path)
    tell(f"deleted {len(runs)} run{'s' * (len(runs) != 1)}, freed {size_in_words(sum(run.n_bytes for run in runs))}")
    return 0


def _about(run: ListedRun) -> str:
    score = run.record and (run.record.test or run.record.val)
    reached = f", {percent(score['accuracy'], score['n'])} right" if score else ""
    return f"  {run.path}  ({run.status}{reached}, {size_in_words(run.n_bytes)})"


def _agreed(n: int) -> bool:
    """Ask; where nobody can answer, an error says what to add."""
    if not sys.stdin.isatty():
        raise KnobError("--delete", "must be confirmed, and nobody can be asked here", fix="Add --yes.")
    sys.stdout.write(f"Delete {'it' if n == 1 else f'these {n} runs'} for good? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")

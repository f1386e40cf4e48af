"""``descend app``: a local page to try runs, compare them, train others and correct labels."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from descend.cli.output import Parser, tell
from descend.errors import KnobError, MissingExtra

EPILOG = """examples:
  descend app                          the runs in runs/, the data below this folder
  descend app runs/photos              one run first
  descend app runs --root ~/pictures   other data

The page is served to this machine alone (127.0.0.1), at an address with a fresh random token, and asks nothing of the network.
Ctrl-C ends it; a training under way is stopped and kept.
"""
NEEDED = ("starlette", "uvicorn")


def main(argv: list[str]) -> int:
    """Serve the app until Ctrl-C."""
    parser = Parser(
        prog="descend app", description="Open a local page around runs.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("place", nargs="?", type=Path, metavar="RUN | FOLDER_OF_RUNS", help="default: runs")
    parser.add_argument("--root", type=Path, default=Path(), metavar="FOLDER",
                        help="data may be chosen below it; default: this folder")  # fmt: skip
    parser.add_argument("--port", type=int, metavar="N", help="default: any that is free; where N is taken, the next free one")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    args = parser.parse_args(argv)
    if args.port is not None and not 1 <= args.port <= 65_535:
        raise KnobError("--port", "must be a whole number in [1, 65535]", got=args.port)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra("descend app", f"{' and '.join(missing)} must be installed",
                           fix="Install them with: pip install 'descend[app]'")  # fmt: skip
    from descend.app.places import folder_and_run

    folder_and_run(args.place)  # raises before the server is imported, which takes seconds
    from descend.app.serve import serve
    from descend.cli.run_tables import shown_settings

    return serve(
        args.place, root=args.root.expanduser(), port=args.port, browser=not args.no_browser, shown=shown_settings, tell=tell_now
    )


def tell_now(line: str) -> None:
    """Print a line at once: whoever reads a pipe waits for the address."""
    tell(line)
    sys.stdout.flush()

"""``descend list``: every registered technique, one line each."""

from __future__ import annotations

import json

from descend.cli.catalogue import entries
from descend.cli.output import Parser, tell
from descend.errors import SpecError, nearest

WIDEST = 60  # columns of a signature that summaries are lined up behind


def main(argv: list[str]) -> int:
    """Print the techniques, all or of one family."""
    parser = Parser(prog="descend list", description="List every technique with its knobs.")
    parser.add_argument("family", nargs="?", help="only this family, for example optimizer")
    parser.add_argument("--json", action="store_true", help="one JSON array, with intervals, search ranges and sources")
    options = parser.parse_args(argv)
    techniques = entries()
    families = sorted({entry["family"] for entry in techniques})
    if options.family is not None and options.family not in families:
        raise SpecError(
            "descend list", "the family must be one that exists", got=options.family, fix=nearest(options.family, families)
        )
    chosen = [entry for entry in techniques if options.family in (None, entry["family"])]
    if options.json:
        tell(*json.dumps(chosen, indent=1).splitlines())
        return 0
    width = min(WIDEST, max(len(entry["signature"]) for entry in chosen))
    for family in sorted({entry["family"] for entry in chosen}):
        tell(f"{family}:")
        for entry in chosen:
            if entry["family"] == family:
                tell(f"  {entry['signature']:<{width}}  {entry['summary']}")
    return 0

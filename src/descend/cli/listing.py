"""``descend list``: every registered technique, one line each."""

from __future__ import annotations

import json

from descend.cli.catalogue import entries
from descend.cli.output import Parser, tell
from descend.errors import SpecError, did_you_mean

WIDEST = 60  # columns of a signature that summaries are lined up behind


def main(argv: list[str]) -> int:
    """Print the techniques: all, those of one family, or those of one name."""
    parser = Parser(prog="descend list", description="List every technique with its knobs.")
    parser.add_argument("which", nargs="?", metavar="FAMILY", help="only this family, for example optimizer, or this technique")
    parser.add_argument("--json", action="store_true", help="one JSON array, with intervals, search ranges and sources")
    options = parser.parse_args(argv)
    techniques = entries()
    chosen = [entry for entry in techniques if options.which in (None, entry["family"], entry["name"])]
    if not chosen and options.which is not None:
        known = {entry[key] for entry in techniques for key in ("family", "name")}
        families = ", ".join(sorted({entry["family"] for entry in techniques}))
        raise SpecError("descend list", "must name a family or a technique", got=options.which,
                        fix=did_you_mean(options.which, known) or f"Families: {families}.")  # fmt: skip
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

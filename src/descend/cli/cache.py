"""``descend cache``: what is kept on disk between runs, its limit, and how to delete it."""

from __future__ import annotations

import json
import os

from descend.cli.output import Parser, tell
from descend.errors import KnobError, nearest
from descend.files import CacheFolder
from descend.quantities import size_in_words
from descend.shared_cache import VARIABLE

KINDS = {
    "decoded": "pictures, decoded and resized",
    "index": "digests and sizes of files already read",
    "features": "outputs of frozen backbones",
    "graphs": "exported backbones",
    "kernels": "compiled optimizers, augmentations and masks",
    "verdicts": "which engine was fastest here",
    "unpacked": "archives of pictures, unpacked",
    "fetched": "pictures and tables from addresses",
}


def main(argv: list[str]) -> int:
    """Show or clear the cache."""
    parser = Parser(prog="descend cache", description="Show or clear what is kept on disk between runs.")
    parser.add_argument("--clear", nargs="?", const="all", metavar="KIND", help="delete everything, or one kind")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args(argv)
    cache = CacheFolder()
    if args.clear is not None:
        if args.clear not in ("all", *KINDS):
            raise KnobError(
                "--clear", "must be a kind of entry, or nothing for all", got=args.clear, fix=nearest(args.clear, KINDS)
            )
        freed = cache.clear(None if args.clear == "all" else args.clear)
        tell(f"freed {size_in_words(freed)}")
        return 0
    usage, shared = cache.usage(), os.environ.get(VARIABLE) or None
    total = sum(item.n_bytes for item in usage.values())
    if args.json:
        kinds = {kind: {"n": item.n, "bytes": item.n_bytes} for kind, item in usage.items()}
        facts = {"root": str(cache.root), "shared": shared, "limit_bytes": cache.limit_bytes, "bytes": total, "kinds": kinds}
        tell(json.dumps(facts))
        return 0
    tell(f"{cache.root}   (moved by DESCEND_CACHE)")
    for kind, item in usage.items():
        tell(f"  {kind:<10} {item.n:>5} {size_in_words(item.n_bytes):>10}   {KINDS.get(kind, '')}")
    limit = f"of {size_in_words(cache.limit_bytes)}, least recently used first (DESCEND_CACHE_LIMIT)"
    tell(f"  {'in all':<16} {size_in_words(total):>10}   {limit}")
    if shared is not None:
        tell(f"shared with others: {shared}   ({VARIABLE}; neither limited nor cleared from here)")
    return 0

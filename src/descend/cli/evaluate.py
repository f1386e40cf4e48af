"""``descend eval``: how well a trained run does on labeled pictures; every look at a test split is counted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from descend.api import load
from descend.cli.output import Parser, tell
from descend.cli.predict import add_passes
from descend.printable import printable


def main(argv: list[str]) -> int:
    """Measure and print."""
    parser = Parser(prog="descend eval", description="Measure a trained run on labeled pictures.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder that `descend fit` printed")
    parser.add_argument("data", metavar="DATA", help="a folder, a table or a built-in set; classes are matched by name")
    parser.add_argument("--split", choices=("train", "val", "test"), help="default: test, else val")
    parser.add_argument("--outside", action="store_true", help="a table may name pictures that do not lie below its folder")
    add_passes(parser)
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args(argv)
    from descend.train.metrics import words_for

    score = load(args.run).evaluate(
        args.data, split=args.split, threads=args.threads, tta=args.tta, mc=args.mc, outside=args.outside
    )
    for reason in score["problems"].values():
        tell(f"skipped: {reason}", file=sys.stderr)
    if score["n_trained_on"] and score["split"] == "test":
        tell(f"careful: {score['n_trained_on']} of these pictures were trained or selected on", file=sys.stderr)
    if not score["look_noted"]:
        tell("careful: the run folder takes no writes, so this look at a test split is not counted", file=sys.stderr)
    if args.json:
        tell(json.dumps(score))
        return 0
    low, high = score["accuracy_interval"]
    tell(f"split {score['split']}, {words_for(score)}")
    tell(f"  accuracy           {score['accuracy']:.2%}   (95 % interval {low:.1%} to {high:.1%})")
    tell(f"  balanced accuracy  {score['balanced_accuracy']:.2%}", f"  macro F1           {score['macro_f1']:.2%}")
    for kind, doubt in (score["doubt"] or {}).items():
        shown = ", ".join(f"{name.replace('_', ' ')} {nats:.3f} nats" for name, nats in doubt.items())
        tell(f"  {kind} answers: {shown}")
    names = [printable(row["class"]) for row in score["per_class"]]
    width = max(map(len, names))
    tell(f"  {'class':<{width}}  precision  recall      F1       n")
    for name, row in zip(names, score["per_class"], strict=True):
        tell(f"  {name:<{width}}  {row['precision']:>9.2%} {row['recall']:>7.2%} {row['f1']:>7.2%} {row['n']:>7,}")
    if score["split"] == "test":
        tell(f"  the test split has been looked at {score['test_looks']} times by this run", file=sys.stderr)
    return 0

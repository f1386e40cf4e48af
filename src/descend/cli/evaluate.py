"""``descend eval``: how well a trained run does on labeled pictures; every look at its test split is counted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from descend.cli.first_look import load
from descend.cli.output import Parser, tell
from descend.cli.predict import DOUBTFUL, SHOWN, add_passes, say_by_reason, say_note, say_unreadable
from descend.findings import counted
from descend.percentages import percent
from descend.printable import printable

if TYPE_CHECKING:
    from descend.train.record_types import Evaluation
    from descend.train.run import Run


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
    run = load(args.run)
    from descend.report.words import times
    from descend.train.metrics import only_answered, words_for
    from descend.train.metrics import told as figures

    score = run.evaluate(args.data, split=args.split, threads=args.threads, tta=args.tta, mc=args.mc, outside=args.outside)
    _warn(score, run)
    if args.json:
        tell(json.dumps(score))
        return 0
    (low, high), n = score["accuracy_interval"], score["n"]
    tell(f"{score['judged']}, {words_for(score)}")
    tell(f"  accuracy           {percent(score['accuracy'], n)}   (95% interval {percent(low, n)} to {percent(high, n)})")
    tell(f"  balanced accuracy  {percent(score['balanced_accuracy'], n)}")
    tell(f"  macro F1           {percent(score['macro_f1'], n)}")
    for kind, doubt in (score["doubt"] or {}).items():
        shown = ", ".join(f"{name.replace('_', ' ')} {nats:.3f} nats" for name, nats in doubt.items())
        tell(f"  {kind} answers: {shown}")
    names = [printable(row["class"]) for row in score["per_class"]]
    width = max(map(len, names))
    tell(f"  {'class':<{width}}  precision  recall      F1       n")
    for name, row in zip(names, score["per_class"], strict=True):
        precision, recall, f1 = map(percent, figures(row).values())
        tell(f"  {name:<{width}}  {precision:>9} {recall:>7} {f1:>7} {row['n']:>7,}")
    if absent := only_answered(score["per_class"]):
        shown = ", ".join(absent[:SHOWN]) + ", ..." * (len(absent) > SHOWN)
        tell(f"  no pictures of: {shown}; macro F1 counts {'it' if len(absent) == 1 else 'each'} as 0, because it was answered")
    if score["is_look"]:
        tell(f"  the run's test split has been looked at {times(score['test_looks'])}", file=sys.stderr)
    return 0


def _warn(score: Evaluation, run: Run) -> None:
    """Say what is left out of the data, and what weakens the score."""
    say_unreadable(score["problems"])
    for note in score["notes"]:
        say_note(note)
    say_by_reason(DOUBTFUL, score["doubtful"])
    n, near, is_learned = score["n_trained_on"], score["n_near_trained_on"], score["is_own"] and score["split"] != "test"
    if n is None:
        tell("careful: cannot tell how many of these pictures were trained or selected on: the run folder has no list of its own,"
             " and they are not where they were", file=sys.stderr)  # fmt: skip
    if n and not is_learned:
        tell(f"careful: {n} of these pictures were trained or selected on", file=sys.stderr)
    if n and is_learned and score["split"] == "val" and (why := run.record.reasons.get("refit")):
        tell(f"careful: the model has learned from {n} of these pictures: {why}", file=sys.stderr)
    if near and not is_learned:
        tell(f"careful: {counted(near, 'picture is a near copy', 'pictures are near copies')} (saved again, resized, mirrored,"
             " turned or cropped) of what was trained or selected on", file=sys.stderr)  # fmt: skip
    if not score["look_noted"]:
        tell("careful: the run folder takes no writes, or a process is at work in it: this look at its test split is not stored",
             file=sys.stderr)  # fmt: skip

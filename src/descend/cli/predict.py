"""``descend predict``: a table of answers; a file that cannot be read is named and never stops the others."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from descend.api import load
from descend.cli.output import Parser, tell
from descend.csv_table import write_table
from descend.errors import KnobError, check_count
from descend.files import replacing
from descend.printable import printable

if TYPE_CHECKING:
    from descend.train.answers import Predictions

SHOWN = 10  # names of files passed over, for each reason


def main(argv: list[str]) -> int:
    """Print or write predictions."""
    parser = Parser(prog="descend predict", description="Classify pictures with a trained run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder that `descend fit` printed")
    parser.add_argument("pictures", nargs="+", metavar="FILES-OR-FOLDERS", help="folders are searched to their bottom")
    parser.add_argument("--format", choices=("table", "csv", "json"), help="default: by the ending of --out, else a table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write here instead of standard output")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="classes shown in the table; default 3")
    add_passes(parser)
    parser.add_argument("--threads", type=int, metavar="N")
    args = parser.parse_args(argv)
    if args.out is not None and not args.out.parent.is_dir():
        raise KnobError("--out", "must lie in a folder that exists", got=str(args.out))
    if args.out is not None and args.out.is_dir():
        raise KnobError("--out", "must be a file, not a folder", got=str(args.out))
    check_count("--top", args.top)
    run = load(args.run)
    if not run.is_verified:
        tell("note: this run is of an older version: its files cannot be verified", file=sys.stderr)
    predictions = run.predict(args.pictures, threads=args.threads, tta=args.tta, mc=args.mc)
    form = args.format or {".csv": "csv", ".json": "json"}.get(args.out.suffix if args.out else "", "table")
    if args.out is None:
        _write(predictions, form, args.top, sys.stdout)
    else:
        with _opened(args.out) as file:
            _write(predictions, form, args.top, file)
    for name, reason in predictions.problems.items():
        tell(f"skipped: {reason if printable(name) in reason else f'{name}: {reason}'}", file=sys.stderr)
    _say_passed_over(predictions.passed_over)
    n_skipped = len(predictions.problems) + len(predictions.passed_over)
    if n_skipped:
        tell(f"{n_skipped} of {n_skipped + len(predictions.names)} files were skipped", file=sys.stderr)
    return 0


@contextmanager
def _opened(out: Path) -> Iterator[TextIO]:
    """Open the file that answers go to: it takes its name when it is whole. A pipe or a device is written to as it is."""
    is_stream = out.exists() and (not out.is_file() or out.absolute().parts[1:2] in (("dev",), ("proc",)))  # /dev/stdout > FILE
    place = out if is_stream else Path(os.path.realpath(out))  # a link goes on leading to the file
    with (
        nullcontext(place) if is_stream else replacing(place) as path,
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        yield file


def _say_passed_over(passed_over: dict[str, str]) -> None:
    """Name files that are no pictures, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in passed_over.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        shown = ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
        tell(f"passed over ({reason}): {len(names)}: {shown}", file=sys.stderr)


def add_passes(parser: argparse.ArgumentParser) -> None:
    """Add the flags that ask a network more than once about a picture."""
    parser.add_argument("--tta", metavar="SPEC", help='average over test-time views: flip, five_crop, ten_crop or "views(k=8)"')
    parser.add_argument("--mc", type=int, metavar="N", help="average over N random passes with dropout on")


def _write(predictions: Predictions, form: str, top: int, file: TextIO) -> None:
    {"table": _table, "csv": _csv, "json": _json}[form](predictions, top, file)


def _table(predictions: Predictions, top: int, file: TextIO) -> None:
    names = [printable(name) for name in predictions.names]
    width = max(map(len, names))
    for name, row, doubt in zip(names, predictions.probabilities, _doubts(predictions), strict=True):
        best = sorted(zip(row, predictions.classes, strict=True), key=lambda pair: -pair[0])[: max(1, top)]
        shown = [f"{label} {p:.1%}" for p, label in best] + [f"{what.replace('_', ' ')} {x:.3f}" for what, x in doubt.items()]
        tell(f"{name:<{width}}  " + "  ".join(shown), file=file)


def _csv(predictions: Predictions, top: int, file: TextIO) -> None:
    del top
    doubts = _doubts(predictions)
    header = ["path", "predicted", "confidence", *doubts[0], *(f"p_{name}" for name in predictions.classes)]
    answers = zip(predictions.names, predictions.labels, predictions.probabilities.tolist(), doubts, strict=True)
    rows = ([name, str(label), max(row), *doubt.values(), *row] for name, label, row, doubt in answers)
    if file.isatty():  # elsewhere, names go into a table as they are
        header, rows = [*map(printable, header)], ([printable(c) if isinstance(c, str) else c for c in row] for row in rows)
    write_table(file, header, rows)


def _json(predictions: Predictions, top: int, file: TextIO) -> None:
    del top
    rows = [
        {
            "path": name,
            "predicted": label.item(),
            **doubt,
            "probabilities": dict(zip(predictions.classes, map(float, row), strict=True)),
        }
        for name, label, row, doubt in zip(
            predictions.names, predictions.labels, predictions.probabilities, _doubts(predictions), strict=True
        )
    ]
    tell(json.dumps({"predictions": rows, "skipped": predictions.problems | predictions.passed_over}), file=file)


def _doubts(predictions: Predictions) -> list[dict[str, float]]:
    """Return, for each answer, its entropy and mutual information in nats; nothing after a single pass."""
    if predictions.entropy is None or predictions.mutual_information is None:
        return [{} for _ in predictions.names]
    pairs = zip(predictions.entropy, predictions.mutual_information, strict=True)
    return [{"entropy": float(entropy), "mutual_information": float(shared)} for entropy, shared in pairs]

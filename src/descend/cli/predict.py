"""``descend predict``: a table of answers; a file that cannot be read is named and never stops the others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from descend.cli import answers, parquet_answers
from descend.cli.destinations import check_text_file, destination
from descend.cli.first_look import load
from descend.cli.output import STANDARD_OUTPUT, Parser, is_closed, tell
from descend.cli.progress import Terminal
from descend.errors import DataError, KnobError, OutputError, check_count
from descend.outputs import taken, taken_by, writing
from descend.printable import printable
from descend.progress import Silent

if TYPE_CHECKING:
    from descend.train.answers import Predictions
    from descend.train.run import Run

SHOWN = 10  # names of files passed over, for each reason
DOUBTFUL = "careful: answers may mean nothing"
LISTS = (".txt", ".lst", ".json", ".jsonl", ".xlsx", ".xls", ".ods")  # what may name pictures and is no table
NOT_WRITTEN = (".xlsx", ".xls", ".ods", ".tsv", ".jsonl", ".ndjson", ".html", ".xml", ".pq", ".feather", ".arrow", ".pkl")
EPILOG = """examples:
  descend predict runs/latest new.jpg                   the newest run in runs/
  descend predict runs/photos inbox/ --out answers.csv  written as it goes, finished in one step
  descend predict runs/photos inbox/ --unsure-below 0.8
  descend predict runs/photos test.csv --submission id,label --out submission.csv
"""


def main(argv: list[str]) -> int:
    """Print or write predictions. Returns 1 where a row of a submission has no answer, else 0."""
    args = _parser().parse_args(argv)
    _check(args)
    run = load(args.run)
    if not run.is_verified:
        tell("note: this run is of an older version: its files cannot be verified", file=sys.stderr)
    _refuse_class_of_doubt(run, args)
    pictures, rows = _pictures(args)
    seen = _Seen(run.stream(pictures, threads=args.threads, tta=args.tta, mc=args.mc, quick=True, progress=_progress(args)))
    style = answers.Style(top=args.top, unsure_below=args.unsure_below)
    n_missing = 0
    if _form(args) == "parquet" and rows is None:
        with writing(args.out) as path:
            parquet_answers.write(seen, style, path)
    else:
        with _opened(args.out) as file:
            if rows is None:
                answers.WRITERS[_form(args)](seen, style, file)
            else:
                n_missing = answers.write_submission(seen, rows, file)
    _say_skipped(seen)
    say_by_reason(DOUBTFUL, seen.doubtful)
    if args.unsure_below is not None:
        _say_sure(run, seen, args.unsure_below)
    if rows is None or not n_missing:
        return 0
    tell(f"error: {n_missing} of {len(rows.ids)} rows of the submission have no answer: their cells are empty", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend predict", description="Classify pictures with a trained run.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder that `descend fit` printed, or runs/latest")
    parser.add_argument("pictures", nargs="+", metavar="PICTURES",
                        help="files; folders, searched recursively; or one table with a column path")  # fmt: skip
    parser.add_argument("--format", choices=tuple(answers.WRITERS), help="default: by the ending of --out, else a table")
    parser.add_argument("--out", type=destination, metavar="FILE", help="write here instead of standard output")
    parser.add_argument("--top", type=int, metavar="K",
                        help="only the K likeliest classes; default: 3 in a table, else all, or 5 of more than 100")  # fmt: skip
    parser.add_argument("--unsure-below", type=float, metavar="P",
                        help="answer `not sure` where the likeliest class has a probability below P, such as 0.8")  # fmt: skip
    parser.add_argument("--submission", metavar="ID,LABEL",
                        help="two columns for a competition: a table's column, or names of files, and the answer")  # fmt: skip
    add_passes(parser)
    parser.add_argument("--threads", type=int, metavar="N")
    return parser


def add_passes(parser: argparse.ArgumentParser) -> None:
    """Add the flags that ask a network more than once about a picture."""
    parser.add_argument("--tta", metavar="SPEC", help='average over test-time views: flip, five_crop, ten_crop or "views(k=8)"')
    parser.add_argument("--mc", type=int, metavar="N", help="average over N random passes with dropout on")


def _check(args: argparse.Namespace) -> None:
    """Raise KnobError for settings that cannot be meant, OutputError for a place that takes no answers."""
    if args.out is None and is_closed(sys.stdout):
        raise OutputError(STANDARD_OUTPUT, "must be open: the answers go there", fix="Name a file: --out answers.csv.")
    if args.out is not None and not _is_stream(args.out):
        check_text_file("--out", args.out, reads=args.pictures, run=args.run)
        if args.format is None and args.out.suffix.lower() in NOT_WRITTEN:  # a table of words under such a name opens nowhere
            raise KnobError("--out", "must end in .csv, .json or .parquet, or in no other format's ending, for a table of words",
                            got=str(args.out), fix=f"Such as {args.out.stem}.csv, which spreadsheets open.")  # fmt: skip
    if args.top is not None:
        check_count("--top", args.top)
    if args.unsure_below is not None and not 0 < args.unsure_below <= 1:
        raise KnobError("--unsure-below", "must be a probability in (0, 1]", got=args.unsure_below)
    if args.submission is None:
        if _form(args) == "parquet":
            parquet_answers.check(answers.Style(top=args.top))
    else:
        _check_submission(args)


def _check_submission(args: argparse.Namespace) -> None:
    """Raise KnobError for settings that cannot be meant of a submission."""
    if args.submission.count(",") != 1 or not all(name.strip() for name in args.submission.split(",")):
        raise KnobError("--submission", "must be two names of columns", got=args.submission, fix="Such as: --submission id,label")
    if _form(args) == "parquet":
        raise KnobError("--out", "must be a text file where a submission is written", got=str(args.out), fix="Write .csv.")
    others = {"--format": args.format, "--top": args.top, "--unsure-below": args.unsure_below}
    for flag, value in others.items():
        if value is not None:
            raise KnobError(flag, "has no effect on a submission: it has one answer per row", got=value, fix="Leave it out.")


def _refuse_class_of_doubt(run: Run, args: argparse.Namespace) -> None:
    """Raise KnobError where an unsure answer could not be told from a class; in JSON, ``sure`` stands beside each answer."""
    if args.unsure_below is not None and _form(args) != "json" and answers.NOT_SURE in run.classes:
        raise KnobError("--unsure-below", f"answers {answers.NOT_SURE!r}, which is a class of this run", got=args.unsure_below,
                        fix="Add --format json, which tells beside each answer whether it is sure.")  # fmt: skip


def _form(args: argparse.Namespace) -> str:
    return args.format or {".csv": "csv", ".json": "json", parquet_answers.SUFFIX: "parquet"}.get(
        args.out.suffix.lower() if args.out else "", "table"
    )


def _pictures(args: argparse.Namespace) -> tuple[Any, answers.SubmissionRows | None]:
    """Return what is asked about, and the rows of a submission where one is wanted."""
    from descend.data.new_pictures import is_table, read_new_pictures
    from descend.data.parquet_rows import has_pictures

    tables = [name for name in args.pictures if is_table(Path(name))]
    names = [name.strip() for name in args.submission.split(",")] if args.submission else None
    if not tables:
        _refuse_lists(args.pictures)
        if names is None:
            return args.pictures, None
        packed = next((name for name in args.pictures if has_pictures(Path(name))), None)
        if packed is not None:
            raise KnobError("--submission", "needs a table that names files, or the files", got=packed,
                            fix="Write its answers with --out: each name tells the number of its row, from 0.")  # fmt: skip
        return args.pictures, _rows_of_files(args.pictures, names)
    if len(args.pictures) > 1:
        raise KnobError("PICTURES", "a table of pictures stands alone", got=args.pictures)
    found = read_new_pictures(Path(tables[0]), names[0] if names else None)
    for note in found.notes:
        say_note(note.describe())
    return found.paths, None if names is None else answers.SubmissionRows(names, found.ids, found.paths)


def _rows_of_files(pictures: list[str], columns: list[str]) -> answers.SubmissionRows:
    """Return the rows of a submission about files and folders, called by the names of files without their endings.

    HEIC pictures that cannot be read here have rows, too, at the end. Raises DataError for two pictures of one name.
    """
    from descend.data.heic import ADVICE
    from descend.train.picture_sources import picture_sources

    found = picture_sources(pictures)
    paths = [*found.names, *(name for name, why in found.passed_over.items() if why == ADVICE)]
    ids, seen = [Path(path).stem for path in paths], dict[str, str]()
    for name, path in zip(ids, paths, strict=True):
        if seen.setdefault(name, path) != path:
            raise DataError("--submission", "a file's name without its ending must identify it", got=f"{seen[name]} and {path}",
                            fix="Give a table with a column path and one that identifies its rows.")  # fmt: skip
    return answers.SubmissionRows(columns, ids, paths)


def _refuse_lists(names: list[str]) -> None:
    """Raise DataError for a file that may list pictures and is no table."""
    from descend.data.opening import is_picture_file
    from descend.data.table_files import SUFFIXES

    found = next((name for name in names if Path(name).suffix.lower() in LISTS and not is_picture_file(Path(name))), None)
    if found is not None:
        raise DataError(found, f"a list of pictures must be a table ({', '.join(SUFFIXES)})",
                        fix="Save it as .csv, with the line path above the names.")  # fmt: skip


def _progress(args: argparse.Namespace) -> Terminal | Silent:
    """Return who shows progress: nobody where the answers themselves appear on the terminal as they come."""
    return Silent() if args.out is None and sys.stdout.isatty() else Terminal()


class _Seen(Iterable["Predictions"]):
    """The parts of a stream, and what was skipped and counted while they went by.

    The first part is computed here: where nothing can be answered, an error says so before anything is written.
    """

    def __init__(self, stream: Iterator[Predictions]) -> None:
        self._stream = chain(list(islice(stream, 1)), stream)
        self.problems, self.passed_over, self.doubtful = dict[str, str](), dict[str, str](), dict[str, str]()
        self.confidences: list[float] = []

    def __iter__(self) -> Iterator[Predictions]:
        for part in self._stream:
            self.problems |= part.problems
            self.passed_over |= part.passed_over
            self.doubtful |= part.doubtful
            self.confidences += part.probabilities.max(1, initial=0.0).tolist()
            yield part


def _is_stream(out: Path) -> bool:
    """Return whether a file is a pipe or a device, which takes what is written and has no content of its own."""
    if not out.exists() or out.is_dir():
        return False
    return not out.is_file() or out.absolute().parts[1:2] in (("dev",), ("proc",))  # /dev/stdout > FILE


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """Open the file that answers go to: it takes its name when it is whole. A pipe or a device is written to as it is.

    out: None for standard output.
    """
    if out is None:
        with taken_by(STANDARD_OUTPUT):
            yield sys.stdout
        return
    with (
        taken(out) if _is_stream(out) else writing(out) as path,
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        yield file


def _say_skipped(seen: _Seen) -> None:
    """Name what was not answered: files that cannot be read, then those that are no pictures, a line for each reason.

    Folders that are not entered have lines of their own: how many files they hold, nobody knows.
    """
    say_unreadable(seen.problems)
    folders = {name: why for name, why in seen.passed_over.items() if name.endswith("/")}
    files = {name: why for name, why in seen.passed_over.items() if name not in folders}
    say_by_reason("passed over", files)
    say_by_reason("folders not entered", folders)
    n_skipped = len(seen.problems) + len(files)
    if n_skipped:
        tell(f"{n_skipped} of {n_skipped + len(seen.confidences)} files were skipped", file=sys.stderr)


def say_by_reason(what: str, reasons: Mapping[str, str]) -> None:
    """Say what happened to pictures, a line for each reason with the first of them. reasons: name -> why."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        shown = ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
        tell(f"{what} ({reason}): {len(names)}: {shown}", file=sys.stderr)


def say_note(note: Mapping[str, Any]) -> None:
    """Say what there is to know of the data. note: as ``data.Problem.describe`` gives it."""
    from descend.data.problems import told

    tell(f"note: {told(note['message'], note['examples'], note['n'], most=SHOWN)}", file=sys.stderr)


def say_unreadable(problems: Mapping[str, str]) -> None:
    """Name the pictures that cannot be read, a line for each. problems: name -> why."""
    for name, reason in problems.items():
        is_named = reason.startswith((f"{name}: ", f"{printable(name)}: "))  # by an error of its own
        tell(f"skipped: {reason if is_named else f'{name}: {reason}'}", file=sys.stderr)


def _say_sure(run: Run, seen: _Seen, least: float) -> None:
    """Say how many answers are sure, and what validation says of such answers."""
    n_sure = sum(p >= least for p in seen.confidences)
    tell(f"sure of {n_sure:,} of {len(seen.confidences):,} answers (a probability of {least:g} or more)", file=sys.stderr)
    tell(run.record.sure_answers(least), file=sys.stderr)

"""``descend augment``: look at what augmentations draw, play with them, and measure which answers of a trained run they flip."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend import augment, data
from descend.cli.catalogue import check_texts
from descend.cli.destinations import check_text_file, destination
from descend.cli.first_look import check_data, load
from descend.cli.output import Parser, tell
from descend.cli.progress import Terminal
from descend.errors import KnobError, check_count

if TYPE_CHECKING:
    from descend.augment import Augmentation
    from descend.augment.label_safety import Safety, Trial
    from descend.data import Dataset
    from descend.train.run import Run

EPILOG = """examples:
  descend augment photos/ --augment medium --out gallery.html
  descend augment photos/ --augment "rotate(degrees=30)" "random_erasing(p=0.5)" --n 4 --draws 12
  descend augment digits --augment "flip()" "rotate(degrees=45)" --safety runs/digits
  descend augment --page playground.html                augmentation, dropout and decay, to play with in any browser
  descend augment cat.jpg --page playground.html        the same, beginning with a picture of your own
  descend list augmentation                             every transform with its knobs
"""
PAGE_ONLY = {"n": 6, "draws": 8, "size": None, "seed": 0}  # settings of the pictures, with their defaults
SAFETY_ONLY = {"per_class": 100, "tolerance": 0.05}


def main(argv: list[str]) -> int:
    """Write the gallery, measure safety, or both."""
    asked = _parser().parse_args(argv)
    _refuse_dead_settings(asked)
    if asked.page is not None:
        return _write_page(asked)
    out = asked.out or (None if asked.safety is not None else Path("gallery.html"))
    if out is not None:
        check_text_file("--out", out, reads=[asked.data], run=asked.safety)
    check_data(asked.data)
    check_texts({"augmentation": asked.augment or []})
    run = None if asked.safety is None else load(asked.safety)
    from descend.report import gallery
    from descend.train.label_safety import measure

    dataset = _as_read(data.load(asked.data, seed=asked.seed or 0, outside=asked.outside, threads=asked.threads), run)
    transforms = _transforms(asked, dataset, None if run is None else run.record.specs("augment"))
    found: list[Safety] = []
    if run is not None:
        terminal = Terminal()
        found = measure(
            run, asked.data, transforms, **_given(asked, SAFETY_ONLY), seed=asked.seed or 0, outside=asked.outside,
            threads=asked.threads, progress=terminal.update,
        )  # fmt: skip
    if out is not None:
        counts = _given(asked, PAGE_ONLY)
        shown = gallery.pictures(
            dataset, transforms, n=counts["n"], n_draws=counts["draws"], size=counts["size"], seed=counts["seed"]
        )
        gallery.write(out, dataset.name, transforms, shown, found)
    if asked.json:
        tell(json.dumps({"augment": [str(item) for item in transforms], "safety": [describe(item) for item in found]}))
    elif found:
        tell(*(line for item in found for line in table(item)))
    if out is not None:
        tell(f"gallery: {out}", file=sys.stderr if asked.json else sys.stdout)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="descend augment", description="Look at augmentations, and measure what they do to a trained run's answers.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="a folder, a table, or the name of a built-in set (digits); with --page a picture, too, or nothing",
    )
    parser.add_argument(
        "--augment", nargs="+", action="extend", metavar="SPEC",
        help="transforms or a policy name; default: the run's own with --safety, else a policy by the data",
    )  # fmt: skip
    parser.add_argument("--outside", action="store_true", help="a table may name pictures that do not lie below its folder")
    parser.add_argument("--out", type=destination, metavar="FILE", help="the page; default gallery.html, or none with --safety")
    parser.add_argument(
        "--page", type=destination, metavar="FILE", help="write a page (.html) on which to play with augmentation, dropout, decay"
    )
    parser.add_argument("--n", type=int, metavar="N", help="pictures on the page; default 6")
    parser.add_argument("--draws", type=int, metavar="N", help="draws of each; default 8")
    parser.add_argument("--size", type=int, metavar="N", help="side of the drawn pictures; default their own, 224 at most")
    parser.add_argument("--seed", type=int, metavar="N", help="of every draw; default 0")
    parser.add_argument("--safety", type=Path, metavar="RUN", help="count per class which answers of this run are flipped")
    parser.add_argument("--per-class", type=int, metavar="N", help="pictures of each class for --safety; default 100")
    parser.add_argument("--tolerance", type=float, metavar="X", help="share of flips that is acceptable; default 0.05")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def _given(asked: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    found = {name: getattr(asked, name) for name in defaults}
    return {name: defaults[name] if value is None else value for name, value in found.items()}


def _refuse_dead_settings(asked: argparse.Namespace) -> None:
    def given(names: list[str]) -> list[str]:
        return [name for name in names if getattr(asked, name) is not None]

    if asked.page is None and asked.data is None:
        raise KnobError("augment", "needs DATA", got=None, fix="Name a folder of pictures, or write --page FILE.html.")
    if asked.page is not None and (others := given(["out", "safety", *PAGE_ONLY, *SAFETY_ONLY])):
        raise KnobError(f"--{others[0].replace('_', '-')}", "has no effect on --page", got=str(getattr(asked, others[0])),
                        fix="Run it without --page.")  # fmt: skip
    if asked.safety is None and given(list(SAFETY_ONLY)):
        name = given(list(SAFETY_ONLY))[0]
        raise KnobError(f"--{name.replace('_', '-')}", "has no effect without --safety", got=getattr(asked, name))
    if asked.safety is not None and asked.out is None and given(["n", "draws", "size"]):
        name = given(["n", "draws", "size"])[0]
        raise KnobError(f"--{name}", "has no effect without a page", got=getattr(asked, name), fix="Add --out gallery.html.")
    for name in ("size", "threads"):
        if getattr(asked, name) is not None:
            check_count(f"--{name}", getattr(asked, name))


def _write_page(asked: argparse.Namespace) -> int:
    """Write the page to play with; it begins with the picture or the data named, or with scikit-learn's photographs."""
    from descend.data.formats import is_picture_name
    from descend.report import lesson_page

    transforms = augment.expand(asked.augment) if asked.augment else ()
    lesson_page.check(asked.page, transforms)
    check_text_file("--page", asked.page, reads=[asked.data] if asked.data else [])
    path = Path(asked.data) if asked.data else None
    if path is None:
        pictures = []
    elif path.is_file() and is_picture_name(path.name):
        pictures = [(path.name, data.decode_resized(path, lesson_page.SIDE))]
    else:
        pictures = lesson_page.of_dataset(_as_read(data.load(asked.data, outside=asked.outside, threads=asked.threads), None))
    lesson_page.write_page(asked.page, pictures, transforms)
    if asked.json:
        tell(json.dumps({"page": str(asked.page), "pictures": [name for name, _ in pictures]}))
    tell(f"page: {asked.page} (open it in a browser; it needs no network)", file=sys.stderr if asked.json else sys.stdout)
    return 0


def _as_read(dataset: Dataset, run: Run | None) -> Dataset:
    """Return the data set with its pictures read as in the run's training, or as in that of a run with default settings."""
    from descend.data.shapes import fit_for

    policy = replace(dataset.policy, fit=fit_for(dataset.crop_loss)[0]) if run is None else run.record.pixel_policy()
    return replace(dataset, policy=policy)


def _transforms(asked: argparse.Namespace, dataset: Dataset, own: list[str] | None) -> tuple[Augmentation, ...]:
    """Return what was asked for, else what the run was trained with, else the policy that suits the data, and say which."""
    if asked.augment:
        return augment.expand(asked.augment)
    if own:
        tell(f"augment: {' '.join(own)} (the run's own)", file=sys.stderr)
        return augment.expand(own)
    name, reason = augment.policy_for(len(dataset.indices("train")), side=dataset.shorter_side[1], gray=dataset.is_gray)
    tell(f"augment: {name} ({reason})", file=sys.stderr)
    return augment.expand(name)


def describe(found: Safety) -> dict[str, Any]:
    """Return one transform's safety as plain data, every class with its Wilson interval."""
    return {
        "augment": str(found.transform),
        "limit": None if found.limit is None else str(found.limit),
        "advice": found.advice(),
        "tolerance": found.tolerance,
        "trials": [{"augment": str(trial.transform), "classes": _classes(trial, found.tolerance)} for trial in found.trials],
    }


def _classes(trial: Trial, tolerance: float) -> list[dict[str, Any]]:
    unsafe = trial.unsafe(tolerance)
    return [
        {
            "class": flips.label, "flips": flips.k, "n": flips.n, "share": flips.share().mean, "low": flips.share().low,
            "high": flips.share().high, "to": flips.to, "n_to": flips.n_to, "unsafe": flips in unsafe,
        }
        for flips in trial.classes
    ]  # fmt: skip


def table(found: Safety) -> list[str]:
    """Return one transform's safety as lines: the advice, then every strength with all classes together and the worst."""
    width = max(len(str(trial.transform)) for trial in found.trials)
    return [found.advice(), *(f"  {trial.transform!s:<{width}}  {_line(trial)}" for trial in found.trials), ""]


def _line(trial: Trial) -> str:
    worst = trial.worst
    all_of_it, share = trial.overall, worst.share()
    goes = f", {worst.n_to} of {worst.k} to {worst.to}" if worst.to else ""
    return f"{all_of_it.mean:>6.1%} flip   worst: {worst.label} {share.mean:.0%} [{share.low:.0%}, {share.high:.0%}]{goes}"

"""What to do next with a run: commands that follow from figures in its record, each with the time that it is expected to take.

Nothing is advised in general. Where the record gives no reason, there is no advice.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from descend import quantities, stats
from descend.durations import duration
from descend.percentages import percent
from descend.report import words
from descend.train import metrics
from descend.train.calibration import suggested_threshold
from descend.train.recipe import scan_command, without_flags
from descend.train.record import RunRecord
from descend.train.record_types import EpochRow, Score

BUDGETS = ("1m", "2m", "5m", "10m", "20m", "30m", "1h", "2h", "4h")
N_FOLDS = 5
WIDE, NARROWER = 0.03, 1.4  # an interval of accuracy that is worth narrowing, and times that folds must make it narrower
UNBALANCED = 3.0  # times as many training pictures in the commonest class
SURE = 95  # percent of stated confidence, from which wrong answers make one look at the labels
BY_CHANCE, FEWEST_WRONG = 0.01, 3  # how seldom chance alone may leave so many of them wrong, and how many there must be
LEAST_SIDE = 32  # pixels: a pretrained backbone sees too little in smaller pictures
_DOUBTS = ("conflict", "near conflict", "leak", "near leak")  # kinds of problems of data that scores depend on


@dataclass(frozen=True)
class Advice:
    """One command. why: what speaks for it, with figures. seconds: expected; None for one that answers at once.

    bounded: whether it takes so many seconds at most, as a search with a budget does.
    """

    what: str
    command: str
    why: str
    seconds: float | None = None
    bounded: bool = False

    @property
    def time(self) -> str:
        """The expected time in words; empty where there is none to tell."""
        if self.seconds is None:
            return ""
        return f"{'at most' if self.bounded else 'about'} {duration(self.seconds, estimated=True)}"


def advice(run: Path, record: RunRecord, rows: Sequence[EpochRow] = ()) -> list[Advice]:
    """Return what follows from a run's record, the most worth first; an empty list where nothing does.

    run: its folder, for commands that name it. rows: the epochs, in order.
    """
    if record.status != "finished":
        return _resumed(run, record, rows)
    if record.val is None:
        return []
    found = [_scan(record), _longer_search(record), _more_epochs(record, rows), _search(record), _folds(record)]
    found += [_balance(record), _unsure(run, record)]
    return [item for item in found if item is not None]


def advice_line(item: Advice) -> str:
    """Return an advice as one line for a terminal."""
    time = f" ({item.time})" if item.time else ""
    return f"Next:    {item.command}{time}: {item.why}"


def _resumed(run: Path, record: RunRecord, rows: Sequence[EpochRow]) -> list[Advice]:
    epochs = record.plan.get("epochs")
    if not rows or not isinstance(epochs, int) or len(rows) >= epochs:
        return []
    left = epochs - len(rows)
    walls = [row["wall_s"] for row in rows if isinstance(row.get("wall_s"), (int, float))]
    seconds = left * sum(walls) / len(walls) if walls else None
    why = f"{left} of {epochs} epochs are left"
    return [Advice("Go on where it stopped", f"descend fit --resume {shlex.quote(str(run))}", why, seconds)]


def _scan(record: RunRecord) -> Advice | None:
    """Advise to look at the labels, where pictures stand in two classes or two splits, or sure answers are wrong too often."""
    data = record.plan.get("data")
    if not isinstance(data, str):
        return None
    problems = record.data.get("problems") or []
    told = [str(item["message"]) for item in problems if isinstance(item, Mapping) and item.get("kind") in _DOUBTS]
    doubt = "; ".join(told) or _sure_but_wrong(record)
    if not doubt:
        return None
    command = scan_command(record.plan, deep=_side(record) >= LEAST_SIDE)
    seconds = sum(record.wall_s.get(stage, 0.0) for stage in ("scan", "build", "decode", "features"))
    return Advice("Look at the labels", words.with_imports(command, record), doubt, seconds)


def _sure_but_wrong(record: RunRecord) -> str:
    """Return what makes labels doubtful: of the surest answers, fewer are right than their confidence says; "" where not so."""
    curve = record.calibration["val"]["coverage"] if "val" in record.calibration else []
    if len(curve) <= SURE:
        return ""
    n, right = curve[SURE]
    if not n:
        return ""
    distinct = metrics.independent_of(n, record.val)
    of_those = round(right / n * distinct)
    if distinct - of_those < FEWEST_WRONG or stats.lower_tail(of_those, distinct, SURE / 100) > BY_CHANCE:
        return ""
    return (
        f"{n - right} of the {n:,} answers on {record.validated_by} with {SURE}% confidence or more are wrong, where "
        f"{100 - SURE}% at most would be expected: their labels may be"
    )


def _longer_search(record: RunRecord) -> Advice | None:
    step = record.next_step
    if not record.search or step is None or not record.search_ended:
        return None
    budget, seconds = _budget(record.budget_used_s + 1.25 * step["seconds"])
    why = (
        f"the run took {duration(record.budget_used_s)}, and its search had a step left: {step['why']}, about "
        f"{duration(step['seconds'], estimated=True)} more"
    )
    return _trained(record, "Search longer", why, seconds, "--budget", budget)


def _more_epochs(record: RunRecord, rows: Sequence[EpochRow]) -> Advice | None:
    """Advise to train longer, where the last epoch was the best and the loss on validation was still falling."""
    if record.search or len(rows) < 2 or words.chosen_epoch(record, rows) != rows[-1]["epoch"]:
        return None
    losses = [row.get("val_loss") for row in rows]
    known = [loss for loss in losses if isinstance(loss, (int, float)) and math.isfinite(loss)]
    if len(known) < len(rows) or known[-1] > min(known):
        return None
    epochs = 2 * int(rows[-1]["epoch"])
    was = f"{known[-1]:.3g}, before {known[-2]:.3g}"
    why = f"the last of {len(rows)} epochs was the best, and its loss on validation the lowest ({was})"
    seconds = sum(record.wall_s.values()) + record.wall_s.get("train", 0.0)
    return _trained(record, "Train longer", why, seconds, "--epochs", str(epochs))


def _search(record: RunRecord) -> Advice | None:
    """Advise a search, where one fixed way to use a pretrained backbone leaves answers wrong, or none was used on photographs."""
    way = record.plan.get("transfer")
    side = _side(record)
    reasons = {"features": "a backbone that stays as it is", "head": "a backbone that stays as it is",
               "scratch": "a network that began from random weights"}  # fmt: skip
    if way not in reasons or side < LEAST_SIDE or record.data.get("gray") or record.cross_validation is not None:
        return None
    n_wrong = _n_wrong(record)
    if n_wrong < 1 or record.val is None:
        return None
    taken = sum(record.wall_s.get(stage, 0.0) for stage in ("scan", "build", "decode", "features"))
    budget, seconds = _budget(max(120.0, 10 * taken))
    why = (
        f"{reasons[str(way)]} leaves {n_wrong} of {record.val['n']:,} pictures wrong on validation; a search also tries larger "
        "pictures, mirror images and training the late stages, and keeps what helps"
    )
    return _begun(record, "Search for something better", why, seconds, "--transfer", "auto", "--budget", budget)


def _folds(record: RunRecord) -> Advice | None:
    """Advise folds, where few pictures judge a head on frozen features and all of them could."""
    if record.plan.get("transfer") != "features" or record.cross_validation is not None or record.val is None:
        return None
    splits = record.data.get("splits") or {}
    n, every = record.val["n"], splits.get("train", 0) + splits.get("val", 0) + (
        0 if record.data.get("given_split") else splits.get("test", 0)
    )  # fmt: skip
    low, high = record.val["accuracy_interval"]
    foreseen = metrics.interval_of_share(record.val["accuracy"], every, record.val) if every else None
    if foreseen is None or high - low < max(WIDE, NARROWER * (foreseen.high - foreseen.low)):
        return None
    why = (
        f"{n:,} pictures leave the accuracy open within {100 * (high - low):.1f} points; {N_FOLDS} folds judge all {every:,} "
        f"that may be trained on, and leave about {100 * (foreseen.high - foreseen.low):.1f}"
    )
    seconds = sum(record.wall_s.get(stage, 0.0) for stage in ("scan", "build", "decode", "features", "fit", "evaluate"))
    return _begun(record, "Measure it more exactly", why, seconds, "--transfer", "features", "--folds", str(N_FOLDS))


def _balance(record: RunRecord) -> Advice | None:
    """Advise balanced sampling, where the rarest class is found surely less often than the commonest."""
    counts = record.data.get("counts") or {}
    trained = {name: row.get("train", 0) for name, row in counts.items() if isinstance(row, Mapping)}
    already = any("balanced_sampling" in text or "class_weights" in text for text in record.specs("regularize"))
    scores = {row["class"]: row for row in record.per_class.get("val", [])}
    if len(trained) < 2 or already or record.search or record.head_trials or "regularize" not in record.plan:
        return None
    rare, common = min(trained, key=lambda name: trained[name]), max(trained, key=lambda name: trained[name])
    if trained[common] < UNBALANCED * max(1, trained[rare]) or not {rare, common} <= scores.keys():
        return None
    found = {name: _recall(scores[name], record.val) for name in (rare, common)}
    if found[rare].high >= found[common].low:
        return None
    why = (
        f"{rare} has {trained[rare]:,} training pictures and a recall of {percent(scores[rare]['recall'])}, {common} has "
        f"{trained[common]:,} and {percent(scores[common]['recall'])}"
    )
    change = ("--regularize", "balanced_sampling()", "--metric", "balanced_accuracy")
    return _trained(record, "Draw rare classes more often", why, sum(record.wall_s.values()), *change)


def _unsure(run: Path, record: RunRecord) -> Advice | None:
    """Advise the threshold of confidence that the app suggests too."""
    curve = record.calibration["val"]["coverage"] if "val" in record.calibration else []
    least = suggested_threshold(curve)
    if least is None:
        return None
    (n, right), (reached, still) = curve[0], curve[round(least * (len(curve) - 1))]
    share = metrics.interval_of_share(still / reached, reached, record.val)
    why = (
        f"{reached / n:.0%} of the answers on {record.validated_by} are that sure, and {still / reached:.1%} of those "
        f"are right (95% interval {share.low:.1%} to {share.high:.1%}), of all {right / n:.1%}"
    )
    command = ["descend", "predict", str(run), "FILES", "--unsure-below", f"{least:.2f}"]
    return Advice("Leave unsure answers to a person", words.with_imports(shlex.join(command), record), why)


def _side(record: RunRecord) -> int:
    """Return the median shorter side of the pictures, pixels; 0 where it is not known."""
    return int((record.data.get("shorter_side") or {}).get("median", 0))


def _n_wrong(record: RunRecord) -> int:
    """Return how many pictures of validation were answered wrongly: of copies, which the accuracy counts once, every one."""
    counts = record.counts("val")
    if counts is not None:
        return int(counts.sum() - counts.trace())
    return 0 if record.val is None else round((1 - record.val["accuracy"]) * record.val["n"])


def _recall(of_class: Mapping[str, object], score: Score | None) -> stats.Interval:
    n, recall = of_class["n"], of_class["recall"]
    assert isinstance(n, int)
    assert isinstance(recall, (int, float))
    return metrics.interval_of_share(recall, n, score) if n else stats.Interval(0.0, 0.0, 1.0, 0)


def _budget(least_s: float) -> tuple[str, float]:
    """Return the first usual budget of so many seconds or more, as a setting and in seconds; above all, whole hours."""
    text = next(
        (budget for budget in BUDGETS if quantities.seconds(budget, who="budget") >= least_s), f"{math.ceil(least_s / 3600)}h"
    )
    return text, quantities.seconds(text, who="budget")


def _trained(record: RunRecord, what: str, why: str, seconds: float, *settings: str) -> Advice | None:
    """Return the advice to train this run again with other settings; None for one that no command has begun."""
    if record.command[:2] != ["descend", "fit"] or "--resume" in record.command:
        return None
    command = [*without_flags(record.command, {"--out", *settings[::2]} - {"--regularize"}), *settings]
    return Advice(what, words.with_imports(shlex.join(command), record), why, seconds, bounded="--budget" in settings)


def _begun(record: RunRecord, what: str, why: str, seconds: float, *settings: str) -> Advice | None:
    """Return the advice to train on the same pictures in another way; None where no path leads to them."""
    data = record.plan.get("data")
    if not isinstance(data, str):
        return None
    kept: list[str] = []
    for name in ("corrections", "seed", "split_seed"):
        if record.plan.get(name):
            kept += [f"--{name.replace('_', '-')}", str(record.plan[name])]
    if record.plan.get("transfer") in ("features", "head"):  # not one that begins from random weights
        for name in ("backbone", "fit", "crop_pct"):
            kept += [f"--{name.replace('_', '-')}", str(record.plan[name])] if _was_asked(record, name) else []
        kept += ["--weights", str(record.plan["weights"])] if record.plan.get("weights") else []
    outside = ["--outside"] if record.plan.get("outside") else []
    command = ["descend", "fit", data, *settings, *kept, *outside]
    return Advice(what, words.with_imports(shlex.join(command), record), why, seconds, bounded="--budget" in settings)


def _was_asked(record: RunRecord, setting: str) -> bool:
    """Return whether a setting was asked for: what was chosen here has a reason."""
    return bool(record.plan.get(setting)) and setting not in record.reasons

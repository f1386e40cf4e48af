"""The run in words: the verdict in one sentence, and numbers as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from descend import durations
from descend.percentages import digits, percent
from descend.train.record import RunRecord
from descend.train.record_types import EpochRow, Score

SPLITS = {"train": "training", "val": "validation", "test": "test"}
METRICS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
_GAP = "\N{NO-BREAK SPACE}"
# What HTML forbids even when escaped: controls, halves of surrogate pairs (file names need not be Unicode), non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def printable(text: str) -> str:
    """Return ``text`` with each character that a page may not hold replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def interval(score: Score) -> str:
    """Return the interval of a score as ``90.9-97.8%`` (with an en dash), or nothing if it has none."""
    ends = score.get("accuracy_interval")
    n = int(score.get("n", 0))
    return f"{digits(ends[0], n)}\N{EN DASH}{percent(ends[1], n)}" if ends else ""


def duration(seconds: float | None) -> str:
    """Return a time that does not break over lines; None, and what is not finite, is a dash."""
    if seconds is None or not math.isfinite(seconds):
        return "\N{EN DASH}"
    return durations.duration(seconds).replace(" ", _GAP)


def plain(value: Any) -> str:
    """Return any value of a record as a reader wants it: lists joined, long lists counted, floats short."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return f"{len(value)} entries" if len(value) > 8 else ", ".join(map(plain, value)) or "none"
    return str(value)


def sentence(text: str) -> str:
    """Return text as a sentence begins: its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def times(n: int) -> str:
    """Return ``once``, ``twice`` or ``3 times``."""
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def chosen_epoch(record: RunRecord, rows: Sequence[EpochRow]) -> int | None:
    """Return the epoch whose weights were kept, from 1: as recorded, else the last that was the best so far; None before any."""
    if record.chosen is not None:
        return record.chosen["epoch"] or None
    return next((int(row["epoch"]) for row in reversed(rows) if row.get("best")), None)


def verdict(record: RunRecord, rows: Sequence[EpochRow]) -> str:
    """Return the result in one sentence: the validation score with its interval, the epoch, and what the test split says."""
    begun = "" if record.status == "finished" else f"{_standing(record, rows)}: "
    if record.val is None:
        return f"{begun}{_so_far(record, rows)}." if begun else "Nothing has been measured."
    if record.cross_validation is not None:
        tested = f"; {_test(record)}" if record.test is not None else ""
        return f"{begun}{_right(record.val, '')}, out of fold in {record.validated_by}{tested}."
    return f"{begun}{_right(record.val, 'validation ')}{_selection(record, rows)}; {_test(record)}."


def trust(record: RunRecord) -> str:
    """Return how far stated confidence lies from the share that is right, in one sentence; "" where that was not measured."""
    for split in ("test", "val"):
        known = record.calibration.get(split)
        if known is not None and "rms_error" in known["after"] and "rms_interval" in known["after"]:
            low, high = (f"{100 * end:.1f}" for end in known["after"]["rms_interval"])
            before = known["before"].get("rms_error", math.nan)
            apart = f"{100 * known['after']['rms_error']:.1f} points apart (95% interval {low}\N{EN DASH}{high}"
            was = f"{100 * before:.1f} before the temperature"
            how = "root mean square over bins of confidence"
            return f"On {SPLITS[split]}, stated confidence and the share that is right are {apart}; {how}; {was})."
    return ""


def _standing(record: RunRecord, rows: Sequence[EpochRow]) -> str:
    word = {"interrupted": "Interrupted", "running": "Not finished"}.get(record.status, record.status.capitalize())
    return f"{word} after epoch {rows[-1]['epoch']}{_of(record)}" if rows else f"{word} before the first epoch was complete"


def _so_far(record: RunRecord, rows: Sequence[EpochRow]) -> str:
    metric = str(record.plan.get("metric", "accuracy"))
    known = [row for row in rows if row.get(f"val_{metric}") is not None]
    if not known:
        return "nothing has been measured yet"
    best = max(known, key=lambda row: row[f"val_{metric}"])
    return (
        f"the best validation {METRICS.get(metric, metric)} so far is {percent(best[f'val_{metric}'])}, at epoch {best['epoch']}"
    )


def _of(record: RunRecord) -> str:
    epochs = record.plan.get("epochs")
    return f" of {epochs}" if isinstance(epochs, int) else ""


def _right(score: Score, kind: str) -> str:
    n, within = int(score.get("n", 0)), interval(score)
    sure = _bracketed(score, f"95% interval {within}" if within else "")
    return f"{percent(score.get('accuracy'), n)} of {n:,} {kind}pictures right{sure}"


def _bracketed(score: Score, within: str) -> str:
    """Return on how many independent pictures a score rests, where that is fewer, and its interval, in brackets."""
    n, independent = int(score.get("n", 0)), int(score.get("n_independent", score.get("n", 0)))
    told = "; ".join(filter(None, (f"{independent:,} independent" if independent < n else "", within)))
    return f" ({told})" if told else ""


def _selection(record: RunRecord, rows: Sequence[EpochRow]) -> str:
    epoch, metric = chosen_epoch(record, rows), str(record.plan.get("metric", "accuracy"))
    if epoch is None:
        kept = record.chosen is not None and rows and not record.search
        return ", kept from before the first epoch" if kept else ""
    value = (record.val or {}).get(metric)
    why = "" if metric == "accuracy" else f" for its {METRICS.get(metric, metric)}" + (f" of {percent(value)}" if value else "")
    return f", chosen at epoch {epoch}{_of(record)}{why}"


def _test(record: RunRecord) -> str:
    if record.test is not None:
        looks = f" was looked at {times(len(record.test_looks))}" if record.test_looks else ""
        n, sure = int(record.test.get("n", 0)), _bracketed(record.test, interval(record.test))
        return f"the test split{looks}: {percent(record.test.get('accuracy'), n)} of {n:,}{sure}"
    if record.data.get("splits", {}).get("test"):
        return "the test split has not been looked at"
    return f"there is no test split, {record.without_test_split()}"


def with_imports(command: str, record: RunRecord) -> str:
    """Return a command with the flags that import the modules which define a run's own techniques."""
    imports = "".join(f" --import {module}" for module in record.modules if module != "__main__")
    return command if imports in command else command + imports

"""What a person looks at of a run in a notebook: a frame of its epochs, its worst mistakes with their pictures, a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from descend.pandas_frames import pandas_for
from descend.percentages import percent
from descend.printable import printable
from descend.train.record import RunRecord
from descend.train.record_types import EpochRow, Mistake, Score

if TYPE_CHECKING:
    from pandas import DataFrame

_CELL = "padding:.15em .8em;text-align:left"
_N_CLASSES = 12  # named on a card


def frame(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Return epochs as a pandas DataFrame with the columns of ``EpochRow``, indexed by the epoch. Raises MissingExtra."""
    pandas = pandas_for("history", instead="the same rows are the lines of RUN/metrics.jsonl")
    return pandas.DataFrame(list(rows), columns=list(EpochRow.__annotations__)).set_index("epoch")


class Mistakes(list[Mistake]):
    """The most confident wrong answers: dicts of path, split, label, predicted, confidence, jpeg; a notebook shows them."""

    def _repr_html_(self) -> str:
        shown = (
            f'<figure style="display:inline-block;margin:.4em;vertical-align:top;width:9em;overflow-wrap:anywhere">'
            f'<img src="data:image/jpeg;base64,{escape(item["jpeg"])}" alt="" style="max-width:100%">'
            f"<figcaption>{_words(item['predicted'])}, {item['confidence']:.0%}<br>is {_words(item['label'])}"
            f"<br><small>{_words(item['path'])}</small></figcaption></figure>"
            for item in self
        )
        return "<div>" + "".join(shown) + "</div>" if self else "<p>No mistake on the pictures that were judged.</p>"


def card(folder: str, record: RunRecord, report: str | None) -> str:
    """Return a run as HTML: what it is, how good it is on each split with its interval, and where its report lies."""
    shown = [*record.classes[:_N_CLASSES], *(["..."] if len(record.classes) > _N_CLASSES else [])]
    rows = [("run", _words(folder)), ("status", _words(record.status + (f": {record.stopped_by}" if record.stopped_by else "")))]
    if record.chosen is not None:
        rows.append(("network", _words(f"{record.chosen['backbone']}, {record.chosen['transfer']}, {record.chosen['size']} px")))
    rows.append(("classes", _words(f"{len(record.classes)}: {', '.join(shown)}")))
    scores = ((record.validated_by, record.val), ("test", record.test))
    rows += [(name, _score(score)) for name, score in scores if score is not None]
    rows += [("report", _words(report))] if report else []
    cells = "".join(f'<tr><th style="{_CELL}">{name}</th><td style="{_CELL}">{value}</td></tr>' for name, value in rows)
    return f"<table>{cells}</table>"


def _score(score: Score) -> str:
    (low, high), n = score["accuracy_interval"], score["n"]
    return (
        f"<b>{percent(score['accuracy'], n)}</b> right of {n:,} pictures "
        f"(95% interval {percent(low, n)} to {percent(high, n)}), macro F1 {percent(score['macro_f1'], n)}"
    )


def _words(text: str) -> str:
    return escape(printable(text))

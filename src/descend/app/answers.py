"""What a run answers to a picture that was dropped, pasted or photographed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from descend.app.saliency import SHOWN, saliency
from descend.errors import KnobError, ModelError, PictureError
from descend.plain_data import finite
from descend.printable import printable, shortened
from descend.train.calibration import suggested_threshold
from descend.train.evaluate import thumbnail
from descend.train.run import Run

TOP = 8  # classes with a bar
_one_at_a_time = threading.Lock()  # networks use every core by themselves


def answer(run: Run, picture: bytes, *, name: str, below: float | None) -> dict[str, Any]:
    """Return the likeliest classes with their calibrated probabilities, whether the answer is sure, and why it may mean nothing.

    below: the answer is ``not sure`` where the likeliest class has less, as with ``descend predict --unsure-below``; None: never.
    Raises PictureError, in the name of the file, and what ``Run.predict`` raises.
    """
    if below is not None and not 0 < below <= 1:
        raise KnobError("the threshold", "must be a probability in (0, 1]", got=below)
    with _named(name), _one_at_a_time:
        seen = run.transform.pixels(picture)
        told = run.predict([picture], threads=1, quick=True)
    p = told.probabilities[0]
    order = (-p).argsort(kind="stable")[:TOP]
    top = [{"label": told.classes[k], "k": int(k), "p": float(p[k])} for k in order]
    return finite({
        "name": shortened(printable(name)), "top": top, "n_classes": len(told.classes), "rest": float(1 - p[order].sum()),
        "sure": below is None or float(p.max()) >= below, "seen": thumbnail(seen, SHOWN),
        "doubtful": "".join(told.doubtful.values()),
    })  # fmt: skip


def looked(run: Run, picture: bytes, *, name: str, label: int) -> dict[str, Any]:
    """Return where the network looked for a class, or why that cannot be said: ``{"why_not": ...}``."""
    if not 0 <= label < len(run.classes):
        raise KnobError("class", f"must be a whole number below {len(run.classes)}", got=label)
    with _named(name), _one_at_a_time:
        try:
            return saliency(run, picture, label).describe()
        except ModelError as error:
            return {"why_not": str(error)}


def about(run: Run) -> dict[str, Any]:
    """Return what the page must know of a run beside its answers: the suggested threshold, and whether there is any to choose."""
    known = run.record.calibration.get("val")
    return {"suggested": suggested_threshold(known["coverage"]) if known else None, "is_calibrated": known is not None}


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Let an error about the picture name it as its owner does."""
    try:
        yield
    except PictureError as error:
        raise PictureError(name, error.must, fix=error.fix) from None

"""Features of a frozen network for benchmarks that fit heads themselves, and the command line of these."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data import Dataset, decode_resized
from descend.stats import proportion
from descend.transfer import Engine, fit_logistic
from harness import interval
from splits import NAMES

_AT_ONCE = 64  # pictures


def asked(doc: str | None, usual: Iterable[str], place: str) -> tuple[list[str], Path]:
    """Return the sets that the command line asks for, the usual ones where it names none, and the folder to work in.

    doc: of the benchmark. place: the name of that folder where none is given.
    """
    usual = [*usual]
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {NAMES}, or a folder; default {', '.join(usual)}")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / place, help="kept between calls")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    return given.sets or usual, given.work


def frozen_features(
    dataset: Dataset, rows: NDArray[np.int64], engine: Engine, side: int, *, crop_pct: float = 1.0
) -> NDArray[np.float32]:
    """Return the features of some pictures in views of a side, (n, D). crop_pct: the share of each side that a view holds."""
    stored = int(side / crop_pct)
    seen = slice((stored - side) // 2, (stored - side) // 2 + side)

    def view(row: int) -> NDArray[np.uint8]:
        return decode_resized(dataset.source(row), stored, policy=dataset.policy)[seen, seen]

    parts = (rows[at : at + _AT_ONCE] for at in range(0, len(rows), _AT_ONCE))
    return np.concatenate([engine(np.stack([view(int(row)) for row in part])) for part in parts])


def head_on(
    x: NDArray[np.float32], y: NDArray[np.int64], x_test: NDArray[np.float32], y_test: NDArray[np.int64], n_classes: int
) -> dict[str, Any]:
    """Fit a head to features (n, D), its strength chosen by folds; return its held-out loss, and loss and accuracy on test."""
    fit = fit_logistic(np.ascontiguousarray(x[:, None]), y, n_classes)
    logits = (x_test @ fit.weight.T + fit.bias).astype(np.float64)
    log_p = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))[np.arange(len(y_test)), y_test]
    right, best = logits.argmax(1) == y_test, fit.best
    assert best is not None  # there are folds
    losses = {"held_out_loss": best.loss, "test_loss": -log_p.mean()}
    found: dict[str, Any] = {name: round(float(value), 4) for name, value in losses.items()}
    return found | {"test_accuracy": interval(proportion(int(right.sum()), len(right)))}

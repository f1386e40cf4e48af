"""Features of a frozen network for benchmarks that fit heads themselves, and the command line of these."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from descend.data import Dataset, decode_resized
from descend.transfer import Engine
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


def frozen_features(dataset: Dataset, rows: NDArray[np.int64], engine: Engine, side: int) -> NDArray[np.float32]:
    """Return the features of some pictures in views of a side, (n, D)."""
    parts = (rows[at : at + _AT_ONCE] for at in range(0, len(rows), _AT_ONCE))
    return np.concatenate(
        [
            engine(np.stack([decode_resized(dataset.source(int(row)), side, policy=dataset.policy) for row in part]))
            for part in parts
        ]
    )

"""The confusion matrix in a form that stays legible: a table, a drawing, or for very many classes a picture; and its pairs.

Shades are shares of the true class, so a rare class is as visible as a common one.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TABLE_UP_TO, DRAWING_UP_TO = 20, 100  # classes
DOTS = 250  # a side of the picture: smaller dots vanish on a screen, so each stands for several classes beyond that
N_PAIRS = 10
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion: told apart with any color vision


@dataclass(frozen=True)
class Cell:
    """One cell that is not empty. ``share`` of the true class's pictures, 0..1; rows and columns count from 0."""

    row: int
    column: int
    count: int
    share: float


@dataclass(frozen=True)
class Pair:
    """Two classes that are taken for each other: ``n`` pictures of ``true`` were answered with ``answered``."""

    true: str
    answered: str
    n: int
    share: float


@dataclass(frozen=True)
class Matrix:
    """One split's confusions. Exactly one of ``table``, ``cells`` and ``png`` is filled, by the number of classes."""

    split: str
    classes: list[str]
    n_wrong: int
    n: int
    pairs: list[Pair]
    table: list[list[Cell]]
    cells: list[Cell]
    png: str

    @property
    def block(self) -> int:
        """The number of neighboring classes that one dot of the picture stands for."""
        return -(-len(self.classes) // DOTS)

    @property
    def pitch(self) -> int:
        """The side of a cell of the drawing, in its own units (about pixels)."""
        return 14 if len(self.classes) <= 40 else 9


def matrix(split: str, counts: Sequence[Sequence[int]] | NDArray[np.int64], classes: Sequence[str]) -> Matrix | None:
    """Prepare counts[true][answered], (K, K), for the page; None if they do not fit the classes or are all zero."""
    table = np.asarray(counts, dtype=np.int64)
    size = len(classes)
    if table.shape != (size, size) or not table.any():
        return None
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    dense = [[_cell(table, shares, row, column) for column in range(size)] for row in range(size)] if size <= TABLE_UP_TO else []
    sparse = [_cell(table, shares, *at) for at in np.argwhere(table)] if TABLE_UP_TO < size <= DRAWING_UP_TO else []
    return Matrix(
        split=split,
        classes=list(classes),
        n_wrong=int(table.sum() - np.trace(table)),
        n=int(table.sum()),
        pairs=_pairs(table, shares, classes),
        table=dense,
        cells=sparse,
        png=_picture(table, -(-size // DOTS)) if size > DRAWING_UP_TO else "",
    )


def _cell(table: NDArray[np.int64], shares: NDArray[np.float64], row: int, column: int) -> Cell:
    return Cell(int(row), int(column), int(table[row, column]), float(shares[row, column]))


def _pairs(table: NDArray[np.int64], shares: NDArray[np.float64], classes: Sequence[str]) -> list[Pair]:
    """Return the commonest confusions, most pictures first, then the larger share of the class."""
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.nonzero(wrong)
    order = np.lexsort((columns, rows, -shares[rows, columns], -wrong[rows, columns]))[:N_PAIRS]
    cells = [(int(rows[at]), int(columns[at])) for at in order]
    return [Pair(classes[true], classes[answer], int(wrong[true, answer]), float(shares[true, answer])) for true, answer in cells]


def _picture(table: NDArray[np.int64], block: int) -> str:
    """Return a base64 PNG, one pixel for ``block`` x ``block`` cells: its opacity is the share, so it suits any background."""
    starts = np.arange(0, len(table), block)
    joined = np.add.reduceat(np.add.reduceat(table, starts, axis=0), starts, axis=1)
    shares = joined / np.maximum(joined.sum(axis=1, keepdims=True), 1)
    pixels = np.zeros((*shares.shape, 4), np.uint8)
    pixels[..., :3] = WRONG
    pixels[np.arange(len(shares)), np.arange(len(shares)), :3] = RIGHT
    pixels[..., 3] = np.where(shares > 0, 70 + 185 * shares, 0).astype(np.uint8)  # one single picture must not vanish
    pixels[pixels[..., 3] == 0] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()

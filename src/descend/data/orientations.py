"""The eight ways to lay a square picture down: as it is, mirrored, turned by quarters, and both (the dihedral group)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TURNS = (
    "as it is", "mirrored", "mirrored top to bottom", "turned by 180 degrees",
    "mirrored at a diagonal", "turned by 90 degrees", "turned by 90 degrees", "mirrored at a diagonal",
)  # fmt: skip
"""What each turn does, in words: those from the fifth on do what the first four do, and then exchange rows and columns."""
COUNTERCLOCKWISE, CLOCKWISE = 5, 6
"""The two turns that undo each other; each of the others undoes itself."""


def turned(pictures: NDArray[Any], turn: int) -> NDArray[Any]:
    """Return square pictures after a turn, one of ``TURNS`` by its number: (B, S, S, ...) -> the same shape, a view.

    >>> import numpy as np
    >>> from descend.data.orientations import COUNTERCLOCKWISE, turned
    >>> turned(np.array([[[1, 2], [3, 4]]]), COUNTERCLOCKWISE)[0].tolist()
    [[2, 4], [1, 3]]
    """
    across, down = {0: (1, 1), 1: (-1, 1), 2: (1, -1), 3: (-1, -1)}[turn % 4]
    mirrored = pictures[:, ::down, ::across]
    return mirrored.swapaxes(1, 2) if turn >= 4 else mirrored


def undone(turns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the turns that undo these: (P,) -> (P,)."""
    return np.array([0, 1, 2, 3, 4, CLOCKWISE, COUNTERCLOCKWISE, 7])[turns]

"""Many strings in two arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Names(Sequence[str]):
    """Many strings in two arrays: 60,000 paths as Python objects would take several times the memory."""

    def __init__(self, names: Iterable[str]) -> None:
        ends, text = array("q", [0]), bytearray()  # grown in place: a list of encoded names would be the peak of a large index
        for name in names:
            text += name.encode("utf-8", "surrogatepass")  # file names need not be valid Unicode
            ends.append(len(text))
        self._ends, self._bytes = np.array(ends, np.int64), bytes(text)

    @classmethod
    def of_arrays(cls, ends: NDArray[np.int64], text: NDArray[np.uint8]) -> Names:
        """Return the strings that ``arrays`` gave."""
        names = cls(())
        names._ends, names._bytes = ends, text.tobytes()
        return names

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Where each string ends, (N + 1,) int64 with 0 before the first, and the bytes of all, (n,) uint8."""
        return self._ends, np.frombuffer(self._bytes, np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = int(index) % len(self)
        return self._bytes[self._ends[row] : self._ends[row + 1]].decode("utf-8", "surrogatepass")

"""Memory of results that nobody holds any more, for the results to come.

The system clears fresh memory page by page: for a batch of 64 pictures of 224 px that takes a third of the time of a crop. A
training loop lets go of a batch before it asks for the next but one, so two pieces that went round are enough.
"""

from __future__ import annotations

import math
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LEAST, MOST = 1 << 20, 1 << 27  # bytes: less is cheap, more is not held for what may never come
_idle: deque[NDArray[np.uint8]] = deque(maxlen=2)  # appended to and popped from by any thread, without a lock
if hasattr(os, "register_at_fork"):  # else no process is forked
    os.register_at_fork(after_in_child=_idle.clear)  # what a parent has written is copied, page by page, as its child writes


Loan: TypeAlias = tuple[NDArray[np.uint8], Callable[[], object]]


class Lender(Protocol):
    """Who has memory for results."""

    def take(self, n: int) -> Loan | None:
        """Return n bytes or more and how to give them back, or None."""
        ...


_lender: ContextVar[Lender | None] = ContextVar("descend_memory_lender", default=None)


@contextmanager
def lent_by(lender: Lender) -> Iterator[None]:
    """Let results within the block lie in memory of the lender, if it has any."""
    token = _lender.set(lender)
    try:
        yield
    finally:
        _lender.reset(token)


def uncleared(shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
    """Return an array of any content, whose memory serves again when the array, and what looks at it, is gone."""
    n = math.prod(shape) * np.dtype(kind).itemsize
    if not _LEAST <= n <= MOST:
        return np.empty(shape, kind)
    lender = _lender.get()
    lent = None if lender is None else lender.take(n)
    memory, give_back = lent or _taken(n)
    array = memory[:n].view(kind).reshape(shape)
    weakref.finalize(array, give_back).atexit = False  # of this array: NumPy's views of it hold the memory, but not it
    return array


def _taken(n: int) -> Loan:
    """Return n bytes or up to twice as many: idle ones, or new ones from NumPy, which asks for huge pages."""
    memory = _idle_of(n)
    if memory is None:
        memory = np.empty(n, np.uint8)
    return memory, partial(_idle.append, memory)


def _idle_of(n: int) -> NDArray[np.uint8] | None:
    for _ in range(len(_idle)):
        try:
            memory = _idle.popleft()
        except IndexError:  # another thread was quicker
            break
        if n <= memory.size <= 2 * n:
            return memory
        _idle.append(memory)
    return None

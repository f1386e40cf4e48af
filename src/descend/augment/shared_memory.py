"""Memory that a loader's workers share with their parent, so that a batch changes hands without a copy.

It is one mapping that a parent makes before it forks: slots for batches, of which only what is written to takes memory. A worker
augments into a slot and sends its number; the parent looks at the slot, and when nobody looks any more, the worker writes there
again. (256 -> 224 px, floats: a shared file for each batch costs 0.47 ms a picture to fill and 0.07 to free, a slot costs 0.28
when a worker first writes to it, and then nothing.) Workers that are not forked find none, and send their batches as torch does.
"""

from __future__ import annotations

import copy
import itertools
import mmap
import multiprocessing
import os
import weakref
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.multiprocessing.reductions import reduce_tensor

from descend.augment.memory import MOST, Loan

_SLOTS, _HEAD = 32, mmap.PAGESIZE
_FREE, _WRITTEN, _SENT, _OPEN = range(4)  # by whom a slot is held: nobody, its worker, the queue, the parent
_PATIENCE = 1.0  # seconds for the lock, which a worker that was killed may hold for ever
_numbers = itertools.count()
_outboxes: weakref.WeakValueDictionary[int, Outbox] = weakref.WeakValueDictionary()


class Outbox:
    """The slots of one data set; a copy has slots of its own."""

    def __init__(self) -> None:
        self.home, self.number = os.getpid(), next(_numbers)
        self._lock: Any = multiprocessing.get_context("spawn").Lock()  # forked processes inherit it
        self._alive: set[int] = set()  # slots that this process has arrays in
        size = _HEAD + _SLOTS * MOST if hasattr(os, "fork") else _HEAD
        flags = {"flags": mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)} if size > _HEAD else {}
        try:
            memory = mmap.mmap(-1, size, **flags)
        except OSError:  # so much may not be promised here
            memory = mmap.mmap(-1, _HEAD)
        self._bytes = np.frombuffer(memory, np.uint8)
        states = self._bytes[:_HEAD].view(np.int64)
        self._owner, self._state = states[:_SLOTS], states[_SLOTS : 2 * _SLOTS]
        self._n = (len(self._bytes) - _HEAD) // MOST
        _outboxes[self.number] = self

    def __reduce__(self) -> tuple[type[Outbox], tuple[()]]:
        return Outbox, ()

    def take(self, n: int) -> Loan | None:
        """Return n bytes of a slot and how to give it back to a forked worker, or None where there is none. n: at most MOST."""
        me = os.getpid()
        if os.getppid() != self.home:
            return None
        slot = next((k for k in range(self._n) if self._is_mine(k, me)), None)
        if slot is None:
            slot = self._claimed(me)
        if slot is None:
            return None
        self._state[slot] = _WRITTEN
        self._alive.add(slot)
        return self._place(slot, n), partial(self._dropped, slot, me)

    def _place(self, slot: int, n: int) -> NDArray[np.uint8]:
        start = _HEAD + slot * MOST
        return self._bytes[start : start + n]

    def _is_mine(self, slot: int, me: int) -> bool:
        return self._owner[slot] == me and self._state[slot] == _FREE and slot not in self._alive

    def _claimed(self, me: int) -> int | None:
        """Make a slot this worker's that belongs to no living one, and that the parent does not look at."""
        if not self._lock.acquire(timeout=_PATIENCE):
            return None
        try:
            for slot in range(self._n):
                if self._state[slot] != _OPEN and not _lives(int(self._owner[slot])):
                    self._owner[slot] = me
                    return slot
            return None
        finally:
            self._lock.release()

    def _dropped(self, slot: int, worker: int) -> None:
        """Note that a worker's array is gone. A child that was forked later has a copy of it, and no say."""
        if os.getpid() == worker:
            self._alive.discard(slot)
            if self._state[slot] == _WRITTEN:
                self._state[slot] = _FREE

    def _closed(self, slot: int) -> None:
        """Note that the parent's array is gone."""
        if os.getpid() == self.home:
            self._state[slot] = _FREE

    def start_of(self, address: int) -> tuple[int, int] | None:
        """Return the slot that an address lies in and the place in it, in bytes; None if it lies elsewhere."""
        slot, place = divmod(address - self._bytes.ctypes.data - _HEAD, MOST)
        return (slot, place) if 0 <= slot < self._n else None

    def send(self, slot: int) -> bool:
        """Pass a slot on to the queue; a slot goes there once."""
        if self._owner[slot] != os.getpid() or self._state[slot] != _WRITTEN:
            return False
        self._state[slot] = _SENT
        return True

    def receive(self, slot: int, worker: int, n: int) -> NDArray[np.uint8]:
        """Return the first n bytes of a slot that a worker sent; the slot is the parent's while the array lives."""
        if self._owner[slot] != worker or self._state[slot] != _SENT:
            raise RuntimeError("a worker has ended, and what it sent is no longer there")
        self._state[slot] = _OPEN
        array = self._place(slot, n)
        weakref.finalize(array, self._closed, slot).atexit = False
        return array


def _lives(process: int) -> bool:
    if process == 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class Sent(torch.Tensor):
    """A batch in a slot, on its way from a worker. What is computed from it, and what arrives, are ordinary tensors."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType] (as torch's Parameter)

    def __deepcopy__(self, memo: Any) -> torch.Tensor:
        return copy.deepcopy(self.as_subclass(torch.Tensor), memo)


def _reduced(batch: Sent) -> Any:
    """Return what goes through the queue, and what it is there: a slot once, else what torch sends."""
    tensor = batch.as_subclass(torch.Tensor)
    found = _slot_of(tensor)
    if found is None or not found[0].send(found[1]):
        return reduce_tensor(tensor)
    outbox, slot, place = found
    return _received, (outbox.number, slot, os.getpid(), place, tensor.dtype, tensor.shape, tensor.stride())


ForkingPickler.register(Sent, _reduced)  # of multiprocessing's queues; other copies are made as of any tensor


def _slot_of(tensor: torch.Tensor) -> tuple[Outbox, int, int] | None:
    for outbox in _outboxes.values():
        start = outbox.start_of(tensor.data_ptr())
        if start is not None:
            return outbox, *start
    return None


def sendable(batch: torch.Tensor) -> torch.Tensor | None:
    """Return a batch without gaps as one that is sent by its slot; None if it does not lie in one."""
    return None if _slot_of(batch) is None else batch.as_subclass(Sent)


def _received(
    outbox: int, slot: int, worker: int, place: int, kind: torch.dtype, shape: tuple[int, ...], stride: tuple[int, ...]
) -> torch.Tensor:
    n = place + torch.Size(shape).numel() * kind.itemsize
    array = _outboxes[outbox].receive(slot, worker, n)
    return torch.from_numpy(array)[place:].view(kind).as_strided(shape, stride)

"""Threads that share the work of compiled code, in one of two ways.

``run_parts`` uses Python's, since compiled code releases the interpreter lock. ``run_team`` borrows those that torch's own
operations run on, where these are OpenMP's: after an operation they spin for a while on the cores that other threads would need,
unless ``OMP_WAIT_POLICY`` says otherwise.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path

import numpy as np

TURNS = 4
"""Shares of the work per thread, so that a thread which is held up does not hold up the others."""
_PROCESS = os.getpid()
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def run_parts(work: Callable[[int], object], n_parts: int) -> None:
    """Call ``work(part)`` for parts 0 to ``n_parts`` - 1, the first on this thread and each other on one of the pool's.

    Returns when all have ended. Raises what the first part raised, or else the first of the others.
    """
    others = [_pool(os.getpid()).submit(work, part) for part in range(1, n_parts)]
    try:
        work(0)
    finally:
        wait(others)  # they write to memory that the caller may let go of
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 (a forked child has none of its parent's threads)
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="descend-kernels")


def run_team(address: int, n: int, n_threads: int, *fields: int) -> None:
    """Let ``n_threads`` threads call the compiled function at ``address``, which cuts range(n) into shares.

    The function is called with the address of a job, int64 numbers: the next share, the number of shares, n, ``fields``. It takes
    the next share, adding one to the first number, until none is left, so others do what a thread that is held up cannot.
    """
    n_shares = min(n_threads * TURNS, n) if n_threads > 1 else 1
    job = np.array([0, n_shares, n, *fields], dtype=np.int64)
    at = address_of(job)
    team_up = _borrowed(os.getpid()) if n_shares > 1 else None
    if team_up is not None:
        team_up(address, at, n_threads, 0)
    else:
        run_parts(lambda _: _entry(address)(at), min(n_threads, n_shares))


def address_of(array: np.ndarray) -> int:
    """Return where the first element of an array lies."""
    return array.__array_interface__["data"][0]


@cache
def _entry(address: int) -> Callable[[int], None]:
    return _ENTRY(address)


@cache
def _borrowed(process: int) -> Callable[[int, int, int, int], None] | None:
    """Return what runs a function on the threads of torch's operations: OpenMP's, by the entry that GCC's code calls.

    None where torch has another kind, and in children: one that was forked lacks its parent's threads and waits for them.
    """
    if process != _PROCESS or multiprocessing.parent_process() is not None or "torch" not in sys.modules:
        return None
    try:
        library = ctypes.CDLL(str(Path(sys.modules["torch"].__file__ or "").parent / "lib" / "libtorch_cpu.so"))
        lend = library.GOMP_parallel  # found in what torch is linked to
    except (OSError, AttributeError):
        return None
    lend.argtypes, lend.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return lend

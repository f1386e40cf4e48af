"""A thread pool with bounded memory: results in order, never more than a few items ahead of the one that consumes them.

Threads, not processes: Pillow and hashing let go of the interpreter lock while they work, threads start at once, and nothing
has to be spawned or pickled.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from descend.errors import check_count

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 1024  # beyond what any machine gains from, and below what a system refuses to start
_AHEAD = 4  # items in flight per thread: enough to ride out one slow file


def n_threads(threads: int | None) -> int:
    """Return the number of threads to use: as asked, or one for each CPU that this process may use.

    Raises KnobError for less than 1 and for more than ``MOST_THREADS``.
    """
    if threads is not None:
        check_count("threads", threads, most=MOST_THREADS)
        return threads
    affinity = getattr(os, "sched_getaffinity", None)  # Linux: containers and taskset give fewer CPUs than there are
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, *, in_flight: int | None = None
) -> Iterator[Result]:
    """Yield ``work(item)`` for each item, in the order of the items, computed by ``threads`` threads.

    in_flight: how many items may be begun before the consumer has taken the first of them; by default four per thread, and with
    one thread the work is done in the consumer's own. An exception of ``work`` is raised at its item's turn; what has not been
    started by then is dropped.
    """
    if threads == 1 and in_flight is None:
        yield from map(work, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="descend-data") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= (in_flight or _AHEAD * threads):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

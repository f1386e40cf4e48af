"""Numerical problems beside each other, or the parts of one, each computed by one thread from its beginning to its end.

A loss of a thousand pictures takes a millisecond. Where threads share it, each product waits for the thread that is late, and
on a machine on which anything else runs one always is: choosing a head for 1,234 pictures of hands took 8 s of wall time on two
idle cores, and 100 s beside four busy processes. Problems that share nothing need not wait for each other, and their last bits do
not depend on how many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import threadpoolctl
import torch

Run = Callable[..., list[Any]]  # (function, *iterables) -> its results in order, like ``map``


@contextmanager
def side_by_side(n: int, *, beside: bool = True) -> Iterator[Run]:
    """Give a ``map`` that runs up to n calls at once, as many as torch has threads, each within one thread.

    beside: where False, calls run one after another in this thread: there is one, or each shares its own work among threads.
    What a call raises is raised by the map; calls that have not begun are left out then.
    """
    if not beside:
        yield lambda function, *items: list(map(function, *items))
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(min(n, before), thread_name_prefix="descend-fits", initializer=torch.set_num_threads, initargs=(1,))
    try:
        with threadpoolctl.threadpool_limits(1, user_api="blas"):  # SciPy's and NumPy's; torch's is each thread's own
            yield lambda function, *items: list(pool.map(function, *items))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # what threads that begin later start from

"""Where the work of a comparison is done: here, one after another, in several processes, or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from descend.comparison.cluster import ClusterWork
from descend.comparison.runs import Job
from descend.comparison.work import Done, Lost, Work

DIED = "its process was killed: most often the system has run out of memory (make batch_size or size smaller, or --jobs)"


@dataclass(frozen=True)
class Workers:
    """What works, and how many threads each run gets; None: as many as it asks for."""

    work: Work
    threads_per_job: int | None = None


@contextmanager
def workers(n_jobs: int, on: str | None = None) -> Iterator[Workers]:
    """Yield what works: here, in as many processes as there are jobs at the same time, or on a cluster (``on``: "ray").

    Raises MissingExtra without Ray, and KnobError where its cluster is out of reach.
    """
    if on is not None:
        cluster = ClusterWork(n_jobs)
        try:
            yield Workers(cluster.work, cluster.threads_per_job)
        finally:
            cluster.close()
    elif n_jobs == 1:
        yield Workers(_here)
    else:
        processes = _Processes(n_jobs)
        try:
            yield Workers(processes.work, max(1, (os.cpu_count() or 1) // n_jobs))
        finally:
            processes.pool.shutdown(cancel_futures=True)


def _here(task: Callable[..., Done], jobs: Sequence[Job], lost: Lost[Done], /, **how: Any) -> Iterator[Done]:  # noqa: ARG001 (this process lives)
    return (task(job, **how) for job in jobs)


class _Processes:
    """Processes of their own. One that dies takes those beside it with it: their jobs are done again, one after another."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs
        self.pool = self._new(n_jobs)

    def work(self, task: Callable[..., Done], jobs: Sequence[Job], lost: Lost[Done], /, **how: Any) -> Iterator[Done]:
        """Do the work; a job whose process dies while it is alone is lost."""
        call = partial(task, **how)
        futures = [self.pool.submit(call, job) for job in jobs]
        for job, future in zip(jobs, futures, strict=True):
            yield self._result(future, call, job, lost)

    def _result(self, future: Future[Done], call: Callable[[Job], Done], job: Job, lost: Lost[Done]) -> Done:
        try:
            return future.result()
        except BrokenProcessPool:
            alone = self._new(1)
        try:
            return alone.submit(call, job).result()
        except BrokenProcessPool:
            return lost(job, DIED)
        finally:
            alone.shutdown()
            self._renew()

    def _renew(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.pool = self._new(self.n_jobs)

    @staticmethod
    def _new(n: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)


def end_with_parent() -> None:
    """Let this process end when the one that began it does, killed or not: by itself it would train on, then wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it is called in worker processes

    def wait() -> None:
        parent.join()
        os._exit(1)  # what was saved before is whole, as after any kill

    threading.Thread(target=wait, name="descend-parent", daemon=True).start()

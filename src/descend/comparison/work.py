"""What the work of a comparison is, wherever it is done: a task, done for every job, in their order, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from descend.comparison.runs import Job

Done = TypeVar("Done")
Lost = Callable[[Job, str], Done]
"""Takes a job whose process has died, and why; returns what stands for what would have come of it."""
Known = Callable[[Job], Done | None]
"""Takes a job; returns what came of it where that lies there already."""


class Work(Protocol):
    """Does ``task(job, **how)`` for every job, and yields what came of each in the order of the jobs."""

    def __call__(self, task: Callable[..., Done], jobs: Sequence[Job], lost: Lost[Done], /, **how: Any) -> Iterator[Done]:
        """Do the work. task: a function of a module, for it is sent to other processes; it tells what fails and never raises."""
        ...


def done_once(
    work: Work, task: Callable[..., Done], known: Known[Done], jobs: Sequence[Job], lost: Lost[Done], /, **how: Any
) -> Iterator[Done]:
    """Do the work that is not done yet, of jobs with one place the first, and yield what came of each in the order of the jobs.

    What lies there is asked for where the comparison is: a node of a cluster with a disk of its own does not see it.
    """
    before = {at: done for at, job in enumerate(jobs) if (done := known(job)) is not None}
    first = {job.place: at for at, job in reversed([*enumerate(jobs)]) if at not in before}
    sent = sorted(first.values())
    made = iter(work(task, [jobs[at] for at in sent], lost, **how))
    for at, job in enumerate(jobs):
        if at in before:
            yield before[at]
        elif first[job.place] == at:
            yield next(made)
        else:  # the first of its place has been yielded
            done = known(job)
            yield from work(task, [job], lost, **how) if done is None else (done,)
    next(made, None)  # so that it can tidy up

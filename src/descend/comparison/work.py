"""What the work of a comparison is, wherever it is done: a task, done for every job, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from descend.comparison.runs import Job

Done = TypeVar("Done")
Lost = Callable[[Job, str], Done]
"""Takes a job whose process has died, and why; returns what stands for what would have come of it."""


class Work(Protocol):
    """Does ``task(job, **how)`` for every job, and yields what came of each in the order of the jobs."""

    def __call__(self, task: Callable[..., Done], jobs: Sequence[Job], lost: Lost[Done], /, **how: Any) -> Iterator[Done]:
        """Do the work. task: a function of a module, for it is sent to other processes; it tells what fails and never raises."""
        ...

"""The runs of a comparison on a Ray cluster: the same jobs that processes here would do, with the same numbers.

Each node needs this version of descend and the data under the same path. Runs land where the comparison lies: on a file system
that the nodes share they are written there, and from a node of its own disk they are sent back when they are made. A job whose
process or node dies is done again elsewhere, where its run goes on from its last checkpoint if the file system is shared. What
lies where the comparison does is not sent to a node at all (``work.done_once``).
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import descend
from descend.comparison.runs import Job
from descend.comparison.work import Done, Lost
from descend.errors import RunError
from descend.train.ray_cluster import N_RETRIES, RayCluster, check_version, why

TOKEN = ".seen-by-the-cluster-"  # begins the name of an empty file by which a node knows the file system of the comparison


class ClusterWork:
    """Work on a cluster. n_jobs: runs at the same time. Raises MissingExtra without Ray, KnobError where there is no cluster."""

    def __init__(self, n_jobs: int) -> None:
        self._cluster, self.n_jobs = RayCluster("compare"), n_jobs
        processors = self._cluster.processors
        self.threads_per_job = max(1, min(sum(processors) // n_jobs, max(processors, default=1)))

    def close(self) -> None:
        """Cancel what is not done yet, and leave the cluster as it was."""
        self._cluster.close()

    def work(self, task: Callable[..., Done], jobs: Sequence[Job], lost: Lost[Done], /, **how: Any) -> Iterator[Done]:
        """Do the work, as ``Work`` says; a job that fails more often than it is tried again is lost."""
        if not jobs:
            return
        shared = self._cluster.ray.put(how)  # arrays go to each node once
        remote = self._cluster.task(run_on_node, self.threads_per_job)
        with _token(jobs) as token:

            def begin(job: Job) -> Any:
                return remote.remote(task, job, shared, str(Path.cwd()), token, descend.__version__)

            yield from self._cluster.in_order(
                jobs, begin, lambda job, reference: self._result(reference, job, lost), at_once=self.n_jobs
            )

    def _result(self, reference: Any, job: Job, lost: Lost[Done]) -> Done:
        ray = self._cluster.ray
        try:
            result, packed = ray.get(reference)
        except ray.exceptions.RayError as error:
            return lost(job, f"on the cluster, {N_RETRIES + 1} times at most: {why(error)}")
        if packed is not None:
            _unpack(packed, job.place)
        return result


def run_on_node(
    task: Callable[..., Done], job: Job, how: dict[str, Any], folder: str, token: str, version: str
) -> tuple[Done, bytes | None]:
    """Do a job on a node; returns what came of it, and the run folder packed up where the comparison cannot see it.

    folder: the current one of the comparison, to which relative paths refer. token: a file that it has made. Raises RunError for
    another version of descend, whose numbers may differ, and for a folder that cannot be made here.
    """
    check_version(version, whose="comparison")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
    except OSError as error:
        raise RunError("node of the cluster", f"must have the folder {folder} ({error.strerror})",
                       fix="Share it, or start the comparison in a folder that every node can make.") from error  # fmt: skip
    is_shared = Path(token).exists()
    if not is_shared:
        shutil.rmtree(job.place, ignore_errors=True)  # of an earlier comparison
    result = task(job, **how)
    return result, None if is_shared or not job.place.is_dir() else _packed(job.place)


@contextmanager
def _token(jobs: Sequence[Job]) -> Iterator[str]:
    """Make an empty file beside the runs while the block runs, and yield its path."""
    root = jobs[0].place.parent
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{TOKEN}{secrets.token_hex(8)}"
    path.touch()
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def _packed(place: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as archive:
        archive.add(place, arcname=".")
    return content.getvalue()


def _unpack(packed: bytes, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(place, filter="data")

"""The runs of a comparison on a Ray cluster: the same jobs that processes here would do, with the same numbers.

Each node needs this version of descend and the data under the same path. Runs land where the comparison lies: on a file system
that the nodes share they are written there, and from a node of its own disk they are sent back when they are made. A job whose
process or node dies is done again elsewhere, where its run goes on from its last checkpoint if the file system is shared.
Ray itself is imported only for ``--on ray``. Source: Moritz et al. 2018, OSDI, https://docs.ray.io.
"""

from __future__ import annotations

import importlib
import io
import os
import secrets
import shutil
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import descend
from descend.comparison.runs import Job
from descend.comparison.work import Done, Lost
from descend.errors import KnobError, MissingExtra, RunError
from descend.printable import shortened

N_RETRIES = 2  # of a job whose process or node has died
TOKEN = ".seen-by-the-cluster-"  # begins the name of an empty file by which a node knows the file system of the comparison


class RayCluster:
    """The cluster at RAY_ADDRESS, or else one that runs on this machine, or else a new one of this machine.

    n_jobs: runs at the same time. Raises MissingExtra without Ray, KnobError where the cluster is out of reach.
    """

    def __init__(self, n_jobs: int) -> None:
        self._ray, self._flying, self.n_jobs = ray_package(), dict[Any, int](), n_jobs
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            try:
                self._ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
                raise KnobError("on", f"must reach a Ray cluster ({shortened(str(error))})", got=os.environ.get("RAY_ADDRESS"),
                                fix="Set RAY_ADDRESS to its address, or unset it to use this machine.") from error  # fmt: skip
        cpus = [int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"]]
        self.threads_per_job = max(1, min(sum(cpus) // n_jobs, max(cpus, default=1)))

    def close(self) -> None:
        """Cancel what is not done yet, and leave the cluster as it was."""
        for reference in self._flying:
            with suppress(Exception):  # it may just have ended, or the cluster is gone
                self._ray.cancel(reference, force=False)
        self._flying.clear()
        if self._is_ours:
            self._ray.shutdown()

    def work(self, task: Callable[..., Done], jobs: Sequence[Job], lost: Lost[Done], /, **how: Any) -> Iterator[Done]:
        """Do the work, as ``Work`` says; a job that fails more often than it is tried again is lost."""
        if not jobs:
            return
        shared = self._ray.put(how)  # arrays go to each node once
        remote = self._ray.remote(max_retries=N_RETRIES, retry_exceptions=False, num_cpus=self.threads_per_job)(there)
        waiting, done = deque(enumerate(jobs)), dict[int, Done]()
        with _token(jobs) as token:
            for number in range(len(jobs)):
                while number not in done:
                    while waiting and len(self._flying) < self.n_jobs:
                        at, job = waiting.popleft()
                        reference = remote.remote(task, job, shared, str(Path.cwd()), token, descend.__version__)
                        self._flying[reference] = at
                    (ready, *_), _ = self._ray.wait([*self._flying], num_returns=1)
                    at = self._flying.pop(ready)
                    done[at] = self._result(ready, jobs[at], lost)
                yield done.pop(number)

    def _result(self, reference: Any, job: Job, lost: Lost[Done]) -> Done:
        try:
            result, packed = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            why = shortened(str(getattr(error, "cause", None) or error).strip().partition("\n")[0])
            return lost(job, f"on the cluster, {N_RETRIES + 1} times at most: {type(error).__name__}: {why}")
        if packed is not None:
            _unpack(packed, job.place)
        return result


def there(
    task: Callable[..., Done], job: Job, how: dict[str, Any], folder: str, token: str, version: str
) -> tuple[Done, bytes | None]:
    """Do a job on a node; returns what came of it, and the run folder packed up where the comparison cannot see it.

    folder: the current one of the comparison, to which relative paths refer. token: a file that it has made. Raises RunError for
    another version of descend, whose numbers may differ, and for a folder that cannot be made here.
    """
    if descend.__version__ != version:
        raise RunError("node of the cluster", f"must have descend {version}, as the comparison has", got=descend.__version__,
                       fix=f"Run pip install descend=={version} there.")  # fmt: skip
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


def ray_package() -> Any:
    """Return the package. Raises MissingExtra."""
    try:
        return importlib.import_module("ray")  # no types: it is an extra
    except ImportError:
        raise MissingExtra("compare", "--on ray needs Ray",
                           fix="Run pip install 'descend[cluster]', or leave --on out.") from None  # fmt: skip

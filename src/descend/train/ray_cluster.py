"""A Ray cluster: reached, asked what it has, and given tasks whose results come in their order.

Ray itself is imported only for ``--on ray``. Source: Moritz et al. 2018, OSDI, https://docs.ray.io.
"""

from __future__ import annotations

import importlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import descend
from descend.errors import KnobError, MissingExtra, RunError, first_line
from descend.printable import shortened

Item = TypeVar("Item")
Result = TypeVar("Result")

N_RETRIES = 2  # of a task whose process or node has died


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Leave SIGTERM to whom it belonged before: Ray takes it, and then a run that the signal reaches loses what it has."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():  # None: set by other than Python
            signal.signal(signal.SIGTERM, before)


class RayCluster:
    """The cluster at RAY_ADDRESS, or else one that runs on this machine, or else a new one of this machine.

    ray: the package. processors: of each node that has some. Raises MissingExtra without Ray, KnobError where the cluster is out
    of reach. who: the verb that errors name.
    """

    def __init__(self, who: str) -> None:
        self.ray, self._flying = ray_package(who), set[Any]()
        self._is_ours = not self.ray.is_initialized()
        if self._is_ours:
            try:
                with _own_sigterm():
                    self.ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
                raise KnobError("on", f"must reach a Ray cluster ({shortened(str(error))})", got=os.environ.get("RAY_ADDRESS"),
                                fix="Set RAY_ADDRESS to its address, or unset it to use this machine.") from error  # fmt: skip
        alive = [int(node["Resources"].get("CPU", 0)) for node in self.ray.nodes() if node["Alive"]]
        self.processors = [n for n in alive if n]

    def close(self) -> None:
        """Cancel what is not done yet, and leave the cluster as it was."""
        self._cancel([*self._flying])
        if self._is_ours:
            self.ray.shutdown()

    def task(self, function: Callable[..., Any], n_threads: int) -> Any:
        """Return what begins ``function`` on a node, which must be one of a module; it is begun again where its process dies."""
        return self.ray.remote(max_retries=N_RETRIES, retry_exceptions=False, num_cpus=n_threads)(function)

    def in_order(
        self, items: Iterable[Item], begin: Callable[[Item], Any], taken: Callable[[Item, Any], Result],
        *, at_once: int, ahead: float = math.inf,
    ) -> Iterator[Result]:  # fmt: skip
        """Yield what becomes of each item, in their order.

        begin: begins the task of an item and returns its reference. taken: makes the result of a task that has ended, from the
        item and the reference. at_once: tasks at the same time. ahead: items begun and not yet yielded, at most.
        """
        waiting, flying, done, number = enumerate(items), dict[Any, tuple[int, Item]](), dict[int, Result](), 0
        following = next(waiting, None)
        try:
            while following is not None or flying or done:
                if number in done:
                    yield done.pop(number)
                    number += 1
                    continue
                while following is not None and len(flying) < at_once and len(flying) + len(done) < ahead:
                    reference = begin(following[1])
                    flying[reference] = following
                    self._flying.add(reference)
                    following = next(waiting, None)
                (ready, *_), _ = self.ray.wait([*flying], num_returns=1)
                self._flying.discard(ready)
                at, item = flying.pop(ready)
                done[at] = taken(item, ready)
        finally:
            self._cancel([*flying])

    def _cancel(self, references: list[Any]) -> None:
        for reference in references:
            self._flying.discard(reference)
            with suppress(Exception):  # it may just have ended, or the cluster is gone
                self.ray.cancel(reference, force=False)


def why(error: BaseException) -> str:
    """Return in one line what an error of Ray says of a task that has failed."""
    return f"{type(error).__name__}: {shortened(first_line(getattr(error, 'cause', None) or error))}"


def check_version(version: str, *, whose: str) -> None:
    """Raise RunError, on a node, unless its descend is of the ``version`` that asks, of the run or the comparison ``whose``."""
    if descend.__version__ != version:
        raise RunError("node of the cluster", f"must have descend {version}, as the {whose} has", got=descend.__version__,
                       fix=f"Run pip install descend=={version} there.")  # fmt: skip


def ray_package(who: str) -> Any:
    """Return the package. Raises MissingExtra."""
    try:
        return importlib.import_module("ray")  # no types: it is an extra
    except ImportError:
        raise MissingExtra(who, "--on ray needs Ray",
                           fix="Run pip install 'descend[cluster]', or leave --on out.") from None  # fmt: skip

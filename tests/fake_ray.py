"""A stand-in for Ray, for tests of what is sent to a cluster; ``benchmarks/ray_*.py`` take a real one of two nodes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any


class RayError(Exception):
    """Stands in for the errors of Ray."""


@dataclass(eq=False)
class Reference:
    """A task that has not been looked at yet."""

    call: Callable[[], Any]


class FakeRay(ModuleType):
    """Runs what is submitted when it is asked for, the newest first. nodes_: CPUs of each."""

    def __init__(self, nodes: tuple[int, ...] = (2, 2)) -> None:
        super().__init__("ray")
        self.nodes_, self.options, self.most, self.cancelled, self.is_up = nodes, dict[str, Any](), 0, 0, False
        self.exceptions = SimpleNamespace(RayError=RayError)
        self.newest_first = True

    def is_initialized(self) -> bool:
        return self.is_up

    def init(self, **_: Any) -> None:
        if os.environ.get("RAY_ADDRESS") == "nowhere":
            raise ConnectionError("no cluster at nowhere\nand much more")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ray does
        self.is_up = True

    def shutdown(self) -> None:
        self.is_up = False

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": float(n)}} for n in self.nodes_] + [{"Alive": False, "Resources": {}}]

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        self.options = options
        return lambda function: SimpleNamespace(remote=lambda *values: Reference(lambda: function(*values)))

    def wait(self, references: list[Reference], num_returns: int) -> tuple[list[Reference], list[Reference]]:
        self.most = max(self.most, len(references))
        assert num_returns == 1
        at = -1 if self.newest_first else 0
        return [references.pop(at)], references

    def get(self, reference: Reference) -> Any:
        try:
            return reference.call()
        except Exception as error:
            failure = RayError("the task failed\nwith a long log")
            failure.cause = error  # pyright: ignore[reportAttributeAccessIssue] (as Ray's has it)
            raise failure from None

    def cancel(self, reference: Reference, *, force: bool) -> None:
        assert not force
        self.cancelled += bool(reference)

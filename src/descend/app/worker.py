"""The process that trains or scans for the app: ``python -m descend.app.worker``. JSON lines in, JSON lines out.

The first line on standard input says what to do. A further line, or the end of the input, means stop, and does what Ctrl-C does:
the best so far is kept, also where the app itself was killed.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from descend.errors import DescendError
from descend.train.interrupt import interrupt_main

NEWS_S = 0.1  # between two pieces of news of one stage
Send = Callable[[Mapping[str, Any]], None]


class Listener:
    """Sends what goes on as JSON lines."""

    def __init__(self, send: Send) -> None:
        self._send, self._stage, self._last = send, "", 0.0

    def say(self, text: str) -> None:
        """Send a line."""
        self._send({"say": text})

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Send how far a stage is: its beginning, its end, and not too often between them."""
        now = time.monotonic()
        if stage == self._stage and done < total and now - self._last < NEWS_S:
            return
        self._stage, self._last = stage, now
        self._send({"stage": stage, "done": done, "total": total, "note": note})


def work(request: Mapping[str, Any], send: Send) -> None:
    """Do what is asked for, and send what came of it: ``ended``, or an ``error`` in words."""
    started = time.perf_counter()
    try:
        send({"ended": _KINDS[request["kind"]](request, Listener(send), started)})
    except KeyboardInterrupt:
        send({"ended": {"status": "stopped"}})
    except (DescendError, OSError) as error:
        send({"error": str(error)})


def _fit(request: Mapping[str, Any], listener: Listener, started: float) -> dict[str, Any]:
    from descend.api import fit

    run = fit(**request["settings"], out=request["out"], command=request["command"], progress=listener, started=started)
    return _told(run)


def _resume(request: Mapping[str, Any], listener: Listener, started: float) -> dict[str, Any]:
    from descend.api import resume

    return _told(resume(request["out"], progress=listener, started=started))


def _told(run: Any) -> dict[str, Any]:
    from descend.train.folder import is_trained

    name, trained = Path(run.folder).name, is_trained(run.folder)
    return {"status": run.record.status, "run": name, "verdict": run.verdict(), "trained": trained}


def _scan(request: Mapping[str, Any], listener: Listener, started: float) -> dict[str, Any]:
    del started
    from descend.audit import scan

    audit = scan(request["data"], deep=request["deep"], progress=listener)
    return {"status": "finished", "n_pictures": audit.n_pictures, "deep": audit.deep, "findings": audit.describe()["findings"]}


_KINDS: dict[str, Callable[[Mapping[str, Any], Listener, float], dict[str, Any]]] = {
    "fit": _fit, "resume": _resume, "scan": _scan,
}  # fmt: skip


def main() -> None:
    """Read the request, listen for the word to stop, and work."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads, as the command line does
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints is no news
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's script starts what is in the background deaf to it
    lock = threading.Lock()

    def send(news: Mapping[str, Any]) -> None:
        with lock:
            try:
                out.write(json.dumps(news) + "\n")
            except BrokenPipeError:  # the app is gone; the end of the input stops the work
                return

    lines = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - the thread reads it to the end; a buffer's lock would stop the exit
    request = json.loads(lines.readline())
    threading.Thread(target=_obey, args=(lines,), daemon=True).start()
    work(request, send)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that is late has nothing left to stop


def _obey(lines: IO[bytes]) -> None:
    """Interrupt the work at every line, and at the end of them."""
    while lines.readline():
        interrupt_main()
    interrupt_main()


if __name__ == "__main__":
    main()

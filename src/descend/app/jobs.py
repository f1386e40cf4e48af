"""Work in a process of its own, one at a time: begun, watched, and stopped so that nothing is lost."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from descend.printable import printable, shortened
from descend.train import folder
from descend.train.record_types import EpochRow

MOST_LINES = 400  # that were said
MOST_KEPT = 30  # lines of standard error, of which the last is told where a process died
IMPATIENT_S = 5.0  # that work may take to end once it has been told twice


class Job:
    """One piece of work. title: what it is, in words. out: the run folder that it writes, None for a scan.

    request: what ``descend.app.worker`` is told; ``command``, where it has one, is the same in a terminal.

    id: its own, so that a page knows one from another of the same title. version: raised by all news, so that a page that
    watches knows whether there is any.
    """

    def __init__(self, kind: str, title: str, request: Mapping[str, Any], out: Path | None = None) -> None:
        self.kind, self.title, self.out = kind, title, out
        self.command = shlex.join(request.get("command", ()))
        self.id, self.version, self.stopping = uuid.uuid4().hex, 0, False
        self.result: dict[str, Any] | None = None
        self.error = ""
        self._said, self._stage = deque[str](maxlen=MOST_LINES), dict[str, Any]()
        self._errors = deque[str](maxlen=MOST_KEPT)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "descend.app.worker"],  # -P: no module is taken from the folder with the pictures
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", errors="backslashreplace",
            start_new_session=True,  # Ctrl-C in the terminal reaches the app, which then stops the work in order
        )  # fmt: skip
        self._readers = [threading.Thread(target=self._read, daemon=True), threading.Thread(target=self._keep, daemon=True)]
        for reader in self._readers:
            reader.start()
        self._write(json.dumps({**request, "kind": kind}) + "\n")

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.result is None and not self.error

    def stop(self) -> None:
        """Ask it to stop as Ctrl-C does: the best so far is kept. A second time it stops at once."""
        self.stopping = True
        self.version += 1
        self._write("stop\n")

    def close(self) -> None:
        """Stop it if it goes on, and wait until it has ended; Ctrl-C meanwhile ends it at once."""
        if self.running and not self.stopping:
            self.stop()
        try:
            self._process.wait()
        except KeyboardInterrupt:
            self._end_now()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):
                assert pipe is not None  # asked for
                pipe.close()

    def _end_now(self) -> None:
        """Ask once more, and where that does not help in time end the process: what was saved before is whole."""
        self.stop()
        try:
            self._process.wait(IMPATIENT_S)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def describe(self) -> dict[str, Any]:
        """Return the state of the work as plain data."""
        return {
            "id": self.id, "kind": self.kind, "title": self.title, "running": self.running, "stopping": self.stopping,
            "said": [*self._said],
            "stage": self._stage, "error": self.error, "result": self.result if self.kind != "scan" else None,
            "run": self.out.name if self.out is not None else None, "epochs": self.epochs(),
            "command": self.command,
        }  # fmt: skip

    def epochs(self) -> list[EpochRow]:
        """Return the epochs that the run has written down."""
        return [] if self.out is None else cast("list[EpochRow]", folder.by_epoch(folder.read_lines(self.out / folder.METRICS)))

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None  # asked for
        with suppress(OSError, ValueError):  # it has ended, and that is told by its last news
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _read(self) -> None:
        """Take the news until the process ends."""
        for line in _lines(self._process.stdout):
            with suppress(ValueError):
                self._take(json.loads(line))
        status = self._process.wait()
        if self.running:
            self._readers[1].join()
            last = f": {self._errors[-1]}" if self._errors else ""
            self.error = f"The process ended unasked, with status {status}{last}. What was saved before is kept."
        self.version += 1

    def _take(self, news: Mapping[str, Any]) -> None:
        if "say" in news:
            self._said.append(printable(news["say"]))
        elif "stage" in news:
            self._stage = dict(news)
        elif self.running and "ended" in news:  # the first word counts: an interrupt may come after it
            self.result = news["ended"]
        elif self.running and "error" in news:
            self.error = str(news["error"])
        self.version += 1

    def _keep(self) -> None:
        """Keep the last lines of standard error."""
        for line in _lines(self._process.stderr):
            if line.strip():
                self._errors.append(shortened(printable(line.strip())))


def _lines(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # asked for
    return pipe

"""One process per run folder: a lock that the system gives back when its owner ends, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from descend.errors import RunError

LOCK = ".lock"
LOOK_S = 0.02  # that a process which looks at a lock has it at most


class RunLock:
    """The lock of a run folder, held by this process until ``release``.

    The lock is ``flock`` on ``RUN/.lock``; the process, its machine and the time stand inside, for the message that another
    process gets. Where the system or the file system has no such locks (Windows, some network drives), nothing is locked.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock. Raises RunError where another process has it, or where the folder takes no file."""
        self.folder = folder
        self._handle = -1
        if sys.platform != "win32":
            self._handle = _locked(folder)
            owner = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
            with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
                os.truncate(self._handle, 0)
                os.write(self._handle, json.dumps(owner).encode())

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._handle < 0:
            return
        with contextlib.suppress(OSError):  # the folder may be gone
            (self.folder / LOCK).unlink()
        os.close(self._handle)
        self._handle = -1


def in_use(folder: Path) -> bool:
    """Return whether a process has the lock of a run folder. What it left when it was killed, in nobody's hands, is not one."""
    if sys.platform == "win32":
        return False
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)  # nothing is written; the lock is shared, for a moment
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


if sys.platform != "win32":
    import fcntl

    def _locked(folder: Path) -> int:
        """Return an open file that has the lock; the file that has the name, not one that its owner has just removed."""
        path, patience = folder / LOCK, 3
        while True:
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise RunError(f"run folder {folder}", f"must be writable ({error.strerror})",
                               fix="Give yourself the right to write there, or copy the folder.") from None  # fmt: skip
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                if patience := patience - 1:  # whoever only looks (``in_use``) is done by then
                    time.sleep(LOOK_S)
                    continue
                raise _in_use(folder) from None
            except OSError:  # a file system without locks
                return handle
            if _has_name(handle, path):
                return handle
            os.close(handle)

    def _has_name(handle: int, path: Path) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), path.stat())
        except FileNotFoundError:
            return False


def _in_use(folder: Path) -> RunError:
    owner: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        owner = dict(json.loads((folder / LOCK).read_text(encoding="utf-8")))
    who = f"process {owner.get('pid', '(unknown)')} on {owner.get('host', 'an unknown machine')}"
    return RunError(f"run {folder}", f"must not be in use, and {who} has it since {owner.get('since', 'a moment ago')}",
                    fix="Wait until it has ended, or end it: its lock goes with it.")  # fmt: skip

"""The hidden names of files and folders that are being written, which tell their writer, and the removal of abandoned ones."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from functools import cache
from pathlib import Path

_WRITER = re.compile(r"\.(?:(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,9})-)?[0-9a-f]{32}(?:\..*)?")
BEGUN = ".begun"  # ends the name of a folder that may be gone on with after its writer has ended
_ABANDONED_S = 24 * 3600.0  # what another machine's process, or an older version, has not finished after that is abandoned


def sweep_unfinished(folder: Path) -> int:
    """Delete what killed processes were writing in ``folder`` through ``replacing``; return how many things were deleted.

    The hidden name tells machine and process. What a process of another machine, or of an older version of this package, has left
    is deleted when it is a day old. Other hidden files stay, and those of a process that runs.
    """
    with contextlib.suppress(OSError):
        unfinished = [path for path in folder.iterdir() if _WRITER.fullmatch(path.name)]
        return sum(delete(path) for path in unfinished if is_abandoned(path))
    return 0


def unfinished_name(suffix: str = "") -> str:
    """Return a new hidden name, which no other process will choose, for something to be written by this process."""
    return f".{_machine()}-{os.getpid()}-{uuid.uuid4().hex}{suffix}"


@cache
def _machine() -> str:
    """Return a name of the machine or container, in which a process number means one process."""
    namespace = ""
    with contextlib.suppress(OSError):  # not on Linux
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no path)
    return hashlib.blake2b(f"{platform.node()} {namespace}".encode(), digest_size=4).hexdigest()


def is_abandoned(path: Path) -> bool:
    """Return whether the process that was writing ``path`` has ended; of another machine's, whether a day has passed.

    Nothing is while its process runs, whatever the clock says. What may be gone on with is abandoned after that day only.
    """
    if os.name != "nt" and _process_here(path) is not None:  # Windows does not tell whether it runs
        if not is_left(path):
            return False
        if not path.name.endswith(BEGUN):
            return True
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_S
    except OSError:  # finished or swept meanwhile
        return False


def is_left(path: Path) -> bool:
    """Return whether the process of this machine that was writing ``path`` has ended."""
    process = _process_here(path)
    return process is not None and not _is_running(process)


def _process_here(path: Path) -> int | None:
    """Return the process of this machine that was writing ``path``; None where another machine's was, or nobody knows."""
    writer = _WRITER.fullmatch(path.name)
    return int(writer["process"]) if writer is not None and writer["machine"] == _machine() else None


def _is_running(process: int) -> bool:
    if os.name == "nt":  # there os.kill ends the process
        return True
    try:
        os.kill(process, 0)  # asks only
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def delete(path: Path) -> bool:
    """Delete a file, or a folder with what is in it, as far as the system allows; return whether it is gone."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return not os.path.lexists(path)

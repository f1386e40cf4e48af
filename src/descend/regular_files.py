"""Files from anywhere, looked at before they are opened: a pipe, a device or a file of the kernel may never end.

Whatever comes in an archive or a copied folder may be a link to ``/dev/zero`` or a pipe that nobody writes to. Pictures, recipes,
run folders and weights are read through here.
"""

from __future__ import annotations

import contextlib
import os
import stat
from functools import cache
from pathlib import Path

MOST_TEXT = 2**28  # bytes of a recipe or of a file of a run that is read as text
_KERNEL_FILE_SYSTEMS = frozenset({
    "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs", "fusectl", "mqueue", "nfsd", "proc",
    "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
})  # fmt: skip


def size_on_disk(path: Path) -> int:
    """Return the size of a file, in bytes, without opening it. Raises OSError for what is no file, and is not a folder either.

    A folder passes: reading one fails by itself, with its reason.
    """
    status = path.stat()
    if status.st_dev in kernel_file_systems():
        raise OSError(None, "a file of the kernel")
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise OSError(None, "not a file but a pipe, a socket or a device")
    return status.st_size


def read_text_bytes(path: Path) -> bytes:
    """Return the bytes of a file that holds text, of 256 MiB at most. Raises OSError, also for what is no file or is larger."""
    n_bytes = size_on_disk(path)
    if n_bytes > MOST_TEXT:
        raise OSError(None, f"it has {n_bytes:,} bytes, more than {MOST_TEXT:,}")
    return path.read_bytes()


@cache
def kernel_file_systems() -> frozenset[int]:
    """Return the device numbers of the file systems that a Linux kernel makes up while they are read: ``/proc`` and its kin.

    Their files look like others, and reading one may wait for ever (``/proc/kmsg``) or never end.
    """
    devices = set[int]()
    with contextlib.suppress(OSError, ValueError):  # no Linux, or no /proc
        for mount in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            head, _, tail = mount.partition(" - ")
            if tail.split()[0] in _KERNEL_FILE_SYSTEMS:
                major, _, minor = head.split()[2].partition(":")
                devices.add(os.makedev(int(major), int(minor)))
    return frozenset(devices)

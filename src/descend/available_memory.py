"""How much memory this process can still take, and how much it has taken, as the system tells it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Of a container: its limit and what it uses, below /sys/fs/cgroup, in the second and the first version of Linux's cgroups."""
_CACHE = ("inactive_file", "total_inactive_file")  # counted as used, and given back when it is needed


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return the bytes of main memory that are free or can be freed, swap too, within the container's limit; None: not known.

    Only Linux tells. root: where /proc and /sys lie. Source: https://docs.kernel.org/filesystems/proc.html, MemAvailable.
    """
    free = _of_machine(root / "proc" / "meminfo")
    if free is None:
        return None
    limits = [_of_container(root / "sys/fs/cgroup", *names) for names in _GROUPS]
    return min([free, *(limit for limit in limits if limit is not None)])


def _of_machine(meminfo: Path) -> int | None:
    with suppress(OSError, ValueError, KeyError):
        rows = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return sum(int(rows[name].split()[0]) * 1024 for name in ("MemAvailable", "SwapFree"))
    return None


def _of_container(group: Path, limit: str, usage: str) -> int | None:
    """Return what a container may still take; None without a limit."""
    with suppress(OSError, ValueError):  # "max" is no number
        allowed, used = (int((group / name).read_text(encoding="ascii")) for name in (limit, usage))
        rows = [line.split() for line in (group / limit).with_name("memory.stat").read_text(encoding="ascii").splitlines()]
        return max(0, allowed - used + max((int(n) for name, n in rows if name in _CACHE), default=0))
    return None


def in_gb(n: int) -> str:
    """Return bytes as they are told."""
    return f"{n / 1e9:.1f} GB" if n >= 10**8 else f"{n / 1e6:.1f} MB"


def forget_peak() -> None:
    """Let the system count the peak of memory from here."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int | None:
    """Return the peak of resident memory since ``forget_peak``, bytes; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)

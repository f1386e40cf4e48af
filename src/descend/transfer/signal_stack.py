"""The stack on which signals are handled, kept where a library puts a smaller one in its place.

OpenVINO's CPU plugin gives the thread that loads it an alternate signal stack of the least size the kernel allows plus 8 KiB
(openvinotoolkit/openvino#11894), even in the place of a larger one. Once matrix tiles (AMX) have been used, the frame of a signal
takes 12 KiB, and the dynamic linker, which resolves the first function the handler calls, stores as much again: Ctrl-C then ends
the process with a segmentation fault.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar


class SignalStack(ctypes.Structure):
    """``stack_t`` of Linux: where the stack begins, whether it is disabled (2), and its size in bytes."""

    _fields_: ClassVar = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

    sp: int | None
    flags: int
    size: int


def signal_stack() -> SignalStack:
    """Return the alternate signal stack of this thread (Linux)."""
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found


@contextmanager
def kept_signal_stack() -> Generator[None]:
    """Put back, at the end, the alternate signal stack that this thread had; Linux only, nothing elsewhere.

    A stack that the kernel holds to be too small by now is refused by it, and the newer one stays.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)

"""Ctrl-C ends a run in order, also after a library has put a small signal stack in the place of the one there was."""

from __future__ import annotations

import subprocess
import sys

import pytest

from descend.transfer import engine_openvino

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the signal stacks of Linux")


def run(program: str) -> str:
    """Return what a program prints; it must end well."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    return done.stdout.strip()


def test_a_stack_put_in_its_place_is_taken_back() -> None:
    program = """
import ctypes, faulthandler
from descend.transfer.signal_stack import SignalStack, kept_signal_stack, signal_stack
faulthandler.enable()  # has a signal stack of its own
before = signal_stack()
memory = ctypes.create_string_buffer(1 << 16)
with kept_signal_stack():
    ctypes.CDLL(None).sigaltstack(ctypes.byref(SignalStack(ctypes.addressof(memory), 0, 1 << 16)), None)
    assert signal_stack().sp == ctypes.addressof(memory)
print(before.size > 0, signal_stack().sp == before.sp, signal_stack().size == before.size)
"""
    assert run(program) == "True True True"


@pytest.mark.skipif(not engine_openvino.available(), reason="needs openvino")
def test_a_signal_is_handled_after_openvino_has_computed_in_tiles() -> None:
    program = """
import signal
import numpy, openvino
import openvino.opset13 as ops
from descend.transfer.engine_openvino import core
from descend.transfer.signal_stack import signal_stack
before = signal_stack().size
numbers = numpy.ones((64, 64, 3, 3), numpy.float32)
entry = ops.parameter([4, 64, 32, 32], numpy.float32)
product = ops.convolution(entry, ops.constant(numbers), [1, 1], [1, 1], [1, 1], [1, 1])
precision = "bf16" if "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
model = core().compile_model(openvino.Model([product], [entry], "product"), "CPU", {"INFERENCE_PRECISION_HINT": precision})
model([numpy.ones((4, 64, 32, 32), numpy.float32)])
assert signal_stack().size == before
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(True))
signal.raise_signal(signal.SIGINT)
print(seen)
"""
    assert run(program) == "[True]"

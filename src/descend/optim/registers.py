"""Numbers in the registers of a processor: what a rule does to one element, written down as instructions of LLVM.

A ``Register`` is one more kind of number on which a rule's ``direction`` runs, once: every operation on it appends an
instruction. ``machine_code`` makes a function of them for this processor, in a tenth of a second, so nothing is kept on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llvmlite import binding, ir

I64 = ir.IntType(64)


class Register:
    """One element, or a number of the step: a value of LLVM, float32 or float64, in the function that ``builder`` writes.

    Every operation rounds to that width. Plain numbers beside it are rounded to it too.
    """

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Any) -> Register:
        """Return the sum."""
        return self._made(self.builder.fadd(self.value, self._of(other)))

    def __sub__(self, other: Any) -> Register:
        """Return the difference."""
        return self._made(self.builder.fsub(self.value, self._of(other)))

    def __rsub__(self, other: Any) -> Register:
        """Return the difference to a plain number."""
        return self._made(self.builder.fsub(self._of(other), self.value))

    def __mul__(self, other: Any) -> Register:
        """Return the product."""
        return self._made(self.builder.fmul(self.value, self._of(other)))

    def __truediv__(self, other: Any) -> Register:
        """Return the quotient."""
        return self._made(self.builder.fdiv(self.value, self._of(other)))

    def __rtruediv__(self, other: Any) -> Register:
        """Return a plain number's quotient."""
        return self._made(self.builder.fdiv(self._of(other), self.value))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Register:
        """Return the negative."""
        return self._made(self.builder.fneg(self.value))

    def __abs__(self) -> Register:
        """Return the absolute value."""
        return self._made(called(self.builder, "llvm.fabs", self.value))

    def __bool__(self) -> bool:
        """Raise TypeError: instructions are the same for all elements."""
        raise TypeError("a direction must not branch on elements: use maximum, sign or positive")

    def sqrt(self) -> Register:
        """Return the square root."""
        return self._made(called(self.builder, "llvm.sqrt", self.value))

    def sign(self) -> Register:
        """Return -1 or 1, and zeros and NaN as they are."""
        b, x, zero = self.builder, self.value, self._of(0.0)
        negative = b.select(b.fcmp_ordered("<", x, zero), self._of(-1.0), x)
        return self._made(b.select(b.fcmp_ordered(">", x, zero), self._of(1.0), negative))

    def clamp(self, min: float) -> Register:
        """Return the number, ``min`` where it is less; NaN stays NaN."""
        low = self._of(min)
        return self._made(self.builder.select(self.builder.fcmp_ordered("<", self.value, low), low, self.value))

    def maximum(self, other: Any) -> Register:
        """Return the larger number; NaN where one of both is."""
        b, x, y = self.builder, self.value, self._of(other)
        return self._made(b.select(b.or_(b.fcmp_ordered(">", x, y), b.fcmp_unordered("uno", x, x)), x, y))

    def _made(self, value: Any) -> Register:
        return Register(self.builder, value)

    def _of(self, other: Any) -> Any:
        """Return the value of a register, or a plain number as a constant."""
        return other.value if isinstance(other, Register) else ir.Constant(self.value.type, float(other))


def called(builder: Any, intrinsic: str, value: Any) -> Any:
    """Return what an operation that LLVM has by name makes of a floating-point value."""
    return builder.call(builder.module.declare_intrinsic(intrinsic, [value.type]), [value])


@contextmanager
def counting(builder: Any, first: Any, last: Any) -> Iterator[Any]:
    """Write a loop: what is appended within the block is done for every i, first <= i < last, int64; yields i."""
    before = builder.block
    head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(first, before)
    builder.cbranch(builder.icmp_signed("<", i, last), body, after)
    builder.position_at_end(body)
    yield i
    i.add_incoming(builder.add(i, I64(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)


def machine_code(module: ir.Module, function: str) -> int:
    """Return the address of a function of ``module``, compiled for this processor; the code stays as long as the process."""
    machine = _machine()
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    tuning = binding.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(parsed, passes)
    engine = binding.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    return engine.get_function_address(function)


_ENGINES: list[Any] = []  # they own the code


@cache
def _machine() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features().flatten()
    target = binding.Target.from_default_triple()
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=3, codemodel="jitdefault")

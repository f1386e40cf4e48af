"""Sixteen weights at once for compiled kernels, each kept or dropped by a bit of its own: float32 or float64 in registers.

A bit per weight is what a processor selects by; as numbers, masks take 32 times the memory and a multiplication each.
"""

# ruff: noqa: ARG001 (numba prescribes the arguments of an intrinsic)

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from descend import simd
from descend.simd import operation

N = 16
_LANES = {
    types.float32: simd.Vector("SixteenFloats", ir.FloatType(), N),
    types.float64: simd.Vector("SixteenDoubles", ir.DoubleType(), N),
}
_BYTES = {types.float32: 4, types.float64: 8}


def _place(context: Any, builder: Any, signature: Any, values: Any) -> tuple[Any, int]:
    """Return a pointer to sixteen numbers of an array, and what they are aligned to; values: array, index, ..."""
    dtype = signature.args[0].dtype
    return simd.address(context, builder, signature.args[0], values[0], values[1], _LANES[dtype].lanes), _BYTES[dtype]


@operation
def bits_from(typing, bits, first):
    """Return sixteen bits from bit ``first`` of contiguous uint32 on, which has a word more than is read, as uint16.

    Bytes stand in the order of their places: little-endian processors.
    """

    def build(context, builder, signature, values):
        word, array, bits = ir.IntType(32), context.make_array(signature.args[0])(context, builder, values[0]), values[1]
        start = builder.bitcast(array.data, ir.IntType(8).as_pointer())
        place = builder.bitcast(builder.gep(start, [builder.lshr(bits, bits.type(3))]), word.as_pointer())
        shift = builder.trunc(builder.and_(bits, bits.type(7)), word)
        return builder.trunc(builder.lshr(builder.load(place, align=1), shift), ir.IntType(16))

    return types.uint16(bits, types.int64), build


@operation
def lanes(typing, array, index):
    """Return ``array[index : index + 16]`` of contiguous numbers."""
    kind = _LANES[array.dtype]

    def build(context, builder, signature, values):
        place, align = _place(context, builder, signature, values)
        return builder.load(place, align=align)

    return kind(array, types.int64), build


@operation
def put(typing, array, index, x):
    """Store ``array[index : index + 16] = x``."""

    def build(context, builder, signature, values):
        place, align = _place(context, builder, signature, values)
        builder.store(values[2], place, align=align)
        return context.get_dummy_value()

    return types.void(array, types.int64, x), build


@operation
def kept(typing, x, bits):
    """Return ``x`` where a bit is set, else 0."""

    def build(context, builder, signature, values):
        chosen = builder.bitcast(values[1], ir.VectorType(ir.IntType(1), N))
        return builder.select(chosen, values[0], ir.Constant(values[0].type, [0.0] * N))

    return x(x, types.uint16), build


@operation
def all_of(typing, number):
    """Return sixteen times a number."""
    kind = _LANES[number]

    def build(context, builder, signature, values):
        return simd.splat(builder, values[0], N)

    return kind(number), build


@operation
def times_plus(typing, x, factor, y):
    """Return ``x * factor + y``."""

    def build(context, builder, signature, values):
        return simd.times_plus(builder, *values)

    return x(x, x, x), build


@operation
def total(typing, x):
    """Return the sum of sixteen numbers: of halves, of halves of those, and so on."""
    number = next(dtype for dtype, kind in _LANES.items() if kind == x)

    def build(context, builder, signature, values):
        found = values[0]
        while found.type.count > 1:
            half = found.type.count // 2
            low, high = (simd.shuffled(builder, found, found, list(range(start, start + half))) for start in (0, half))
            found = builder.fadd(low, high)
        return builder.extract_element(found, ir.IntType(32)(0))

    return number(x), build

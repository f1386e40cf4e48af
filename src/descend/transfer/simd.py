"""Sixteen channels at once for compiled kernels: of maps whose channels lie beside each other, in float32 or bfloat16.

Numba turns a loop over channels into vector instructions, but keeps no sums of several taps in registers meanwhile: a depthwise
convolution in plain loops reads and writes its sums at every tap (2 billion products a second on one core where these reach 25).
Sums are float32 whatever the memory holds. bfloat16 is the upper half of a float32, held here as int16; it is rounded to the
nearest, ties to even. LLVM splits the sixteen on processors with shorter registers.
"""

# ruff: noqa: ARG001 (numba prescribes the arguments of an intrinsic)

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from descend import simd
from descend.simd import operation

N = 16
LANES = simd.Vector("Lanes", ir.FloatType(), N)
_FLOATS, _WORDS, _HALVES = LANES.lanes, *(ir.VectorType(ir.IntType(bits), N) for bits in (32, 16))
_ZERO = ir.Constant(_FLOATS, [0.0] * N)


def _is_half(kind: Any) -> bool:
    return kind.dtype != types.float32


def _words(value: int) -> Any:
    return ir.Constant(_WORDS, [value] * N)


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return simd.address(context, builder, kind, array, index, _HALVES if _is_half(kind) else _FLOATS)


def _load(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    place = _address(context, builder, kind, array, index)
    if not _is_half(kind):
        return builder.load(place, align=4)
    upper = builder.shl(builder.zext(builder.load(place, align=2), _WORDS), _words(16))
    return builder.bitcast(upper, _FLOATS)


def _store(context: Any, builder: Any, kind: Any, array: Any, index: Any, value: Any) -> None:
    place = _address(context, builder, kind, array, index)
    if not _is_half(kind):
        builder.store(value, place, align=4)
        return
    bits = builder.bitcast(value, _WORDS)
    odd = builder.and_(builder.lshr(bits, _words(16)), _words(1))
    rounded = builder.add(bits, builder.add(_words(0x7FFF), odd))
    builder.store(builder.trunc(builder.lshr(rounded, _words(16)), _HALVES), place, align=2)


def _at(builder: Any, start: Any, step: Any, n: int) -> Any:
    return builder.add(start, builder.mul(step, ir.Constant(step.type, n)))


@operation
def lanes(typing, array, index):
    """Return ``array[index : index + 16]`` of a contiguous array."""

    def build(context, builder, signature, values):
        return _load(context, builder, signature.args[0], values[0], values[1])

    return LANES(array, types.intp), build


@operation
def put(typing, array, index, x):
    """Store ``array[index : index + 16] = x``."""

    def build(context, builder, signature, values):
        _store(context, builder, signature.args[0], *values)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), build


same = simd.filling(LANES, types.float32)


@operation
def plus(typing, x, y):
    """Return ``x + y``."""

    def build(context, builder, signature, values):
        return builder.fadd(*values)

    return LANES(LANES, LANES), build


@operation
def clipped(typing, x, low, high):
    """Return ``x`` where it is between ``low`` and ``high``, and else the nearer of the two; NaN stays."""

    def build(context, builder, signature, values):
        x, low, high = values
        x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
        return builder.select(builder.fcmp_ordered(">", x, high), high, x)

    return LANES(LANES, LANES, LANES), build


@operation
def where_moving(typing, x, low, high, grad):
    """Return ``grad`` where ``clipped(x, low, high)`` moves with ``x``, else 0; also where ``x`` is NaN, so that NaN is seen."""

    def build(context, builder, signature, values):
        x, low, high, grad = values
        moving = builder.and_(builder.fcmp_unordered(">", x, low), builder.fcmp_unordered("<", x, high))
        return builder.select(moving, grad, _ZERO)

    return LANES(LANES, LANES, LANES, LANES), build


@operation
def nothing(typing, taps):
    """Return a sum of 0 for every one of ``taps``."""

    def build(context, builder, signature, values):
        return cgutils.pack_array(builder, [_ZERO] * taps.count)

    return types.UniTuple(LANES, taps.count)(taps), build


@operation
def with_taps(typing, sums, x, index, step, weights, first, apart, taps):
    """Return ``sums[p] + sum over k of x[index + p step + 16 k] * weights[first + k apart]`` for every place p; x float32."""
    n, side = sums.count, taps.count

    def build(context, builder, signature, values):
        sums, x, index, step, weights, first, apart, _ = values
        kinds, found = signature.args, [builder.extract_value(sums, p) for p in range(n)]
        for k in range(side):
            weight = _load(context, builder, kinds[4], weights, _at(builder, first, apart, k))
            for p in range(n):
                place = builder.add(_at(builder, index, step, p), ir.Constant(index.type, N * k))
                found[p] = simd.times_plus(builder, _load(context, builder, kinds[1], x, place), weight, found[p])
        return cgutils.pack_array(builder, found)

    return sums(sums, x, types.intp, types.intp, weights, types.intp, types.intp, taps), build


@operation
def with_products(typing, sums, x, index, y):
    """Return ``sums[k] + x[index + 16 k] * y`` for every tap k; x float32."""
    side = sums.count

    def build(context, builder, signature, values):
        sums, x, index, y = values
        found = []
        for k in range(side):
            value = _load(context, builder, signature.args[1], x, builder.add(index, ir.Constant(index.type, N * k)))
            found.append(simd.times_plus(builder, value, y, builder.extract_value(sums, k)))
        return cgutils.pack_array(builder, found)

    return sums(sums, x, types.intp, LANES), build


@operation
def spread(typing, out, index, weights, first, apart, y, taps):
    """Add ``weights[first + k apart] * y`` to ``out[index + 16 k]`` for every tap k; out float32."""
    side = taps.count

    def build(context, builder, signature, values):
        out, index, weights, first, apart, y, _ = values
        kinds = signature.args
        for k in range(side):
            weight = _load(context, builder, kinds[2], weights, _at(builder, first, apart, k))
            place = builder.add(index, ir.Constant(index.type, N * k))
            before = _load(context, builder, kinds[0], out, place)
            _store(context, builder, kinds[0], out, place, simd.times_plus(builder, weight, y, before))
        return context.get_dummy_value()

    return types.void(out, types.intp, weights, types.intp, types.intp, LANES, taps), build

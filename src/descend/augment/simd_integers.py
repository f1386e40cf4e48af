"""Sixteen whole numbers at once for compiled kernels: int32 in registers, that read and write the bytes of pictures.

Numba computes with whole numbers in 64 bits and makes vectors of loops only where it can prove their turns independent. A
cosine transform in place is no such loop, so its numbers are a type of their own, with ``+``, ``-``, ``*`` and ``>>``. They are
LLVM vectors, which every processor has; LLVM splits the sixteen on those with shorter registers.

Products of 32 bits are slow on many processors. Sums of products of 16 bits are not: ``weighed`` is written in the form in which
LLVM knows them (``pmaddwd`` on x86).
"""

# ruff: noqa: ARG001 (numba prescribes the arguments of an intrinsic)

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from descend import simd
from descend.simd import operation

N = 16
INTS = simd.Vector("SixteenInts", ir.IntType(32), N)
_INTS, _BYTES, _FLOATS = INTS.lanes, *(ir.VectorType(kind, N) for kind in (ir.IntType(8), ir.FloatType()))
_SHORTS = ir.VectorType(ir.IntType(16), 2 * N)


for _symbol, _instruction in ((operator.add, "add"), (operator.sub, "sub"), (operator.mul, "mul"), (operator.rshift, "ashr")):
    simd.give_operator(_symbol, _instruction, INTS, types.int64)


def _place(context: Any, builder: Any, signature: Any, values: Any, vector: Any) -> Any:
    """Return a pointer to ``vector`` where an operation begins to read or write; values: array, index, ..."""
    return simd.address(context, builder, signature.args[0], values[0], values[1], vector)


def _addresses(context: Any, builder: Any, signature: Any, values: Any) -> list[Any]:
    """Return pointers to the eight bytes at ``array[places[i] + offset]`` for i below 16; values: array, places, offset, ..."""
    word, eight, found = ir.IntType(64), ir.VectorType(ir.IntType(8), 8), []
    for i in range(N):
        at = builder.load(simd.address(context, builder, signature.args[1], values[1], ir.Constant(word, i), word))
        found.append(simd.address(context, builder, signature.args[0], values[0], builder.add(at, values[2]), eight))
    return found


def _as_bytes(builder: Any, x: Any) -> Any:
    """Return sixteen bytes: whole numbers held within 0..255."""
    for limit, symbol in ((0, ">"), (255, "<")):
        bound = ir.Constant(_INTS, [limit] * N)
        x = builder.select(builder.icmp_signed(symbol, x, bound), x, bound)
    return builder.trunc(x, _BYTES)


@operation
def ints(typing, array, index):
    """Return ``array[index : index + 16]`` of contiguous int32."""

    def build(context, builder, signature, values):
        return builder.load(_place(context, builder, signature, values, _INTS), align=4)

    return INTS(array, types.int64), build


@operation
def put_ints(typing, array, index, x):
    """Store ``array[index : index + 16] = x`` in contiguous int32."""

    def build(context, builder, signature, values):
        builder.store(values[2], _place(context, builder, signature, values, _INTS), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, INTS), build


@operation
def byte_ints(typing, array, index):
    """Return ``array[index : index + 16]`` of contiguous uint8."""

    def build(context, builder, signature, values):
        return builder.zext(builder.load(_place(context, builder, signature, values, _BYTES), align=1), _INTS)

    return INTS(array, types.int64), build


@operation
def put_bytes(typing, array, index, x):
    """Store sixteen numbers, held within 0..255, in contiguous uint8."""

    def build(context, builder, signature, values):
        builder.store(
            _as_bytes(builder, values[2]),
            _place(context, builder, signature, values, _BYTES),
            align=1,
        )
        return context.get_dummy_value()

    return types.void(array, types.int64, INTS), build


@operation
def copy_bytes(typing, array, index, other, start, n):
    """Store ``array[index : index + n] = other[start : start + n]`` in contiguous uint8."""

    def build(context, builder, signature, values):
        byte = ir.IntType(8)
        source = simd.address(context, builder, signature.args[2], values[2], values[3], byte)
        cgutils.raw_memcpy(builder, _place(context, builder, signature, values, byte), source, values[4], 1)
        return context.get_dummy_value()

    return types.void(array, types.int64, other, types.int64, types.int64), build


@operation
def channels(typing, array, index):
    """Return the reds, the greens and the blues of the sixteen pixels at ``array[index : index + 48]`` of contiguous uint8."""

    def build(context, builder, signature, values):
        wide = ir.VectorType(ir.IntType(8), 3 * N)
        pixels = builder.load(_place(context, builder, signature, values, wide), align=1)
        parts = [simd.shuffled(builder, pixels, pixels, list(range(c, 3 * N, 3))) for c in range(3)]
        return cgutils.pack_array(builder, [builder.zext(part, _INTS) for part in parts])

    return types.UniTuple(INTS, 3)(array, types.int64), build


@operation
def put_channels(typing, array, index, red, green, blue):
    """Store sixteen pixels at ``array[index : index + 48]`` of contiguous uint8, their numbers held within 0..255."""

    def build(context, builder, signature, values):
        red, green, blue = (_as_bytes(builder, x) for x in values[2:])
        two, rest = simd.joined(builder, [red, green]), simd.shuffled(builder, blue, blue, list(range(2 * N)))
        pixels = simd.shuffled(builder, two, rest, [k // 3 + N * (k % 3) for k in range(3 * N)])
        builder.store(pixels, _place(context, builder, signature, values, pixels.type), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, INTS, INTS, INTS), build


@operation
def pair_sums(typing, array, index):
    """Return ``array[index + 2 k] + array[index + 2 k + 1]`` for k below 16, of contiguous uint8."""

    def build(context, builder, signature, values):
        wide = ir.VectorType(ir.IntType(8), 2 * N)
        pairs = builder.load(_place(context, builder, signature, values, wide), align=1)
        even, odd = (builder.zext(simd.shuffled(builder, pairs, pairs, list(range(k, 2 * N, 2))), _INTS) for k in (0, 1))
        return builder.add(even, odd)

    return INTS(array, types.int64), build


@operation
def put_pairs(typing, array, index, even, odd):
    """Store ``array[index + 2 k] = even[k]`` and ``array[index + 2 k + 1] = odd[k]`` in contiguous uint8, held within 0..255."""

    def build(context, builder, signature, values):
        even, odd = (_as_bytes(builder, x) for x in values[2:])
        pairs = simd.shuffled(builder, even, odd, [k // 2 + N * (k % 2) for k in range(2 * N)])
        builder.store(pairs, _place(context, builder, signature, values, pairs.type), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, INTS, INTS), build


@operation
def one_two(typing):
    """Return 1, 2, 1, 2 and so on."""

    def build(context, builder, signature, values):
        return ir.Constant(_INTS, [1, 2] * (N // 2))

    return INTS(), build


@operation
def eights(typing, array, places, offset):
    """Return for k below 8 the sixteen ``array[places[i] + offset + k]`` of contiguous uint8; places: (16,) int64."""

    def build(context, builder, signature, values):
        samples = simd.joined(builder, [builder.load(at, align=1) for at in _addresses(context, builder, signature, values)])
        parts = [simd.shuffled(builder, samples, samples, list(range(k, 8 * N, 8))) for k in range(8)]
        return cgutils.pack_array(builder, [builder.zext(part, _INTS) for part in parts])

    return types.UniTuple(INTS, 8)(array, places, types.int64), build


@operation
def put_eights(typing, array, places, offset, x):
    """Store ``array[places[i] + offset + k] = x[k][i]`` in contiguous uint8, held within 0..255; places: (16,) int64."""

    def build(context, builder, signature, values):
        parts = simd.joined(builder, [_as_bytes(builder, builder.extract_value(values[3], k)) for k in range(8)])
        samples = simd.shuffled(builder, parts, parts, [(k % 8) * N + k // 8 for k in range(8 * N)])
        for i, at in enumerate(_addresses(context, builder, signature, values)):
            builder.store(simd.shuffled(builder, samples, samples, list(range(8 * i, 8 * i + 8))), at, align=1)
        return context.get_dummy_value()

    return types.void(array, places, types.int64, types.UniTuple(INTS, 8)), build


@operation
def nearest_multiple(typing, x, step, inverse, half):
    """Return ``step`` times ``x * inverse`` rounded to the nearest whole number, what lies in the middle away from 0.

    half: float32, a little more than 1/2, so that the rounding of ``inverse`` and of the product does not count.
    """

    def build(context, builder, signature, values):
        x, step, inverse, half = values
        value = builder.sitofp(x, _FLOATS)
        sign = builder.and_(builder.bitcast(value, _INTS), ir.Constant(_INTS, [1 << 31] * N))
        half = builder.bitcast(builder.or_(builder.bitcast(simd.splat(builder, half, N), _INTS), sign), _FLOATS)
        quotient = builder.fptosi(simd.times_plus(builder, value, simd.splat(builder, inverse, N), half), _INTS)
        return builder.mul(quotient, simd.same(builder, step, _INTS))

    return INTS(INTS, types.int32, types.float32, types.float32), build


def _paired(k: int) -> int:
    """Return which of 32 places is k-th in what ``weighed`` returns: processors pair numbers within 128 bits, four and four."""
    return k % 16 // 4 * 8 + k // 16 * 4 + k % 4


@operation
def weighed(typing, low, high, array, places, first, at, pair):
    """Add ``p (array[a] + array[b]) + q (array[c] + array[d])`` to 32 numbers, the first sixteen in ``low``.

    array: contiguous uint8, or int16 whose sums of two stay below 2**15. a, b, c, d: ``places[first : first + 4] + at``, int64,
    and the 31 places after each. pair: int32, p in its lower half and q in its upper one. Number k of the 32 is that of place
    ``_paired(k)``. Returns both.
    """

    def build(context, builder, signature, values):
        low, high, array, places, first, at, pair = values
        kinds, lines = signature.args, []
        for k in range(4):
            index = builder.add(first, ir.Constant(first.type, k))
            start = builder.load(simd.address(context, builder, kinds[3], places, index, ir.IntType(64)))
            stored = ir.VectorType(ir.IntType(kinds[2].dtype.bitwidth), 2 * N)
            line = builder.load(simd.address(context, builder, kinds[2], array, builder.add(start, at), stored), align=1)
            lines.append(line if stored == _SHORTS else builder.zext(line, _SHORTS))
        one, other = builder.add(*lines[:2]), builder.add(*lines[2:])
        wide, sums = ir.VectorType(ir.IntType(32), 2 * N), []
        weights = builder.sext(builder.bitcast(simd.same(builder, pair, _INTS), _SHORTS), wide)
        for start, total in ((0, low), (N, high)):
            turns = simd.shuffled(builder, one, other, [_paired(start + k // 2) + 2 * N * (k % 2) for k in range(2 * N)])
            products = builder.mul(builder.sext(turns, wide), weights)
            even, odd = (simd.shuffled(builder, products, products, list(range(k, 2 * N, 2))) for k in (0, 1))
            sums.append(builder.add(total, builder.add(even, odd)))
        return cgutils.pack_array(builder, sums)

    return types.UniTuple(INTS, 2)(INTS, INTS, array, places, types.int64, types.int64, types.int32), build


@operation
def put_twice_weighed(typing, array, index, low, high):
    """Store 32 numbers of 0..255 in contiguous uint8, in the order that they had before ``weighed`` changed it twice."""

    def build(context, builder, signature, values):
        numbers = simd.joined(builder, [builder.trunc(x, _BYTES) for x in values[2:]])
        order = [_paired(_paired(k)) for k in range(2 * N)]
        numbers = simd.shuffled(builder, numbers, numbers, [order.index(k) for k in range(2 * N)])
        builder.store(numbers, _place(context, builder, signature, values, numbers.type), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, INTS, INTS), build


all_ints = simd.filling(INTS, types.int64)


@operation
def put_shorts(typing, array, index, x):
    """Store sixteen numbers that fit in contiguous int16."""

    def build(context, builder, signature, values):
        shorts = ir.VectorType(ir.IntType(16), N)
        builder.store(
            builder.trunc(values[2], shorts),
            _place(context, builder, signature, values, shorts),
            align=2,
        )
        return context.get_dummy_value()

    return types.void(array, types.int64, INTS), build

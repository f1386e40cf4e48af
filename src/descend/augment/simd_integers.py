"""Sixteen whole numbers at once for compiled kernels: int32 that read and write the bytes of pictures, uint64 for random numbers.

Numba computes with whole numbers in 64 bits and makes vectors of loops only where it can prove their turns independent. A
cosine transform in place is no such loop, so its numbers are a type of their own, with ``+``, ``-``, ``*`` and ``>>``. They are
LLVM vectors, which every processor has; LLVM splits the sixteen on those with shorter registers.

Products of 32 bits are slow on many processors. Sums of products of 16 bits are not: ``weighed`` is written in the form in which
LLVM knows them (``pmaddwd`` on x86).
"""

# ruff: noqa: ARG001 (numba prescribes the arguments of an intrinsic)

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from descend import simd
from descend.simd import operation

N = 16
_INTS, _LONGS, _BYTES, _FLOATS = (
    ir.VectorType(kind, N) for kind in (ir.IntType(32), ir.IntType(64), ir.IntType(8), ir.FloatType())
)
_SHORTS = ir.VectorType(ir.IntType(16), 2 * N)


class SixteenInts(types.Type):
    """Numba's name for sixteen int32 in registers."""

    def __init__(self) -> None:
        super().__init__(name="SixteenInts")


class SixteenLongs(types.Type):
    """Numba's name for sixteen uint64 in registers."""

    def __init__(self) -> None:
        super().__init__(name="SixteenLongs")


INTS, LONGS = SixteenInts(), SixteenLongs()


@register_model(SixteenInts)
class _Ints(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _INTS)


@register_model(SixteenLongs)
class _Longs(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LONGS)


def _same(builder: Any, number: Any, vector: Any = _INTS) -> Any:
    """Return sixteen times a whole number of 64 bits."""
    nothing, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    lane = number if vector == _LONGS else builder.trunc(number, vector.element)
    return builder.shuffle_vector(builder.insert_element(nothing, lane, first), nothing, ir.Constant(_INTS, [0] * N))


def _operator(symbol: Callable[..., Any], instruction: str, kind: Any, number: Any, vector: Any) -> None:
    """Give ``x symbol y`` its meaning, where one of the two is of a kind of sixteen numbers and the other is one too, or a number."""
    sides = [(kind, kind), (kind, number), (number, kind)]

    class Typing(ConcreteTemplate):
        key = symbol
        cases: ClassVar = [signature(kind, *side) for side in sides]

    register: Any = infer_global(symbol)
    register(Typing)

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, y = (v if one == kind else _same(builder, v, vector) for one, v in zip(signature.args, values, strict=True))
        return getattr(builder, instruction)(x, y)

    for side in sides:
        lower_builtin(symbol, *side)(build)


for _symbol, _instruction in ((operator.add, "add"), (operator.sub, "sub"), (operator.mul, "mul"), (operator.rshift, "ashr")):
    _operator(_symbol, _instruction, INTS, types.int64, _INTS)
for _symbol, _instruction in ((operator.mul, "mul"), (operator.rshift, "lshr"), (operator.xor, "xor"), (operator.and_, "and_")):
    _operator(_symbol, _instruction, LONGS, types.uint64, _LONGS)


def _shuffled(builder: Any, x: Any, y: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


def _joined(builder: Any, parts: list[Any]) -> Any:
    """Return vectors of equal length, a power of two of them, one after the other in one vector."""
    while len(parts) > 1:
        n = 2 * parts[0].type.count
        parts = [_shuffled(builder, *parts[k : k + 2], list(range(n))) for k in range(0, len(parts), 2)]
    return parts[0]


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
def channels(typing, array, index):
    """Return the reds, the greens and the blues of the sixteen pixels at ``array[index : index + 48]`` of contiguous uint8."""

    def build(context, builder, signature, values):
        wide = ir.VectorType(ir.IntType(8), 3 * N)
        pixels = builder.load(_place(context, builder, signature, values, wide), align=1)
        parts = [_shuffled(builder, pixels, pixels, list(range(c, 3 * N, 3))) for c in range(3)]
        return cgutils.pack_array(builder, [builder.zext(part, _INTS) for part in parts])

    return types.UniTuple(INTS, 3)(array, types.int64), build


@operation
def put_channels(typing, array, index, red, green, blue):
    """Store sixteen pixels at ``array[index : index + 48]`` of contiguous uint8, their numbers held within 0..255."""

    def build(context, builder, signature, values):
        red, green, blue = (_as_bytes(builder, x) for x in values[2:])
        two, rest = _joined(builder, [red, green]), _shuffled(builder, blue, blue, list(range(2 * N)))
        pixels = _shuffled(builder, two, rest, [k // 3 + N * (k % 3) for k in range(3 * N)])
        builder.store(pixels, _place(context, builder, signature, values, pixels.type), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, INTS, INTS, INTS), build


@operation
def pair_sums(typing, array, index):
    """Return ``array[index + 2 k] + array[index + 2 k + 1]`` for k below 16, of contiguous uint8."""

    def build(context, builder, signature, values):
        wide = ir.VectorType(ir.IntType(8), 2 * N)
        pairs = builder.load(_place(context, builder, signature, values, wide), align=1)
        even, odd = (builder.zext(_shuffled(builder, pairs, pairs, list(range(k, 2 * N, 2))), _INTS) for k in (0, 1))
        return builder.add(even, odd)

    return INTS(array, types.int64), build


@operation
def put_pairs(typing, array, index, even, odd):
    """Store ``array[index + 2 k] = even[k]`` and ``array[index + 2 k + 1] = odd[k]`` in contiguous uint8, held within 0..255."""

    def build(context, builder, signature, values):
        even, odd = (_as_bytes(builder, x) for x in values[2:])
        pairs = _shuffled(builder, even, odd, [k // 2 + N * (k % 2) for k in range(2 * N)])
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
        samples = _joined(builder, [builder.load(at, align=1) for at in _addresses(context, builder, signature, values)])
        parts = [_shuffled(builder, samples, samples, list(range(k, 8 * N, 8))) for k in range(8)]
        return cgutils.pack_array(builder, [builder.zext(part, _INTS) for part in parts])

    return types.UniTuple(INTS, 8)(array, places, types.int64), build


@operation
def put_eights(typing, array, places, offset, x):
    """Store ``array[places[i] + offset + k] = x[k][i]`` in contiguous uint8, held within 0..255; places: (16,) int64."""

    def build(context, builder, signature, values):
        parts = _joined(builder, [_as_bytes(builder, builder.extract_value(values[3], k)) for k in range(8)])
        samples = _shuffled(builder, parts, parts, [(k % 8) * N + k // 8 for k in range(8 * N)])
        for i, at in enumerate(_addresses(context, builder, signature, values)):
            builder.store(_shuffled(builder, samples, samples, list(range(8 * i, 8 * i + 8))), at, align=1)
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
        return builder.mul(quotient, _same(builder, builder.sext(step, ir.IntType(64))))

    return INTS(INTS, types.int32, types.float32, types.float32), build


@operation
def weighed(typing, low, high, array, places, first, at, pair):
    """Add ``p (array[a] + array[b]) + q (array[c] + array[d])`` to sixteen numbers ``low`` and the next sixteen, ``high``.

    array: contiguous uint8, or int16 whose sums of two stay below 2**15. a, b, c, d: ``places[first : first + 4] + at``, int64,
    and the 31 places after each. pair: int32, p in its lower half and q in its upper one. Returns both.
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
        weights = builder.sext(builder.bitcast(_same(builder, builder.sext(pair, ir.IntType(64))), _SHORTS), wide)
        for start, total in ((0, low), (N, high)):
            turns = _shuffled(builder, one, other, [start + k // 2 + 2 * N * (k % 2) for k in range(2 * N)])
            products = builder.mul(builder.sext(turns, wide), weights)
            even, odd = (_shuffled(builder, products, products, list(range(k, 2 * N, 2))) for k in (0, 1))
            sums.append(builder.add(total, builder.add(even, odd)))
        return cgutils.pack_array(builder, sums)

    return types.UniTuple(INTS, 2)(INTS, INTS, array, places, types.int64, types.int64, types.int32), build


@operation
def all_ints(typing, number):
    """Return sixteen times a whole number."""

    def build(context, builder, signature, values):
        return _same(builder, values[0])

    return INTS(types.int64), build


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


@operation
def all_longs(typing, number):
    """Return sixteen times a whole number."""

    def build(context, builder, signature, values):
        return _same(builder, values[0], _LONGS)

    return LONGS(types.uint64), build


@operation
def longs_from(typing, number):
    """Return sixteen whole numbers one after the other."""

    def build(context, builder, signature, values):
        return builder.add(_same(builder, values[0], _LONGS), ir.Constant(_LONGS, list(range(N))))

    return LONGS(types.uint64), build


@operation
def put_words(typing, array, index, a, b, c, d):
    """Store ``array[index + 4 k : index + 4 k + 4] = a[k], b[k], c[k], d[k]`` in contiguous uint32: the lower halves of each."""

    def build(context, builder, signature, values):
        four = _joined(builder, [builder.trunc(x, _INTS) for x in values[2:]])
        words = _shuffled(builder, four, four, [k // 4 + N * (k % 4) for k in range(4 * N)])
        builder.store(words, _place(context, builder, signature, values, words.type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, LONGS, LONGS, LONGS, LONGS), build

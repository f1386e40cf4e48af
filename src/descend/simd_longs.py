"""Sixteen uint64 at once for compiled kernels, with operators of whole numbers: the text of Philox runs on them as it stands.

Numba compiles the loop over blocks of random numbers to one block after the other.
"""

# ruff: noqa: ARG001 (numba prescribes the arguments of an intrinsic)

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types

from descend import simd
from descend.simd import operation

N = 16
LONGS = simd.Vector("SixteenLongs", ir.IntType(64), N)
_LONGS, _INTS = LONGS.lanes, ir.VectorType(ir.IntType(32), N)
_SYMBOLS = operator.mul, operator.add, operator.rshift, operator.xor, operator.and_, operator.or_

for _symbol, _instruction in zip(_SYMBOLS, ("mul", "add", "lshr", "xor", "and_", "or_"), strict=True):
    simd.give_operator(_symbol, _instruction, LONGS, types.uint64)


all_longs = simd.filling(LONGS, types.uint64)
longs = simd.loading(LONGS, align=8)


@operation
def longs_from(typing, number):
    """Return sixteen whole numbers one after the other."""

    def build(context, builder, signature, values):
        return builder.add(simd.same(builder, values[0], _LONGS), ir.Constant(_LONGS, list(range(N))))

    return LONGS(types.uint64), build


@operation
def put_words(typing, array, index, a, b, c, d):
    """Store ``array[index + 4 k : index + 4 k + 4] = a[k], b[k], c[k], d[k]`` in contiguous uint32: the lower halves of each."""

    def build(context, builder, signature, values):
        four = simd.joined(builder, [builder.trunc(x, _INTS) for x in values[2:]])
        words = simd.shuffled(builder, four, four, [k // 4 + N * (k % 4) for k in range(4 * N)])
        builder.store(words, simd.address(context, builder, signature.args[0], values[0], values[1], words.type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, LONGS, LONGS, LONGS, LONGS), build


@operation
def any_bit(typing, x):
    """Return whether a bit is set in a whole number, or in one of sixteen."""

    def build(context, builder, signature, values):
        x = values[0]
        if signature.args[0] == LONGS:
            set_in = builder.icmp_unsigned("!=", x, ir.Constant(_LONGS, [0] * N))
            return builder.icmp_unsigned("!=", builder.bitcast(set_in, ir.IntType(N)), ir.IntType(N)(0))
        return builder.icmp_unsigned("!=", x, x.type(0))

    return types.boolean(x), build

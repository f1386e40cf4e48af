"""Sixteen uint64 at once for compiled kernels, with ``*``, ``>>``, ``^`` and ``&``: the text of Philox runs on them as it stands.

Numba compiles the loop over blocks of random numbers to one block after the other.
"""

# ruff: noqa: ARG001 (numba prescribes the arguments of an intrinsic)

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from descend import simd
from descend.simd import operation

N = 16
_LONGS, _INTS = (ir.VectorType(ir.IntType(bits), N) for bits in (64, 32))


class SixteenLongs(types.Type):
    """Numba's name for sixteen uint64 in registers."""

    def __init__(self) -> None:
        super().__init__(name="SixteenLongs")


LONGS = SixteenLongs()


@register_model(SixteenLongs)
class _Vector(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LONGS)


for _symbol, _instruction in ((operator.mul, "mul"), (operator.rshift, "lshr"), (operator.xor, "xor"), (operator.and_, "and_")):
    simd.give_operator(_symbol, _instruction, LONGS, types.uint64, _LONGS)


@operation
def all_longs(typing, number):
    """Return sixteen times a whole number."""

    def build(context, builder, signature, values):
        return simd.same(builder, values[0], _LONGS)

    return LONGS(types.uint64), build


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

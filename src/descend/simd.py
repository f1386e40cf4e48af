"""What vector operations of compiled kernels share: an address in an array, one number in every lane, a fused product and sum.

Numba has no vectors of a fixed width. Operations on them are written as LLVM instructions, in the rooms whose kernels use them
(``augment/simd.py``: the channels of a pixel; ``transfer/simd.py``: sixteen channels of a map).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

operation: Any = intrinsic  # type checkers would count its first argument, which Numba supplies
FUSE = ("contract",)  # a product and a sum may become one instruction


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Return a pointer to ``vector`` at an index of a contiguous array. kind: the array's Numba type."""
    start = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(start, [index]), vector.as_pointer())


def splat(builder: Any, value: Any, n: int) -> Any:
    """Return ``n`` times a float32."""
    nothing, first = ir.Constant(ir.VectorType(ir.FloatType(), n), ir.Undefined), ir.Constant(ir.IntType(32), 0)
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), n), [0] * n)
    return builder.shuffle_vector(builder.insert_element(nothing, value, first), nothing, lanes)


def times_plus(builder: Any, x: Any, factor: Any, y: Any) -> Any:
    """Return ``x * factor + y``."""
    return builder.fadd(builder.fmul(x, factor, flags=FUSE), y, flags=FUSE)

"""What vector operations of compiled kernels share: addresses, one number in every lane, orders of lanes, operators.

Numba has no vectors of a fixed width. Operations on them are written as LLVM instructions, in the rooms whose kernels use them
(``augment/simd.py``: the channels of a pixel; ``transfer/simd.py``: sixteen channels of a map; ``regularize/simd.py``: sixteen
weights that a mask keeps or drops).
"""

# ruff: noqa: ARG001 (numba prescribes the arguments of an intrinsic)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite import ir
from numba import types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

operation: Any = intrinsic  # type checkers would count its first argument, which Numba supplies
FUSE = ("contract",)  # a product and a sum may become one instruction


class Vector(types.Type):
    """Numba's name for numbers that lie in registers together: so many of one type of LLVM."""

    def __init__(self, name: str, element: ir.Type, n: int) -> None:
        self.lanes = ir.VectorType(element, n)
        super().__init__(name=f"{name} {self.lanes}")


@register_model(Vector)
class _Lanes(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.lanes)


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Return a pointer to ``vector`` at an index of a contiguous array. kind: the array's Numba type."""
    start = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(start, [index]), vector.as_pointer())


def filling(kind: Vector, number: Any) -> Any:
    """Return the operation that makes a vector of one number in every place."""

    @operation
    def filled(typing: Any, x: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return same(builder, values[0], kind.lanes)

        return kind(number), build

    return filled


def loading(kind: Vector, align: int) -> Any:
    """Return the operation that loads a vector from an index of a contiguous array on. align: bytes of a number."""

    @operation
    def loaded(typing: Any, array: Any, index: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.load(address(context, builder, signature.args[0], values[0], values[1], kind.lanes), align=align)

        return kind(array, types.int64), build

    return loaded


def splat(builder: Any, value: Any, n: int) -> Any:
    """Return ``n`` times a number."""
    return same(builder, value, ir.VectorType(value.type, n))


def times_plus(builder: Any, x: Any, factor: Any, y: Any) -> Any:
    """Return ``x * factor + y``."""
    return builder.fadd(builder.fmul(x, factor, flags=FUSE), y, flags=FUSE)


def same(builder: Any, number: Any, vector: Any) -> Any:
    """Return a vector whose numbers are all ``number``; a whole one may have more bits than they."""
    nothing, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    lane = number if number.type == vector.element else builder.trunc(number, vector.element)
    return shuffled(builder, builder.insert_element(nothing, lane, first), nothing, [0] * vector.count)


def shuffled(builder: Any, x: Any, y: Any, places: list[int]) -> Any:
    """Return the numbers at some places of two vectors, those of ``y`` counted on from those of ``x``."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


def joined(builder: Any, parts: list[Any]) -> Any:
    """Return vectors of equal length, a power of two of them, one after the other in one vector."""
    while len(parts) > 1:
        n = 2 * parts[0].type.count
        parts = [shuffled(builder, *parts[k : k + 2], list(range(n))) for k in range(0, len(parts), 2)]
    return parts[0]


def give_operator(symbol: Callable[..., Any], instruction: str, kind: Vector, number: Any) -> None:
    """Give ``x symbol y`` a meaning for two vectors of a kind of whole numbers, or one and a ``number``."""
    sides = [(kind, kind), (kind, number), (number, kind)]

    class Typing(ConcreteTemplate):
        key = symbol
        cases: ClassVar = [signature(kind, *side) for side in sides]

    register: Any = infer_global(symbol)
    register(Typing)

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, y = (v if side == kind else same(builder, v, kind.lanes) for side, v in zip(signature.args, values, strict=True))
        return getattr(builder, instruction)(x, y)

    for side in sides:
        lower_builtin(symbol, *side)(build)

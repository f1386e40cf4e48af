"""Rules compiled to machine code: the same ``direction``, in one sweep over all tensors of a step.

A kernel gets a table of addresses (one row per tensor of a parameter: weights, gradient, slots) and a list of pieces (parameter,
first element, count), so nothing is copied or flattened. It is written by running the rule once on registers (``registers``); its
arithmetic has the width of the weights, and each element is read and written once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from descend.optim.chain import Chain, Scalars
from descend.optim.registers import I64, Register, called, counting, machine_code
from descend.optim.rule import UpdateRule
from descend.optim.wrapper import Wrapper
from descend.threads import address_of, run_team

Acting = tuple[tuple[type[Wrapper], tuple[int, ...]], ...]
"""Wrappers that act after a step, innermost first, each with the layout of its coefficients."""

PIECE = 1 << 11
"""Elements per unit of parallel work: few enough that a gradient which was looked at is still in the first-level cache when it is
used. 50 M parameters, two cores, checked: SGD took 1.3 times torch's fused step with 1 << 14, 1.0 times with this."""


WORTH_SHARING = 1 << 19
"""Elements in a step from which threads share it: fewer take 0.2 ms, and to wake a thread that sleeps takes about as long."""

WIDTHS = {torch.float32: ir.FloatType(), torch.float64: ir.DoubleType()}
GRADIENT = 1  # row of the table


def step(
    rule: Chain, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], scalars: Scalars, *, checked: bool
) -> float | None:
    """Move ``params`` and the slots in ``states`` in place by one step of ``rule``.

    params, grads, slots: CPU tensors of one dtype, float32 or float64; those of one parameter have the same shape and the same
    dense strides (``dispatch.fits`` says so). checked: look at every piece of a gradient right before it is used, while
    it is on its way through the cache anyway, and stop at one that is not finite; return the norm of all gradients, NaN where
    the step was stopped (the pieces before it have moved). None if not checked.
    """
    active = rule.needed(scalars)
    acting = [(type(part), numbers) for part, numbers in zip(rule.wrappers, scalars.after, strict=True) if numbers is not None]
    after = tuple((kind, _layout(numbers)) for kind, numbers in acting)
    address = _kernel(type(rule.core), active, _layout(scalars.coefficients), after, params[0].dtype)
    flat = [scalars.scale, scalars.l2, scalars.shrink, scalars.rate]
    for item in chain(scalars.coefficients, *(numbers for _, numbers in acting)):
        flat.extend(item if isinstance(item, tuple) else (item,))
    norm = _sweep(address, [params, grads, *([state[name] for state in states] for name in active)], flat, checked=checked)
    torch.autograd.graph.increment_version(params)  # autograd must notice that weights changed under it
    return norm


def joint_norm(grads: list[Tensor]) -> float:
    """Return the Euclidean norm of all ``grads`` together, contiguous and of one dtype; NaN where one is not finite."""
    norm = _sweep(_look(grads[0].dtype), [grads, grads], [], checked=True)
    assert norm is not None
    return norm


def _sweep(address: int, columns: list[list[Tensor]], numbers: list[float], *, checked: bool) -> float | None:
    """Let the kernel at ``address`` go over all pieces of tensors.

    columns: weights, gradients, slots, a tensor per parameter each. Pieces are independent, so their order does not matter.
    Returns the norm of the gradients if they are checked.
    """
    tensors = columns[0]
    table = np.fromiter(chain.from_iterable(map(Tensor.data_ptr, column) for column in columns), np.int64)
    c = np.array(numbers, dtype=np.float64 if tensors[0].dtype == torch.float64 else np.float32)
    sizes = tuple(map(Tensor.numel, tensors))
    pieces = _pieces(sizes)
    squares = np.zeros(len(pieces) if checked else 0)
    run_team(address, len(pieces), n_threads(sum(sizes)), *map(address_of, (table, pieces, c, squares)), len(tensors), checked)
    return math.sqrt(squares.sum()) if checked else None


def n_threads(n_elements: int) -> int:
    """Return on how many threads a step over so many elements is carried out: as many as torch uses, where that pays."""
    return torch.get_num_threads() if n_elements >= WORTH_SHARING else 1


def _layout(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """Return 0 for every number, n for every tuple of n."""
    return tuple(len(item) if isinstance(item, tuple) else 0 for item in numbers)


@lru_cache(maxsize=64)
def _pieces(sizes: tuple[int, ...]) -> np.ndarray:
    """Return (parameter, first element, count) of every unit of work: (N, 3) int64."""
    cuts = [(row, first, min(PIECE, size - first)) for row, size in enumerate(sizes) for first in range(0, size, PIECE)]
    return np.array(cuts, dtype=np.int64).reshape(-1, 3)


# ------------------------------------------------------------------------------------------------------ writing a kernel


@cache
def _kernel(
    rule: type[UpdateRule], active: tuple[str, ...], layout: tuple[int, ...], after: Acting, dtype: torch.dtype
) -> int:  # fmt: skip
    """Return the address of the kernel of ``rule`` and what acts after it; active: slots it reads and writes."""
    module, width = ir.Module(rule.name), WIDTHS[dtype]
    _write_team(module, width, 2 + len(active), _written(module, width, rule, active, layout, after))
    return machine_code(module, "team")


@cache
def _look(dtype: torch.dtype) -> int:
    """Return the address of the kernel that only looks at gradients."""
    module, width = ir.Module("look"), WIDTHS[dtype]
    _write_team(module, width, 0, None)
    return machine_code(module, "team")


def _written(
    module: ir.Module, width: Any, rule: type[UpdateRule], active: tuple[str, ...], layout: tuple[int, ...], after: Acting
) -> ir.Function:
    """Write ``block(weights, gradient, slots ..., n, c)``, which moves n elements."""
    array = width.as_pointer()
    block = ir.Function(module, ir.FunctionType(ir.VoidType(), [array] * (2 + len(active)) + [I64, array]), "block")
    block.linkage = "internal"
    *arrays, n, c = block.args
    for argument in arrays:
        argument.add_attribute("noalias")
    b = ir.IRBuilder(block.append_basic_block("entry"))
    n_numbers = 4 + sum(size or 1 for size in chain(layout, *(numbers for _, numbers in after)))
    numbers = iter([Register(b, b.load(b.gep(c, [I64(k)]))) for k in range(n_numbers)])
    scale, l2, shrink, rate = (next(numbers) for _ in range(4))
    coefficients, of_wrappers = _taken(layout, numbers), [(kind, _taken(sizes, numbers)) for kind, sizes in after]
    with counting(b, I64(0), n) as i:
        places = dict(zip(("weights", "gradient", *active), (b.gep(each, [i]) for each in arrays), strict=True))
        read = {name: Register(b, b.load(place)) for name, place in places.items()}
        p, g = read["weights"], read["gradient"]
        u, *moved = rule.direction(p, g * scale + p * l2, *(read.get(slot) for slot in rule.slots), *coefficients)
        wrote = dict(zip(rule.slots, moved, strict=True))
        p = p * shrink - u * rate
        for kind, given in of_wrappers:
            p, *moved = kind.after_step(p, *(read[slot] for slot in kind.slots), *given)
            wrote |= zip(kind.slots, moved, strict=True)
        for name, place in places.items():
            if name in wrote:
                b.store(wrote[name].value, place)
        b.store(p.value, places["weights"])
    b.ret_void()
    return block


def _taken(layout: tuple[int, ...], numbers: Iterator[Register]) -> list[Any]:
    """Return the next numbers as ``layout`` says: one by one, or in tuples."""
    return [tuple(next(numbers) for _ in range(size)) if size else next(numbers) for size in layout]


def _write_team(module: ir.Module, width: Any, n_columns: int, block: ir.Function | None) -> None:
    """Write ``team(job)``, which a thread calls: it takes shares of the pieces, looks at gradients if asked to, and moves."""
    double, array = ir.DoubleType(), width.as_pointer()
    team = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64]), "team")
    b = ir.IRBuilder(team.append_basic_block("entry"))
    job = b.inttoptr(team.args[0], I64.as_pointer())
    _, n_shares, n, *fields, n_params, checked = (b.load(b.gep(job, [I64(k)])) for k in range(9))
    kinds = (I64, I64, width, double)
    table, pieces, c, squares = (b.inttoptr(field, kind.as_pointer()) for field, kind in zip(fields, kinds, strict=True))
    sum_finite = _write_sum_finite(module, width)
    take, work, end = (b.append_basic_block(name) for name in ("take", "work", "end"))
    b.branch(take)
    b.position_at_end(take)
    share = b.atomic_rmw("add", job, I64(1), "monotonic")
    b.cbranch(b.icmp_signed("<", share, n_shares), work, end)
    b.position_at_end(work)
    with counting(b, b.sdiv(b.mul(n, share), n_shares), b.sdiv(b.mul(n, b.add(share, I64(1))), n_shares)) as k:
        row, first, count = (b.load(b.gep(pieces, [b.add(b.mul(k, I64(3)), I64(field))])) for field in range(3))

        def at(column: int) -> Any:
            start = b.load(b.gep(table, [b.add(b.mul(n_params, I64(column)), row)]))
            return b.gep(b.inttoptr(start, array), [first])

        with b.if_then(b.icmp_signed("!=", checked, I64(0))):
            total = b.call(sum_finite, [at(GRADIENT), count])
            b.store(total, b.gep(squares, [k]))
            with b.if_then(b.fcmp_unordered("uno", total, total)):
                b.ret_void()
        if block is not None:
            b.call(block, [*map(at, range(n_columns)), count, c])
    b.branch(take)
    b.position_at_end(end)
    b.ret_void()


def _write_sum_finite(module: ir.Module, width: Any) -> ir.Function:
    """Write ``sum_finite(x, n)``: the sum of n squares as a double, NaN where an element is not finite."""
    double = ir.DoubleType()
    function = ir.Function(module, ir.FunctionType(double, [width.as_pointer(), I64]), "sum_finite")
    function.linkage = "internal"
    x, n = function.args
    b: Any = ir.IRBuilder(function.append_basic_block("entry"))
    total, exact = b.alloca(width), b.alloca(double)
    b.store(width(0.0), total)
    b.store(double(0.0), exact)
    any_order = ("reassoc", "contract")  # so that the sum fills vectors
    with counting(b, I64(0), n) as i:
        value = b.load(b.gep(x, [i]))
        b.store(b.fadd(b.load(total), b.fmul(value, value, flags=any_order), flags=any_order), total)
    quick = _double(b, b.load(total))
    with b.if_then(_is_finite(b, quick), likely=True):
        b.ret(quick)
    with counting(b, I64(0), n) as i:  # one is not finite, or the sum is too large for the width of the elements
        value = _double(b, b.load(b.gep(x, [i])))
        with b.if_then(b.not_(_is_finite(b, value))):
            b.ret(double(math.nan))
        b.store(b.fadd(b.load(exact), b.fmul(value, value)), exact)
    b.ret(b.load(exact))
    return function


def _double(b: Any, value: Any) -> Any:
    return value if value.type == ir.DoubleType() else b.fpext(value, ir.DoubleType())


def _is_finite(b: Any, value: Any) -> Any:
    return b.fcmp_ordered("<", called(b, "llvm.fabs", value), ir.DoubleType()(math.inf))

"""Rules compiled by Numba: the same ``direction``, in one sweep over all tensors of a step.

A kernel gets a table of addresses (one column per parameter: weights, gradient, slots) and a list of pieces (parameter, first
element, count), so nothing is copied or flattened. Its text is written from the rule's slots and coefficients, its arithmetic has
the width of the weights, and each element is read and written once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache, wraps
from itertools import chain, count
from typing import Any, cast

import numba
import numpy as np
import torch
from numba import types
from numba.extending import intrinsic, overload
from numba.np.numpy_support import carray
from torch import Tensor

from descend import compiled
from descend.optim import ops
from descend.optim.chain import Chain, Scalars
from descend.optim.rule import UpdateRule
from descend.optim.wrapper import Wrapper

Acting = tuple[tuple[type[Wrapper], tuple[int, ...]], ...]
"""Wrappers that act after a step, innermost first, each with the layout of its coefficients."""

PIECE = 1 << 11
"""Elements per unit of parallel work: few enough that a gradient which was looked at is still in the first-level cache when it is
used. 50 M parameters, two cores, checked: SGD took 1.3 times torch's fused step with 1 << 14, 1.0 times with this."""


WORTH_SHARING = 1 << 19
"""Elements in a step from which threads share it: fewer take 0.2 ms, and to wake a thread that sleeps takes about as long."""


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
    kernel = _kernel(type(rule.core), active, _layout(scalars.coefficients), after)
    columns = (params, grads, *([state[name] for state in states] for name in active))
    addresses = chain.from_iterable(map(Tensor.data_ptr, column) for column in columns)
    table = np.fromiter(addresses, np.int64, (2 + len(active)) * len(params)).reshape(-1, len(params))
    flat = [scalars.scale, scalars.l2, scalars.shrink, scalars.rate]
    for item in chain(scalars.coefficients, *(numbers for _, numbers in acting)):
        flat.extend(item if isinstance(item, tuple) else (item,))
    c = np.array(flat, dtype=np.float64 if params[0].dtype == torch.float64 else np.float32)
    sizes = tuple(map(Tensor.numel, params))
    pieces = _pieces(sizes)
    squares = np.zeros(len(pieces) if checked else 0)
    sweep(kernel, len(pieces), sum(sizes), table, pieces, c, squares)
    torch.autograd.graph.increment_version(params)  # autograd must notice that weights changed under it
    return math.sqrt(squares.sum()) if checked else None


def _layout(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """Return 0 for every number, n for every tuple of n."""
    return tuple(len(item) if isinstance(item, tuple) else 0 for item in numbers)


def sweep(run: Any, n_pieces: int, n_elements: int, *arrays: np.ndarray) -> None:
    """Call ``run(first, last, *arrays)`` for shares of the pieces, on as many threads as torch uses where that pays.

    Pieces are independent, so the order does not matter.
    """
    compiled.run_shares(run, n_pieces, torch.get_num_threads() if n_elements >= WORTH_SHARING else 1, *arrays)


@lru_cache(maxsize=64)
def _pieces(sizes: tuple[int, ...]) -> np.ndarray:
    """Return (parameter, first element, count) of every unit of work: (N, 3) int64."""
    cuts = [(row, first, min(PIECE, size - first)) for row, size in enumerate(sizes) for first in range(0, size, PIECE)]
    return np.array(cuts, dtype=np.int64).reshape(-1, 3)


# ------------------------------------------------------------------------------------------------ the vocabulary, compiled


def _add_scaled(a: Any, b: Any, k: Any) -> Any:
    return a + b * k


def _ema(old: Any, new: Any, mix: Any) -> Any:
    return old * mix[0] + new * mix[1]


def _sqrt(x: Any) -> Any:
    return np.sqrt(x)


def _sign(x: Any) -> Any:
    return np.sign(x)


def _maximum(a: Any, b: Any) -> Any:
    return a if a > b or a != a else b  # a != a: NaN stays NaN


def _positive(x: Any) -> Any:
    return x * (not x < 0)


def _teach(word: Callable[..., Any], meaning: Callable[..., Any]) -> None:
    @wraps(meaning)  # Numba compares the names of arguments
    def choose(*_: Any) -> Callable[..., Any]:
        return meaning

    overload(word)(choose)


_teach(ops.add_scaled, _add_scaled)
_teach(ops.ema, _ema)
_teach(ops.sqrt, _sqrt)
_teach(ops.sign, _sign)
_teach(ops.maximum, _maximum)
_teach(ops.positive, _positive)


@intrinsic
def pointer(_: Any, address: Any, like: Any) -> Any:
    """Return an address as that of numbers of the type of those in the array ``like``."""
    kind = types.CPointer(like.dtype)

    def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(address, like), generate


# --------------------------------------------------------------------------------------------------------- looking at numbers


@compiled.helper(fastmath={"reassoc", "contract"})
def sum_squares(x: Any) -> Any:
    """Return the sum of squares of an array that is not empty, at its own precision."""
    total = x[0] * x[0]
    for i in range(1, x.size):
        total += x[i] * x[i]
    return total


@compiled.helper
def sum_finite(x: Any) -> float:
    """Return the sum of squares of an array that is not empty, NaN where an element is not finite."""
    total = np.float64(sum_squares(x))
    if not np.isfinite(total):  # or the sum of finite squares is too large for the width of the elements
        total = 0.0
        for i in range(x.size):
            total += np.float64(x[i]) * np.float64(x[i])
            if not np.isfinite(x[i]):
                return np.nan
    return total


@compiled.helper
def _look(first_piece: Any, last_piece: Any, addresses: Any, pieces: Any, like: Any, squares: Any) -> bool:
    for k in range(first_piece, last_piece):
        row, first, n = pieces[k, 0], pieces[k, 1] * like.itemsize, pieces[k, 2]
        squares[k] = sum_finite(carray(pointer(addresses[row] + first, like), n))  # pyright: ignore (untyped in Numba)
    return True


def joint_norm(grads: list[Tensor]) -> float:
    """Return the Euclidean norm of all ``grads`` together, contiguous and of one dtype; NaN where one is not finite."""
    addresses, pieces = np.array([grad.data_ptr() for grad in grads], dtype=np.int64), _pieces(tuple(g.numel() for g in grads))
    squares, like = np.zeros(len(pieces)), np.empty(0, np.float64 if grads[0].dtype == torch.float64 else np.float32)
    sweep(_look, len(pieces), int(pieces[:, 2].sum()), addresses, pieces, like, squares)
    return math.sqrt(squares.sum())


# ------------------------------------------------------------------------------------------------------ writing a kernel

TEMPLATE = """
@compiled.helper
def block({addresses}, n, c):
{views}
    scale, l2, shrink, rate = c[0], c[1], c[2], c[3]
{constants}
    for i in range(n):
        x = p[i]
        {results} = direction(x, g[i] * scale + x * l2, {arguments})
{stores}
        y = x * shrink - u * rate
{after}
        p[i] = y


@compiled.helper
def {name}_step(first_piece, last_piece, table, pieces, c, squares):
    for k in range(first_piece, last_piece):
        row, first, n = pieces[k, 0], pieces[k, 1] * c.itemsize, pieces[k, 2]
        if squares.size:
            squares[k] = sum_finite(numba.carray(pointer(table[1, row] + first, c), n))
            if np.isnan(squares[k]):
                return False
        block({columns}, n, c)
    return True
"""


def _write(rule: type[UpdateRule], active: tuple[str, ...], layout: tuple[int, ...], after: Acting) -> str:
    """Return the kernel's text; active: slots it reads and writes; layouts as of ``_layout``."""
    arrays = ("p", "g", *(f"slot_{name}" for name in active))
    constants: list[str] = []
    place = count(4)

    def take(layout: tuple[int, ...]) -> list[str]:
        """Name the next coefficients, and write where they come from."""
        names = [f"k{len(constants) + offset}" for offset in range(len(layout))]
        for name, size in zip(names, layout, strict=True):
            values = [f"c[{next(place)}]" for _ in range(size or 1)]
            constants.append(f"    {name} = " + (f"({', '.join(values)},)" if size else values[0]))
        return names

    slots = [f"slot_{name}[i]" if name in active else "None" for name in rule.slots]
    arguments = ", ".join([*slots, *take(layout)])
    calls = []
    for number, (wrapper, numbers) in enumerate(after):
        changed = ["y", *(f"slot_{name}[i]" for name in wrapper.slots)]
        calls.append(f"        {', '.join(changed)} = after{number}({', '.join([*changed, *take(numbers)])})")
    return TEMPLATE.format(
        name=rule.name,
        addresses=", ".join(f"at_{array}" for array in arrays),
        views="\n".join(f"    {array} = numba.carray(pointer(at_{array}, c), n)" for array in arrays),
        constants="\n".join(constants),
        results=", ".join(["u", *(f"new_{name}" for name in rule.slots)]) + ("" if rule.slots else ","),
        arguments=arguments,
        stores="\n".join(f"        slot_{name}[i] = new_{name}" for name in active if name in rule.slots),
        after="\n".join(calls),
        columns=", ".join(f"table[{column}, row] + first" for column in range(len(arrays))),
    )


@cache
def _kernel(rule: type[UpdateRule], active: tuple[str, ...], layout: tuple[int, ...], after: Acting = ()) -> Callable[..., bool]:
    """Return the kernel of ``rule`` and what acts after it, for a choice of slots; compiled at its first call."""
    text = _write(rule, active, layout, after)
    pure = {
        "direction": rule.direction,
        **{f"after{number}": wrapper.after_step for number, (wrapper, _) in enumerate(after)},
    }
    scope: dict[str, Any] = {"numba": numba, "np": np, "pointer": pointer, "compiled": compiled, "sum_finite": sum_finite}
    scope |= {"__name__": __name__}
    scope |= {name: compiled.helper(function) for name, function in pure.items()}
    exec(compile(text, f"<kernel of {rule.name}>", "exec"), scope)
    return cast(Callable[..., bool], scope[f"{rule.name}_step"])

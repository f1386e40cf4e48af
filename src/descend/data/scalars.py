"""Single values of other libraries, as plain Python has them. The libraries are not imported: a value is known by what it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
_HASHED = frozenset({str, int, float, bool, np.str_, np.bool_, *np.sctypeDict.values()} - {np.void, np.object_})


def plain(value: Any) -> Any:
    """Return a scalar of NumPy, torch, TensorFlow or Arrow as plain Python, None for a masked or null one; all else as it is.

    >>> import numpy as np
    >>> from descend.data.scalars import plain
    >>> [plain(value) for value in (np.int64(3), np.array("cat"), np.ma.masked, "dog")]
    [3, 'cat', None, 'dog']
    """
    if type(value) in (str, int, float):  # nearly all
        return value
    if hasattr(value, "as_py"):
        return value.as_py()
    if getattr(value, "ndim", 1) != 0:
        return value
    if np.ma.is_masked(value):  # its item() is 0.0
        return None
    value = value if hasattr(value, "item") or not hasattr(value, "numpy") else value.numpy()
    return value.item() if hasattr(value, "item") else value


def on_each(function: Callable[[Any], T], values: Iterable[Any]) -> list[T]:
    """Return what a function answers for each value, which it is asked once for equal words or numbers of one type.

    >>> from descend.data.scalars import on_each
    >>> on_each(str, [1, True, 1.0, 1])
    ['1', 'True', '1.0', '1']
    """
    known: dict[tuple[type, Any], T] = {}
    found: list[T] = []
    for value in values:
        kind = type(value)
        if kind not in _HASHED:
            found.append(function(value))
            continue
        key = (kind, value)
        if key not in known:
            known[key] = function(value)
        found.append(known[key])
    return found

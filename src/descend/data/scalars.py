"""Single values of other libraries, as plain Python has them. The libraries are not imported: a value is known by what it has."""

from __future__ import annotations

from typing import Any

import numpy as np


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

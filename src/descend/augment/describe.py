"""What was drawn, for people to read: one flat dictionary per picture, ready for a caption or for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Description: TypeAlias = dict[str, Any]

_LISTED = 8  # numbers that still read well as a list


def described(parameters: Mapping[str, Mapping[str, NDArray[np.generic]]], n: int) -> list[Description]:
    """Return for each of n pictures ``{"rotate.degrees": -3.25, "flip.flipped": True, ...}`` in the order of the stages.

    Floats keep four digits; NaN, which stands for *not done*, becomes None. Up to eight numbers are listed; more are told
    in a few words: how many switches are on, or the range of the values.
    """
    quantities = [(f"{stream}.{name}", values) for stream, noted in parameters.items() for name, values in noted.items()]
    return [{name: _readable(values[k]) for name, values in quantities} for k in range(n)]


def _readable(value: NDArray[np.generic] | np.generic) -> Any:
    array = np.asarray(value)
    if array.size > _LISTED:
        return _in_words(array)
    if array.ndim:
        return [_readable(part) for part in array]
    plain = array.item()
    if not isinstance(plain, float):
        return plain
    return None if np.isnan(plain) else float(f"{plain:.4g}")


def _in_words(array: NDArray[np.generic]) -> str:
    if array.dtype == np.bool_:
        return f"{int(array.sum())} of {array.size}"
    return f"{' x '.join(map(str, array.shape))} numbers, {array.min():.4g} to {array.max():.4g}"

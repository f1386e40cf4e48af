"""From which stored values deep pictures become levels: what lies at the ends of their values, and the scale of a whole data set.

A few values at either end, and a value that stands apart from all others, are no brightness: hot pixels, borders that were drawn
in, numbers that stand for missing data. One of them in the scale would leave a single level to everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

USUAL_INTEGERS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8, 10, 12, 14 and 16 bits
_USUAL_FLOATS = (1.0, *USUAL_INTEGERS)
_LEAST_USE = 0.25  # a shared scale is a usual one only where the pictures use this part of it
_OUTLIERS = 1 / 1000  # of a picture's values, at either end: one hot pixel must not decide about a data set
_FEW = 64  # values: of so many, and more, at least one at either end is left out
_LEAST_BODY = 32  # values: with less left, there is nothing that another could stand apart from
_SOME = 16  # one of so many values is looked at first
_APART = 10  # times the spread of all others: 12 bits in 16, and a border of 65535, are 15 times apart
_MISSING = frozenset(
    float(np.float32(value))
    for value in (-999, -9999, -99999, -32768, -(2**31), 1e20, 9.969209968386869e36, np.finfo("f4").min, np.finfo("f4").max)
)
"""Values that stand for missing data in rasters of the earth, GDAL's and netCDF's among them: once as far away is enough."""


class Ends(NamedTuple):
    """The ends of a picture's values. low, high: without what is left out. n_apart: how many values stand apart."""

    low: float
    high: float
    n_apart: int


def ends(values: NDArray[Any]) -> Ends:
    """Return the ends of finite values, (n,), n > 0, less a thousandth at either end and the values that stand apart.

    A thousandth is one value at least, but for less than 64 values. A value stands apart if it occurs more often than that, and
    nothing lies within ten times the spread of all others from it; a number that usually stands for missing data, within once
    their spread. 0 never does: black is black.

    >>> import numpy as np
    >>> from descend.value_range import ends
    >>> ends(np.repeat([0.25, 0.5, -9999], [45, 45, 10]))
    Ends(low=0.25, high=0.5, n_apart=10)
    """
    k = max(int(_OUTLIERS * (values.size - 1)), int(values.size >= _FEW))
    low, high = _trimmed(values, k)
    if any(_least_half(values[::every], low, high) > k for every in (_SOME, 1)):  # what some of them show holds for all
        return Ends(low, high, 0)  # as in most pictures: no end is further from the others than these spread
    odd = {end: int((values == end).sum()) for end in {low, high} - {0.0}}
    odd = {end: n for end, n in odd.items() if n > max(k, 1)}
    rest = values[~np.isin(values, [*odd])] if odd and low < high else values[:0]
    if rest.size < _LEAST_BODY + 2 * k:
        sound = {low, high} - _MISSING if low < high else set[float]()
        (only,) = sound if len(sound) == 1 else (None,)
        return Ends(low, high, 0) if only is None else Ends(only, only, sum(odd.get(end, 0) for end in {low, high} - {only}))
    first, last = _trimmed(rest, k)
    spread = last - first
    below = low in odd and _stands_apart(low, first - low, spread)
    above = high in odd and _stands_apart(high, high - last, spread)
    if below != above:  # the other end is one of those to stand apart from
        first, last = (first, max(last, high)) if below else (min(first, low), last)
        below = below and _stands_apart(low, first - low, last - first)
        above = above and _stands_apart(high, high - last, last - first)
    return Ends(first if below else low, last if above else high, odd.get(low, 0) * below + odd.get(high, 0) * above)


def _least_half(values: NDArray[Any], low: float, high: float) -> int:
    """Return how many values lie between two ends on that side of their middle where fewer do."""
    middle = low + (high - low) / 2
    return min(int(((values > low) & (values < middle)).sum()), int(((values > middle) & (values < high)).sum()))


def _trimmed(values: NDArray[Any], k: int) -> tuple[float, float]:
    """Return the lowest and the highest value less ``k`` at either end."""
    ordered = np.partition(values, (k, values.size - 1 - k))
    return float(ordered[k]), float(ordered[values.size - 1 - k])


def _stands_apart(value: float, gap: float, spread: float) -> bool:
    """Return whether a value is so far from the nearest other that it cannot be more of the same."""
    if value in _MISSING:
        return gap > spread
    return value != 0 and spread > 0 and gap > _APART * spread


def shared_scale(lows: Sequence[float], highs: Sequence[float], *, floats: bool, stretched: bool = True) -> tuple[float, float]:
    """Return the one scale of many deep pictures from their lowest and highest values (``pixels.extremes``).

    The smallest usual range that holds them all (0..1 for floats; 0 to the largest number of 8, 10, 12, 14 or 16 bits) keeps
    black black and bright bright. Where they use less than a quarter of it, or lie outside, their own lowest and highest values
    are the ends: 8 bits would lose too much. ``stretched=False`` takes a usual range however little of it they use, and so does
    a single value: between its own ends, white would be black. A picture of a single value that stands apart from
    all others (``ends``) has no part in the scale.

    >>> from descend.value_range import shared_scale
    >>> shared_scale([31, 0], [3967, 4012], floats=False)
    (0.0, 4095.0)
    >>> shared_scale([960], [1140], floats=False)
    (960.0, 1140.0)
    """
    low, high = _range_of_all(np.asarray(lows, np.float64), np.asarray(highs, np.float64))
    peak = next((peak for peak in (_USUAL_FLOATS if floats else USUAL_INTEGERS) if low >= 0 and high <= peak), None)
    if peak is not None and (not stretched or low == high or high - low >= _LEAST_USE * peak):
        return 0.0, peak
    return (low, high) if low < high else (min(low, 0.0), max(high, 0.0))


def _range_of_all(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of all pictures, but for those of a single value that stands apart from the range of the others."""
    varied = lows < highs
    if not varied.any():
        return float(lows.min()), float(highs.max())
    low, high = float(lows[varied].min()), float(highs[varied].max())
    single = np.unique(lows[~varied]).tolist()
    single = [value for value in single if not _stands_apart(value, max(low - value, value - high), high - low)]
    return min(low, *single, high), max(high, *single, low)

"""The compiled kernels of ``inverted_residual``: a depthwise convolution with what is clipped before and after it, in one pass.

Maps lie with their channels innermost, (N, H, W, C), C a multiple of 16; sixteen channels of one image are worked on at a time,
in a padded float32 copy that stays in the cache of the core. ``taps`` is a tuple as long as the side of the kernel, so that
the loops over taps are unrolled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from descend.compiled import LEAN, helper, kernel
from descend.threads import run_parts
from descend.transfer.simd import N, clipped, lanes, nothing, plus, put, same, spread, where_moving, with_products, with_taps

PARTS = 8  # of a batch, whose gradients are summed each by itself: as many whatever the threads, so that they change no bit
Limits = tuple[float, float, float]
Maps = NDArray[Any]  # (N, H, W, C) float32, or int16 that hold bfloat16


class Geometry(NamedTuple):
    """How a convolution moves over a map. side: of its kernel, and stride, the same for rows and columns.

    height, width: of the map it reads; h, w: of the one it writes. top, left: rows and columns of zeros before the map's own.
    """

    side: int
    stride: int
    height: int
    width: int
    h: int
    w: int
    top: int
    left: int

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns that it touches, zeros included."""
        rows = max((self.h - 1) * self.stride + self.side, self.height + self.top)
        return rows, max((self.w - 1) * self.stride + self.side, self.width + self.left)

    def of(self, x: Maps) -> tuple[int, ...]:
        """Return what the kernels read of it, and of the channels of a batch."""
        return self.height, self.width, self.h, self.w, x.shape[3], self.stride, self.top, self.left, self.padded[1]

    def room(self, rim: int = 0) -> NDArray[np.float32]:
        """Return zeros for one block of channels of a map that is read, or with a rim of one that is written."""
        rows, columns = (self.h + 2 * rim, self.w + 2 * rim) if rim else self.padded
        return np.zeros(rows * columns * N, np.float32)


@helper(**LEAN)
def _fill(
    x: Any, start: Any, width: Any, channels: Any, height: Any, row: Any, top: Any, left: Any, low: Any, high: Any, padded: Any
) -> None:
    """Copy 16 channels of an image into the middle of ``padded``, clipped."""
    for i in range(height):
        for j in range(width):
            value = clipped(lanes(x, start + (i * width + j) * channels), low, high)
            put(padded, ((i + top) * row + j + left) * N, value)


@kernel(**LEAN)
def _forward(
    x: Any, weight: Any, bias: Any, taps: Any, geometry: Any, limits: Any, images: Any, y: Any, padded: Any
) -> None:  # fmt: skip
    height, width, h, w, channels, stride, top, left, row = geometry
    side = len(taps)
    low, high, zero, ceiling = same(limits[0]), same(limits[1]), same(np.float32(0)), same(limits[2])
    for n in range(images[0], images[1]):
        for c in range(0, channels, N):
            _fill(x, n * height * width * channels + c, width, channels, height, row, top, left, low, high, padded)
            start = lanes(bias, c)
            for i in range(h):
                out = (n * h + i) * w * channels + c
                j = 0
                while j + 4 <= w:
                    four = (start, start, start, start)
                    for dy in range(side):
                        place = ((i * stride + dy) * row + j * stride) * N
                        four = with_taps(four, padded, place, stride * N, weight, dy * side * channels + c, channels, taps)
                    put(y, out + j * channels, clipped(four[0], zero, ceiling))
                    put(y, out + (j + 1) * channels, clipped(four[1], zero, ceiling))
                    put(y, out + (j + 2) * channels, clipped(four[2], zero, ceiling))
                    put(y, out + (j + 3) * channels, clipped(four[3], zero, ceiling))
                    j += 4
                while j < w:
                    one = (start,)
                    for dy in range(side):
                        place = ((i * stride + dy) * row + j * stride) * N
                        one = with_taps(one, padded, place, stride * N, weight, dy * side * channels + c, channels, taps)
                    put(y, out + j * channels, clipped(one[0], zero, ceiling))
                    j += 1


@kernel(**LEAN)
def _backward(
    x: Any, y: Any, grad: Any, weight: Any, taps: Any, geometry: Any, limits: Any, bounds: Any, parts: Any,
    grad_x: Any, grad_weight: Any, grad_bias: Any, padded: Any, moved: Any,
) -> None:  # fmt: skip
    height, width, h, w, channels, stride, top, left, row = geometry
    side = len(taps)
    rim = side - 1  # of zeros around what moved: so far reaches a tap
    wide = w + 2 * rim
    low, high, zero, ceiling = same(limits[0]), same(limits[1]), same(np.float32(0)), same(limits[2])
    for part in range(parts[0], len(bounds) - 1, parts[1]):
        of_bias, of_weight = part * channels, part * side * side * channels
        for n in range(bounds[part], bounds[part + 1]):
            for c in range(0, channels, N):
                start = n * height * width * channels + c
                _fill(x, start, width, channels, height, row, top, left, low, high, padded)
                total = lanes(grad_bias, of_bias + c)
                for i in range(h):
                    for j in range(w):
                        at = ((n * h + i) * w + j) * channels + c
                        value = where_moving(lanes(y, at), zero, ceiling, lanes(grad, at))
                        put(moved, ((i + rim) * wide + j + rim) * N, value)
                        total = plus(total, value)
                put(grad_bias, of_bias + c, total)
                for dy in range(side):
                    sums = nothing(taps)
                    for i in range(h):
                        first = (i * stride + dy) * row * N
                        for j in range(w):
                            value = lanes(moved, ((i + rim) * wide + j + rim) * N)
                            sums = with_products(sums, padded, first + j * stride * N, value)
                    for dx in range(side):
                        at = of_weight + (dy * side + dx) * channels + c
                        put(grad_weight, at, plus(lanes(grad_weight, at), sums[dx]))
                if stride == 1:
                    _gather(x, start, height, width, channels, top, left, low, high, weight, c, taps, moved, wide, grad_x)
                else:
                    _scatter(
                        x, start, height, width, h, w, channels, stride, top, left, row, low, high, weight, c, taps, moved,
                        padded, grad_x,
                    )  # fmt: skip


@helper(**LEAN)
def _gather(
    x: Any, start: Any, height: Any, width: Any, channels: Any, top: Any, left: Any, low: Any, high: Any, weight: Any, c: Any,
    taps: Any, moved: Any, wide: Any, grad_x: Any,
) -> None:  # fmt: skip
    """Sum for every place what moved where it was read, by the taps that read it: a convolution with the kernel turned around."""
    side, zero = len(taps), same(np.float32(0))
    for i in range(height):
        j = 0
        at = start + i * width * channels
        while j + 4 <= width:
            four = (zero, zero, zero, zero)
            for dy in range(side):
                last = ((side - 1 - dy) * side + side - 1) * channels + c
                four = with_taps(four, moved, ((i + top + dy) * wide + j + left) * N, N, weight, last, -channels, taps)
            put(grad_x, at, where_moving(lanes(x, at), low, high, four[0]))
            put(grad_x, at + channels, where_moving(lanes(x, at + channels), low, high, four[1]))
            put(grad_x, at + 2 * channels, where_moving(lanes(x, at + 2 * channels), low, high, four[2]))
            put(grad_x, at + 3 * channels, where_moving(lanes(x, at + 3 * channels), low, high, four[3]))
            at += 4 * channels
            j += 4
        while j < width:
            one = (zero,)
            for dy in range(side):
                last = ((side - 1 - dy) * side + side - 1) * channels + c
                one = with_taps(one, moved, ((i + top + dy) * wide + j + left) * N, N, weight, last, -channels, taps)
            put(grad_x, at, where_moving(lanes(x, at), low, high, one[0]))
            at += channels
            j += 1


@helper(**LEAN)
def _scatter(
    x: Any, start: Any, height: Any, width: Any, h: Any, w: Any, channels: Any, stride: Any, top: Any, left: Any, row: Any,
    low: Any, high: Any, weight: Any, c: Any, taps: Any, moved: Any, padded: Any, grad_x: Any,
) -> None:  # fmt: skip
    """Add what moved to every place that it was read from; ``padded``, which is not needed any more, holds the sums."""
    side = len(taps)
    rim = side - 1
    wide = w + 2 * rim
    padded[:] = 0
    for i in range(h):
        for j in range(w):
            value = lanes(moved, ((i + rim) * wide + j + rim) * N)
            for dy in range(side):
                place = ((i * stride + dy) * row + j * stride) * N
                spread(padded, place, weight, dy * side * channels + c, channels, value, taps)
    for i in range(height):
        for j in range(width):
            at, place = start + (i * width + j) * channels, ((i + top) * row + j + left) * N
            put(grad_x, at, where_moving(lanes(x, at), low, high, lanes(padded, place)))
    padded[:] = 0  # its rim must be zeros again


def forward(
    x: Maps, weight: NDArray[np.float32], bias: NDArray[np.float32], geometry: Geometry, limits: Limits, n_threads: int
) -> Maps:
    """Return clip(bias + conv(clip(x), weight)): (N, h, w, C) of the dtype of ``x``.

    x: (N, H, W, C), weight: (side, side, C), bias: (C,). limits: what ``x`` is clipped to, then the ceiling of the outer clip,
    whose floor is 0.
    """
    y = np.empty((len(x), geometry.h, geometry.w, x.shape[3]), x.dtype)
    maps, taps, edges = (x.reshape(-1), y.reshape(-1)), (0,) * geometry.side, tuple(map(np.float32, limits))
    n_threads = min(n_threads, len(x))

    def work(thread: int) -> None:
        images = thread * len(x) // n_threads, (thread + 1) * len(x) // n_threads
        _forward(maps[0], weight.reshape(-1), bias, taps, geometry.of(x), edges, images, maps[1], geometry.room())

    run_parts(work, n_threads)
    return y


def backward(
    x: Maps, y: Maps, grad: Maps, weight: NDArray[np.float32], geometry: Geometry, limits: Limits, n_threads: int
) -> tuple[Maps, NDArray[np.float32], NDArray[np.float32]]:
    """Return the gradients of ``x``, of the weight and of the bias, where ``forward`` gave ``y`` and its gradient is ``grad``."""
    channels = x.shape[3]
    grad_x = np.empty_like(x)
    weights = np.zeros((PARTS, geometry.side, geometry.side, channels), np.float32)
    biases = np.zeros((PARTS, channels), np.float32)
    maps, taps, edges = [each.reshape(-1) for each in (x, y, grad)], (0,) * geometry.side, tuple(map(np.float32, limits))
    bounds = np.linspace(0, len(x), PARTS + 1).astype(np.int64)
    n_threads = min(n_threads, PARTS)

    def work(thread: int) -> None:
        _backward(
            *maps, weight.reshape(-1), taps, geometry.of(x), edges, bounds, (thread, n_threads),
            grad_x.reshape(-1), weights.reshape(-1), biases.reshape(-1), geometry.room(), geometry.room(geometry.side - 1),
        )  # fmt: skip

    run_parts(work, n_threads)
    return grad_x, weights.sum(0), biases.sum(0)

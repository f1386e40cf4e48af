"""The compiled kernel of ``depthwise``: the gradient of a depthwise convolution's weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.compiled import kernel
from descend.threads import run_parts

PARTS = 8  # of a batch, summed each by itself: as many whatever the threads, so that their number changes no bit


@kernel(fastmath={"contract"})
def _add_weight_gradient(x: Any, grad: Any, stride: Any, padding: Any, out: Any) -> None:
    n_images, height, width, channels = x.shape
    side = out.shape[0]
    for n in range(n_images):
        for i in range(grad.shape[1]):
            for dy in range(side):
                y = i * stride + dy - padding
                if y < 0 or y >= height:
                    continue
                for j in range(grad.shape[2]):
                    for dx in range(side):
                        column = j * stride + dx - padding
                        if column < 0 or column >= width:
                            continue
                        for c in range(channels):
                            out[dy, dx, c] += x[n, y, column, c] * grad[n, i, j, c]


def weight_gradient(
    x: NDArray[np.float32], grad: NDArray[np.float32], side: int, stride: int, padding: int, n_threads: int
) -> NDArray[np.float32]:
    """Return the gradient (side, side, C) of the weights: x (N, H, W, C) the input, grad (N, h, w, C) that of the output."""
    bounds = np.linspace(0, len(x), PARTS + 1).astype(int)
    sums = np.zeros((PARTS, side, side, x.shape[3]), np.float32)
    n_threads = min(n_threads, PARTS)

    def work(thread: int) -> None:
        for part in range(thread, PARTS, n_threads):
            low, high = bounds[part], bounds[part + 1]
            _add_weight_gradient(x[low:high], grad[low:high], stride, padding, sums[part])

    run_parts(work, n_threads)
    return sums.sum(0)

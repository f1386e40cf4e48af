"""What the kernels of geometry share: how pixels are read, the memory that they work in, and what becomes of a row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from descend.augment.color_kernels import N_NUMBERS, add_row, finish, lean, look_up
from descend.augment.noise_kernels import blocks_for

COPIED, STRAIGHT, AFFINE, SAMPLED = range(4)
REFLECT, CONSTANT, REPLICATE, WRAP = range(4)  # in the order of ``factors.BORDERS``
_F, _I = np.float32, np.int32


class Reading(NamedTuple):
    """How stored pixels are read, see ``factors.Sampling``."""

    border: Any  # its number in ``factors.BORDERS``
    cubic: Any
    outside: Any  # (3,) float32, the levels of a constant border


class Rows(NamedTuple):
    """What becomes of the rows of an image as they are made."""

    table: Any  # (3, 256) float32 levels that change their tone, or no entries
    adapted: Any  # whether tone depends on the whole image
    summed: Any  # whether color depends on its mean
    later: Any  # whether they are kept, to be finished when all are there
    copied: Any  # whether stored levels are copied, which are looked up in the table at once


class Work(NamedTuple):
    """Memory of one thread for images of H x W pixels that become h x w: it is written, read and forgotten."""

    levels: Any  # (3 h w + 1,) float32
    row: Any  # (3 w + 1,)
    line: Any  # (3 w + 1,)
    stored: Any  # (3 W + 1,), or 3 H + 1 if that is more
    turned: Any  # (3 H W,) uint8
    sums: Any  # (3 w,) float64
    x: Any  # (w,) float64, places in the stored image
    y: Any
    at: Any  # (w,) int32, where in its bytes
    across: Any  # (w,) float32, shares of the neighbors
    down: Any
    index: Any  # (2, t n) int64, see ``taps_of``: n the longer side of the output
    weight: Any  # (2, t n) float32
    inside: Any  # (2, n)
    words: Any  # (4 n,) uint32
    normals: Any  # (8 n,) float32
    counts: Any  # (3, 256) float64
    tallies: Any  # (4 * 3 * 256,) uint32
    table: Any  # (3, 256) float32
    numbers: Any  # (28,) see ``Finish``


def work_for(stored, canvas, n_taps):
    """Return memory for stored images (H, W) that become (h, w) = ``canvas``, each coordinate from n_taps pixels at most."""
    (height, width), (h, w) = stored, canvas
    longest, n_blocks = max(h, w), blocks_for(3 * w)
    shapes = (
        (3 * h * w + 1, _F), (3 * w + 1, _F), (3 * w + 1, _F), (3 * max(height, width) + 1, _F), (3 * height * width, np.uint8),
        (3 * w, np.float64), (w, np.float64), (w, np.float64), (w, _I), (w, _F), (w, _F),
        ((2, n_taps * longest), np.int64), ((2, n_taps * longest), _F), ((2, longest), _F),
        (4 * n_blocks, np.uint32), (8 * n_blocks, _F), ((3, 256), np.float64), (3072, np.uint32), ((3, 256), _F),
    )  # fmt: skip
    # Every fourth of the numbers stands for no channel and is computed with all the same: what lies there by chance may be
    # subnormal, for which processors of Intel take a hundred cycles instead of one. Color took 3 ms a picture, not 0.2.
    return Work(*(np.empty(shape, kind) for shape, kind in shapes), numbers=np.zeros(N_NUMBERS, _F))


@lean
def start_of(i, later, sums):
    """Return where in ``Work.levels`` row i is made; what is finished at once is always at the start. sums: ``Work.sums``."""
    return i * sums.size if later else 0


@lean
def emit(row, i, rows, to, sums, out, whole_out):
    """Take row i of an image, as geometry left it, as far as it can go without the others. sums: ``Work.sums``."""
    n = sums.size
    if rows.table.size and not rows.copied:
        look_up(row, n, rows.table)
    if rows.summed and not rows.adapted:
        add_row(sums, row)
    if not rows.later:
        finish(row, to, i * n, out, whole_out)


@lean
def placed(i, n, border):
    """Fold a whole number into 0..n-1 as the border says; -1 is beyond a constant border."""
    if 0 <= i < n:
        return i
    if border == CONSTANT:
        return -1
    if border == REPLICATE:
        return 0 if i < 0 else n - 1
    if border == WRAP:
        return i % n
    if n == 1:
        return 0
    i = abs(i) % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@lean
def keys(x):
    """Weigh a pixel at a distance of 0 to 2 for cubic convolution, a = -1/2; see ``resampling``."""
    return (1.5 * x - 2.5) * x * x + 1 if x <= 1 else ((-0.5 * x + 2.5) * x - 4) * x + 2


@lean
def clamp(row):
    """Bring what cubic convolution overshot back into 0..255."""
    for k in range(row.size):
        row[k] = min(max(row[k], _F(0)), _F(255))

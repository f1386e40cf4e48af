"""What a round trip through JPEG does to pixels, without the file: libjpeg's whole numbers, to the bit.

Huffman coding loses nothing, so it is left out. What remains is in the order of the standard (ITU-T T.81, JFIF) and with the
roundings of libjpeg's "islow" transforms: YCbCr in 2**-16, Cb and Cr averaged over 2 x 2 pixels, 8 x 8 cosines (Loeffler,
Ligtenberg & Moschytz 1989, factors in 2**-13), multiples of the quantization steps, and all the way back, where Cb and Cr are
interpolated with weights 9, 3, 3, 1. Sixteen blocks are transformed at a time, one in each lane.

Blocks know nothing of each other, so a window of a picture needs only the blocks that it lies in, and those one sample of Cb and
Cr further on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from descend.augment.simd_integers import (
    N,
    byte_ints,
    channels,
    copy_bytes,
    eights,
    ints,
    nearest_multiple,
    one_two,
    pair_sums,
    put_bytes,
    put_channels,
    put_eights,
    put_ints,
    put_pairs,
)
from descend.compiled import LEAN, helper, kernel

lean = helper(**LEAN)
_CHUNK = 2 * N  # pixels of a row that are worked on at a time: sixteen pairs
_SIDE = 16  # pixels of a unit: four blocks of Y, one of Cb and one of Cr
_LUMA = """
    16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
    18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""
_CHROMA = (
    """
    17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
"""
    + 32 * " 99"
)
_TABLES = np.array([table.split() for table in (_LUMA, _CHROMA)], np.int32)  # ITU-T T.81, annex K


class Work(NamedTuple):
    """Memory for a region of a picture, padded to whole chunks and units: it is written, read and forgotten."""

    pixels: Any  # (3 pitch,) uint8, a row
    fine: Any  # (2, 2, pitch) uint8: Cb and Cr of two rows
    sums: Any  # (2, pitch / 2 + 32) int32: Cb and Cr of two rows, weighed 3 to 1
    luma: Any  # (rows, pitch) uint8
    chroma: Any  # (2, rows, pitch / 2) uint8
    block: Any  # (64 * 16,) int32
    places: Any  # (16,) int64


def steps(quality: int) -> NDArray[np.int32]:
    """Return the quantization steps of luma and chroma, row by row: (2, 64) int32, 1 to 255; see ``neighborhood.Jpeg``."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((scale * _TABLES + 50) // 100, 1, 255)


def region_of(window: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Return the units that a window of an image depends on: (4,) top, bottom, left and right in pixels."""
    low, high = (window[::2] - 2) // _SIDE * _SIDE, -(-(window[1::2] + 2) // _SIDE) * _SIDE
    return np.array([max(low[0], 0), min(high[0], height), max(low[1], 0), min(high[1], width)])


def work_for(region: NDArray[np.int64]) -> Work:
    """Return memory for a region."""
    height, width = int(region[1] - region[0]), int(region[3] - region[2])
    pitch, rows = -(-width // _CHUNK) * _CHUNK, -(-height // _SIDE) * _SIDE
    shapes = ((3 * pitch, np.uint8), ((2, 2, pitch), np.uint8), ((2, pitch // 2 + 2 * N), np.int32), ((rows, pitch), np.uint8),
              ((2, rows // 2, pitch // 2), np.uint8), (64 * N, np.int32), (N, np.int64))  # fmt: skip
    return Work(*(np.empty(shape, kind) for shape, kind in shapes))


@lean
def _odd(a, b, c, d):
    """Return the odd half of a cosine transform, the same in both directions, in 2**-13."""
    e, f, g, h = (a + d) * -7373, (b + c) * -20995, a + c, b + d
    both = (g + h) * 9633
    g, h = g * -16069 + both, h * -3196 + both
    return a * 2446 + e + g, b * 16819 + f + h, c * 25172 + f + g, d * 12299 + e + h


@lean
def _forward(x, bits):
    """Transform eight numbers to their cosine coefficients times sqrt(8) * 2**(13 - bits)."""
    a, b, c, d = x[0] + x[7], x[1] + x[6], x[2] + x[5], x[3] + x[4]
    p, q, r, s = a + d, b + c, b - c, a - d
    both, half = (r + s) * 4433, 1 << (bits - 1)
    t, u, v, w = _odd(x[3] - x[4], x[2] - x[5], x[1] - x[6], x[0] - x[7])
    return (
        ((p + q) * 8192 + half) >> bits,
        (w + half) >> bits,
        (both + s * 6270 + half) >> bits,
        (v + half) >> bits,
        ((p - q) * 8192 + half) >> bits,
        (u + half) >> bits,
        (both - r * 15137 + half) >> bits,
        (t + half) >> bits,
    )


@lean
def _inverse(x, bits):
    """Transform eight coefficients back, to numbers times sqrt(8) * 2**(13 - bits)."""
    both, half = (x[2] + x[6]) * 4433, 1 << (bits - 1)
    a, b = both - x[6] * 15137, both + x[2] * 6270
    c, d = (x[0] + x[4]) * 8192 + half, (x[0] - x[4]) * 8192 + half
    p, q, r, s = c + b, d + a, d - a, c - b
    t, u, v, w = _odd(x[7], x[5], x[3], x[1])
    return (
        (p + w) >> bits,
        (q + v) >> bits,
        (r + u) >> bits,
        (s + t) >> bits,
        (s - t) >> bits,
        (r - u) >> bits,
        (q - v) >> bits,
        (p - w) >> bits,
    )


@lean
def _column(block, j, step):
    """Return eight numbers of each of sixteen blocks, from place j on."""
    return (
        ints(block, j * N),
        ints(block, (j + step) * N),
        ints(block, (j + 2 * step) * N),
        ints(block, (j + 3 * step) * N),
        ints(block, (j + 4 * step) * N),
        ints(block, (j + 5 * step) * N),
        ints(block, (j + 6 * step) * N),
        ints(block, (j + 7 * step) * N),
    )


@lean
def _put_column(block, j, step, x):
    """Write eight numbers of each of sixteen blocks, from place j on."""
    for k in range(8):
        put_ints(block, (j + k * step) * N, x[k])


@lean
def _quantized(x, steps, j):
    """Return eight coefficients, 8 times too large, as multiples of their steps."""
    return (
        _multiple(x[0], steps[j]),
        _multiple(x[1], steps[8 + j]),
        _multiple(x[2], steps[16 + j]),
        _multiple(x[3], steps[24 + j]),
        _multiple(x[4], steps[32 + j]),
        _multiple(x[5], steps[40 + j]),
        _multiple(x[6], steps[48 + j]),
        _multiple(x[7], steps[56 + j]),
    )


@lean
def _multiple(x, step):
    inverse = np.float32(0.125) / np.float32(step)
    return nearest_multiple(x, step, inverse, np.float32(0.5) + np.float32(0.25) * inverse)


@lean
def _lossy(plane, height, width, steps, block, places):
    """Bring the blocks of a plane to multiples of the steps (64,) int32, in place; height, width: in blocks."""
    flat, pitch = plane.reshape(-1), plane.shape[1]
    for first in range(0, height * width, N):
        for k in range(N):
            at = min(first + k, height * width - 1)
            places[k] = (at // width * pitch + at % width) * 8
        for i in range(8):
            x = eights(flat, places, i * pitch)
            x = (x[0] - 128, x[1] - 128, x[2] - 128, x[3] - 128, x[4] - 128, x[5] - 128, x[6] - 128, x[7] - 128)
            _put_column(block, 8 * i, 1, _forward(x, 11))
        for j in range(8):
            x = _forward(_column(block, j, 8), 15)
            _put_column(block, j, 8, _inverse(_quantized(x, steps, j), 11))
        for i in range(8):
            x = _inverse(_column(block, 8 * i, 1), 18)
            x = (x[0] + 128, x[1] + 128, x[2] + 128, x[3] + 128, x[4] + 128, x[5] + 128, x[6] + 128, x[7] + 128)
            put_eights(flat, places, i * pitch, x)


@lean
def _separated(row, luma, blue, red):
    """Write Y, Cb and Cr of a row of pixels, uint8 all."""
    for k in range(0, luma.size, N):
        r, g, b = channels(row, 3 * k)
        put_bytes(luma, k, (r * 19595 + g * 38470 + b * 7471 + 32768) >> 16)
        put_bytes(blue, k, (b * 32768 - r * 11059 - g * 21709 + 8421375) >> 16)
        put_bytes(red, k, (r * 32768 - g * 27439 - b * 5329 + 8421375) >> 16)


@lean
def _averaged(above, below, out):
    """Write the averages of 2 x 2 numbers, halves rounded up and down by turns."""
    for k in range(0, out.size, N):
        put_bytes(out, k, (pair_sums(above, 2 * k) + pair_sums(below, 2 * k) + one_two()) >> 2)


@lean
def _split(image, region, work):
    """Write the planes of a region; beyond the last pixels of an image they are repeated as libjpeg does it, to whole blocks."""
    top, bottom, left, right = region
    flat, pixels, n, height = image.reshape(-1), work.pixels, 3 * (right - left), bottom - top
    for i in range(height + height % 2):
        copy_bytes(pixels, 0, flat, 3 * (min(top + i, bottom - 1) * image.shape[1] + left), n)
        for k in range(n, pixels.size):
            pixels[k] = pixels[k - 3]
        _separated(pixels, work.luma[i], work.fine[i % 2, 0], work.fine[i % 2, 1])
        if i % 2:
            for c in range(2):
                _averaged(work.fine[0, c], work.fine[1, c], work.chroma[c, i // 2])
    _repeated(work.luma, height)
    for c in range(2):
        _repeated(work.chroma[c], (height + 1) // 2)


@lean
def _repeated(plane, n):
    """Write row n - 1 to the rows after it."""
    for i in range(n, len(plane)):
        copy_bytes(plane[i], 0, plane[n - 1], 0, plane.shape[1])


@lean
def _finer(near, far, n, sums, out):
    """Write a line of n numbers twice as fine, between the lines near (3/4) and far (1/4); sums: (n + 2,) or more int32."""
    inner = sums[N:]
    for k in range(0, near.size, N):
        put_ints(inner, k, byte_ints(near, k) * 3 + byte_ints(far, k))
    sums[N - 1], inner[n] = inner[0], inner[n - 1]
    for k in range(0, near.size, N):
        middle = ints(inner, k) * 3
        put_pairs(out, 2 * k, (middle + ints(sums, N - 1 + k) + 8) >> 4, (middle + ints(sums, N + 1 + k) + 7) >> 4)


@lean
def _plain(near, out):
    """Write each number of a line twice."""
    for k in range(0, near.size, N):
        put_pairs(out, 2 * k, byte_ints(near, k), byte_ints(near, k))


@lean
def _joined(luma, blue, red, row):
    """Write the pixels of a row from its Y, Cb and Cr."""
    for k in range(0, luma.size, N):
        y, b, r = byte_ints(luma, k), byte_ints(blue, k) - 128, byte_ints(red, k) - 128
        put_channels(
            row,
            3 * k,
            y + ((r * 91881 + 32768) >> 16),
            y + ((b * -22554 - r * 46802 + 32768) >> 16),
            y + ((b * 116130 + 32768) >> 16),
        )


@lean
def _join(work, region, window, out):
    """Write a window of an image from the planes of its region."""
    top, bottom, left, right = region
    flat, pixels, n_lines, n_across = out.reshape(-1), work.pixels, (bottom - top + 1) // 2, (right - left + 1) // 2
    for i in range(window[0] - top, window[1] - top):
        near, far = i // 2, min(max(i // 2 + 2 * (i % 2) - 1, 0), n_lines - 1)
        for c in range(2):
            lines = work.chroma[c]
            if n_across > 2:
                _finer(lines[near], lines[far], n_across, work.sums[c], work.fine[0, c])
            else:  # libjpeg does not interpolate lines this short
                _plain(lines[near], work.fine[0, c])
        _joined(work.luma[i], work.fine[0, 0], work.fine[0, 1], pixels)
        at, n = 3 * ((top + i) * out.shape[1] + window[2]), 3 * (window[3] - window[2])
        copy_bytes(flat, at, pixels, 3 * (window[2] - left), n)


@kernel(**LEAN)
def jpeg(image, window, region, steps, work, out):
    """Write to a window of ``out`` what JPEG leaves of an image (H, W, 3) uint8: see ``steps``, ``region_of``, ``work_for``."""
    height, width = region[1] - region[0], region[3] - region[2]
    _split(image, region, work)
    _lossy(work.luma, (height + 7) // 8, (width + 7) // 8, steps[0], work.block, work.places)
    for c in range(2):
        _lossy(work.chroma[c], (height + 15) // 16, (width + 15) // 16, steps[1], work.block, work.places)
    _join(work, region, window, out)

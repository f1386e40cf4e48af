"""The meaning of a draw once more, compiled: one image at a time, in cache, from uint8 to the training layout.

``apply`` defines what these loops compute; tests hold them to it within one level of 255. An image is made row by row, its
channels interleaved as they are stored: geometry writes a row of float levels (``resampling_kernels``), which goes through tone,
colour, clamp and normalisation (``color_kernels``) to the output; where those need the whole image first (a mean, a histogram),
it is finished afterwards. Pixels are computed four numbers at a time, see ``simd``.

The code loops where NumPy has a word, because Numba's versions of ``sum``, ``any``, ``transpose`` and their kin are general: they
took two thirds of the 25 s of compilation.
"""

from __future__ import annotations

import numpy as np

from descend.augment.color_kernels import Finish, equalizing, finish, look_up, means_of, spread
from descend.augment.noise_kernels import add_noise, fill_noise
from descend.augment.resampling_kernels import AFFINE, COPIED, STRAIGHT, affine, sample, straight
from descend.compiled import helper, kernel

_F = np.float32


@helper
def paint(out, factors, b):
    """Fill the boxes (n, 4) of a finished image (h, w, 3) with their levels (n, 3), infinity with noise."""
    boxes, fills, gain, bias, words = factors.boxes[b], factors.fills[b], factors.gain, factors.bias, factors.words[b]
    done, width = out.reshape(-1), 3 * out.shape[1]
    for k in range(len(boxes)):
        top, bottom, left, right = boxes[k]
        for i in range(top, bottom):
            if np.isinf(fills[k, 0]):
                start, stop = i * width + 3 * left, i * width + 3 * right
                fill_noise(done, start, stop, factors.mean, factors.std, gain, bias, words[0], words[3], words[4])
            else:
                for c in range(3):
                    out[i, left:right, c] = fills[k, c] * gain[c] + bias[c]


@helper
def complete(levels, factors, b, to, out):
    """Finish an image (3 h w + 1,) whose tone or colour depends on all of it, or that takes noise before its clamp."""
    width, whole, done, table, color = 3 * out.shape[1], levels[:-1], out.reshape(-1), factors.table[b], factors.color[b]
    for c in range(3):
        plane = whole[c::3]
        if factors.stretch[b]:
            spread(plane)
        if factors.flatten[b]:
            look_up(plane, equalizing(plane))
        if table.size:
            look_up(plane, table[c])
    if color.size:
        means = means_of(whole, out.shape[1])
        for c in range(3):
            to.offset[c] += color[c, 3] * means[0] + color[c, 4] * means[1] + color[c, 5] * means[2]
    for start in range(0, done.size, width):
        finish(levels[start : start + width + 1], to, done[start : start + width])
    if factors.sigma[b] > 0:
        words, gain, bias = factors.words[b], factors.gain, factors.bias
        add_noise(done, factors.sigma[b], words[0], words[1], words[2])
        for start in range(0, done.size, width):
            row = done[start : start + width]
            for k in range(row.size):
                row[k] = min(max(row[k], _F(0)), _F(255)) * gain[k] + bias[k]


@helper
def make(image, factors, b, levels, out):
    """Make image b of a batch: image (H, W, 3) uint8 -> out (h, w, 3) float32; levels: (3 h w + 1,) float32, overwritten."""
    gain, bias, table, color = factors.gain, factors.bias, factors.table[b], factors.color[b]
    noisy, columns, offset = factors.sigma[b] > 0, np.zeros(13, np.float32), np.zeros(4, np.float32)
    later = noisy or factors.stretch[b] or factors.flatten[b]
    if color.size:
        for c in range(3):
            columns[c], columns[c + 4], columns[c + 8], offset[c] = color[c, 0], color[c, 1], color[c, 2], color[c, 6]
            later = later or color[c, 3] != 0 or color[c, 4] != 0 or color[c, 5] != 0
    low, high = (_F(-np.inf), _F(np.inf)) if noisy else (_F(0), _F(255))
    scale, shift = (np.ones_like(gain), np.zeros_like(bias)) if noisy else (gain, bias)
    scratch = np.empty(gain.size + 1, np.float32)
    to = Finish(table[:0] if later else table, columns, offset, color.size > 0, low, high, scale, shift, scratch)
    way, matrix, taps = factors.way[b], factors.matrix[b], factors.taps[b]
    if way <= STRAIGHT:
        straight(image, matrix, taps, way == COPIED, factors.reading, levels, later, to, out)
    elif way == AFFINE:
        affine(image, matrix, taps, factors.reading, levels, later, to, out)
    else:
        sample(image, matrix, taps, factors.shifts[b], factors.reading, levels, later, to, out)
    if later:
        complete(levels[: out.size + 1], factors, b, to, out)
    paint(out, factors, b)


@kernel
def run_part(part, n_parts, images, factors, out):
    """Make every n_parts-th image, from number ``part`` on: images (B, H, W, 3) uint8 -> out (B, h, w, 3) float32.

    factors: see ``fused.Factors``.
    """
    levels = np.empty(out.shape[1] * out.shape[2] * 3 + 1, np.float32)
    for b in range(part, len(out), n_parts):
        make(images[b], factors, b, levels, out[b])

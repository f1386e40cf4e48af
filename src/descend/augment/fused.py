"""Run a draw through the compiled kernels, where they may run: on the CPU, on all threads, or on one in a worker process."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import torch
from numpy.typing import NDArray

from descend.augment.apply import mixed
from descend.augment.factors import Draws
from descend.augment.neighborhood import processed

_HOME = os.getpid()


def may_use_threads() -> bool:
    """Whether this is the main process: workers share the cores anyway."""
    return os.getpid() == _HOME and multiprocessing.parent_process() is None


def ways(draws: Draws) -> NDArray[np.int64]:
    """Return for each picture the cheapest way to read its pixels: (B,) int64, see ``kernels``."""
    from descend.augment.kernels import AFFINE, COPIED, SAMPLED, STRAIGHT

    affine = (draws.matrix[:, 2] == (0.0, 0.0, 1.0)).all(1)
    if draws.shifts is not None:
        affine &= ~draws.shifts.any((1, 2, 3))
    m = draws.matrix
    along = ((m[:, 0, 1] == 0) & (m[:, 1, 0] == 0)) | ((m[:, 0, 0] == 0) & (m[:, 1, 1] == 0))
    return np.select([draws.copies, affine & along, affine], [COPIED, STRAIGHT, AFFINE], SAMPLED)


def levels(images: torch.Tensor, draws: Draws, mean: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Apply everything: images (B, H, W, 3) uint8 on the CPU -> (B, h, w, 3) float32, ``levels * gain + bias``.

    mean: (3,) levels that stand in for NaN in the fills; gain, bias: (3,) float32.
    """
    from descend.augment.kernels import run_part
    from descend.compiled import run_parts

    n, noise = len(draws), draws.noise
    adapt = np.zeros((n, 2), bool)
    for column, chosen in enumerate((draws.stretch, draws.flatten)):
        if chosen is not None:
            adapt[:, column] = chosen
    words = np.empty((n, 3), np.uint64)
    words[:, 0], words[:, 1:] = draws.ids.view(np.uint64), noise.key if noise else (0, 0)
    out = np.empty((n, *draws.canvas, 3), np.float32)  # by NumPy, which asks for huge pages: torch's memory costs 4 times as much
    n_threads = min(torch.get_num_threads(), n) if may_use_threads() else 1
    factors = (
        np.ascontiguousarray(processed(images, draws.neighborhood).numpy()),
        draws.matrix,
        ways(draws),
        draws.taps,
        np.empty((n, 0, 0, 0), np.float32) if draws.shifts is None else draws.shifts,
        adapt,
        np.empty((n, 0, 0), np.float32) if draws.table is None else draws.table,
        np.empty((n, 0, 0)) if draws.color is None else draws.color,
        np.zeros(n) if noise is None else noise.sigma,
        words,
        np.empty((n, 0, 4), np.int64) if draws.boxes is None else draws.boxes,
        np.empty((n, 0, 3), np.float32) if draws.fills is None else np.where(np.isnan(draws.fills), mean.numpy(), draws.fills),
        np.tile(gain.numpy(), draws.canvas[1]),
        np.tile(bias.numpy(), draws.canvas[1]),
        out,
    )
    run_parts(lambda part: run_part(part, n_threads, *factors), n_threads)
    made = torch.from_numpy(out)
    for mix in draws.mixes:
        made = mixed(made, mix)
    return made

"""Run a draw through the compiled kernels, where they may run: on the CPU, on all threads, or on one in a worker process."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from descend.augment.apply import mixed, quantiles, rounded
from descend.augment.factors import BORDERS, Draws, Sampling
from descend.augment.memory import uncleared
from descend.augment.neighborhood import compiled
from descend.augment.projection import spline
from descend.augment.resampling import outside_of
from descend.augment.windows import seen

_HOME = os.getpid()
_F = np.float32
_NO_NUMBERS = np.zeros(0, _F)


def may_use_threads() -> bool:
    """Whether this is the main process: workers share the cores anyway."""
    return os.getpid() == _HOME and multiprocessing.parent_process() is None


def ways(draws: Draws) -> NDArray[np.int64]:
    """Return for each image the cheapest way to read its pixels: (B,) int64, see ``row_kernels``."""
    from descend.augment.row_kernels import AFFINE, COPIED, SAMPLED, STRAIGHT

    m = draws.matrix
    affine = (m[:, 2] == (0.0, 0.0, 1.0)).all(1)
    for bend in draws.bends:
        affine &= ~bend.any((1, 2, 3))
    along = ((m[:, 0, 1] == 0) & (m[:, 1, 0] == 0)) | ((m[:, 0, 0] == 0) & (m[:, 1, 1] == 0))
    bilinear = draws.sampling is None or draws.sampling.interpolation == "bilinear"
    return np.select([draws.copies, affine & along, affine & bilinear], [COPIED, STRAIGHT, AFFINE], SAMPLED)


class Factors(NamedTuple):
    """What the kernels read of a draw: one array per kind of factor, with a row per image. Numba takes it as one argument."""

    matrix: NDArray[np.float64]  # (B, 3, 3)
    way: NDArray[np.int64]  # (B,) see ``ways``
    taps: NDArray[np.int64]  # (B, 2) samples that are averaged down and across
    bend_lines: NDArray[np.float64]  # (B, 2, h, k) shifts in pixels at control points across
    bend_across: NDArray[np.float64]  # (k, w) how much of each goes to a pixel
    stretch: NDArray[np.bool_]  # (B,)
    flatten: NDArray[np.bool_]  # (B,)
    table: NDArray[np.float32]  # (B, 3, 256) levels
    color: NDArray[np.float64]  # (B, 3, 7)
    sigma: NDArray[np.float64]  # (B,) of the noise, in levels
    words: NDArray[np.uint64]  # (B, 5) sample id, key of the noise, key of the noise in fills
    boxes: NDArray[np.int64]  # (B, n, 4)
    fills: NDArray[np.float32]  # (B, n, 3) levels, infinite where noise is painted
    quantiles: NDArray[np.float32]  # those of ``apply``, or no entries
    mean: NDArray[np.float32]  # (3,) levels, of that noise
    std: NDArray[np.float32]
    gain: NDArray[np.float32]  # (3,) the output is levels * gain + bias
    bias: NDArray[np.float32]
    reading: Any  # row_kernels.Reading


_ABSENT: dict[str, tuple[tuple[int, ...], type]] = {  # a row of a factor that the draw lacks, and its type
    "stretch": ((), np.bool_),
    "flatten": ((), np.bool_),
    "table": ((0, 0), np.float32),
    "color": ((0, 0), np.float64),
    "boxes": ((0, 4), np.int64),
    "fills": ((0, 3), np.float32),
}


def reading_of(draws: Draws, mean: torch.Tensor) -> Any:
    """Return how the kernels read stored pixels. mean: (3,) levels that stand in for NaN in the color of the border."""
    from descend.augment.row_kernels import Reading

    sampling = draws.sampling or Sampling()
    return Reading(BORDERS.index(sampling.border), sampling.interpolation == "bicubic", outside_of(draws, mean).numpy())


def bends_of(draws: Draws) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``Draws.shifts`` as two factors, whose product over the control points across is the shift of a pixel."""
    h, w = draws.canvas
    if not draws.bends:
        return np.zeros((len(draws), 2, 0, 0)), np.zeros((0, w))
    lines = [min(h, w) * (spline(_middles(h), bend.shape[2]) @ bend) for bend in draws.bends]
    across = [spline(_middles(w), bend.shape[3]).T for bend in draws.bends]
    return np.concatenate(lines, 3), np.concatenate(across, 0)


def _middles(n: int) -> NDArray[np.float64]:
    return (np.arange(n) + 0.5) / n


def factors_of(draws: Draws, mean: torch.Tensor, std: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> Factors:
    """Return the factors of a draw as the kernels take them; mean, std, gain, bias: as in ``levels``."""
    n, noise = len(draws), draws.noise
    arrays: dict[str, NDArray[Any]] = {}
    for name, (row, kind) in _ABSENT.items():
        given = getattr(draws, name)
        arrays[name] = np.zeros((n, *row), kind) if given is None else np.ascontiguousarray(given, kind)
    words = np.zeros((n, 5), np.uint64)
    words[:, 0], words[:, 1:3], words[:, 3:] = draws.ids.view(np.uint64), noise.key if noise else 0, draws.grain or 0
    if draws.fills is not None:
        arrays["fills"] = np.where(np.isnan(arrays["fills"]), mean.numpy(), arrays["fills"])
    bend_lines, bend_across = bends_of(draws)
    return Factors(
        matrix=np.ascontiguousarray(draws.matrix),
        way=ways(draws),
        taps=draws.taps,
        sigma=np.zeros(n) if noise is None else noise.sigma,
        bend_lines=bend_lines,
        bend_across=bend_across,
        words=words,
        quantiles=_NO_NUMBERS if noise is None and draws.grain is None else quantiles(),
        mean=mean.numpy(),
        std=std.numpy(),
        gain=gain.numpy(),
        bias=bias.numpy(),
        reading=reading_of(draws, mean),
        **arrays,
    )


def changes_levels(draws: Draws) -> bool:
    """Return whether tone, color, boxes or noise change what was read."""
    others = (draws.stretch, draws.flatten, draws.color, draws.table, draws.boxes, draws.noise)
    return any(factor is not None for factor in others)


def copied(images: torch.Tensor, draws: Draws) -> torch.Tensor | None:
    """Return the output as it lies in the stored pixels: images (B, H, W, 3) uint8 -> (B, h, w, 3) uint8; None where it does not.

    So is the view for evaluation, and its mirror image: all rows are cut at one place, and nothing else happens to them. No
    kernel is needed, so none is compiled.
    """
    if draws.neighborhood or draws.bends or draws.mixes or changes_levels(draws):
        return None
    m = draws.matrix
    if not len(m) or not draws.copies.all() or (m != m[0]).any() or m[0, 0, 0] == 0:  # turned by 90 degrees
        return None
    across, down = (_places(m[0, axis, axis], m[0, axis, 2], draws.canvas[1 - axis], draws.source[1 - axis]) for axis in (0, 1))
    if across is None or down is None:
        return None
    cut = images.numpy()[:, down][:, :, across]
    return torch.from_numpy(np.array(cut, order="C"))  # not by torch, whose threads spin on for longer than one picture takes


def _places(scale: float, start: float, n_out: int, n_in: int) -> slice | NDArray[np.int64] | None:
    """Return which stored pixel each output pixel of a line copies, (n_out,), or None where some lie outside."""
    places = np.floor(scale * (np.arange(n_out) + 0.5) + start).astype(np.int64)
    if places.min() < 0 or places.max() >= n_in:
        return None
    first, last, step = int(places[0]), int(places[-1]), int(np.sign(scale))
    return slice(first, last + step if last + step >= 0 else None, step) if abs(last - first) == n_out - 1 else places


def levels(
    images: torch.Tensor, draws: Draws, mean: torch.Tensor, std: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Apply everything: images (B, H, W, 3) uint8 on the CPU -> (B, h, w, 3) float32, ``levels * gain + bias``.

    mean, std: (3,) float32, the levels that normalization subtracts and divides by; fills may ask for them. gain, bias: (3,).
    """
    pixels = _run(images, draws, factors_of(draws, mean, std, gain, bias), _F)
    for mix in draws.mixes:
        pixels = mixed(pixels, mix)
    return pixels


def whole_levels(images: torch.Tensor, draws: Draws, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Apply everything: images (B, H, W, 3) uint8 on the CPU -> (B, h, w, 3) uint8; mean, std: as in ``levels``."""
    one, zero = torch.ones(3), torch.zeros(3)
    if draws.mixes:
        return rounded(levels(images, draws, mean, std, one, zero))
    return _run(images, draws, factors_of(draws, mean, std, one, zero), np.uint8)


def _run(images: torch.Tensor, draws: Draws, factors: Factors, kind: type[np.generic]) -> torch.Tensor:
    """Run the kernels: images (B, H, W, 3) uint8 -> (B, h, w, 3) of a kind, uint8 or float32."""
    from descend.augment.kernels import run_part, run_straight
    from descend.augment.row_kernels import STRAIGHT, work_for
    from descend.threads import run_parts

    n, size = len(draws), 3 * draws.canvas[0] * draws.canvas[1]
    n_threads = min(torch.get_num_threads(), n) if may_use_threads() else 1
    n_taps = 5 + int(np.abs(factors.matrix[:, :2, :2]).max(initial=0))
    around = any((~np.isnan(step.strength)).any() for step in draws.neighborhood)
    read = np.ascontiguousarray(images.numpy())
    stored, windows = (uncleared(read.shape, np.uint8), seen(draws)) if around else (read, None)
    make = run_straight if (factors.way <= STRAIGHT).all() and not changes_levels(draws) else run_part
    out, whole = (uncleared((n, size if kind == one else 0), one) for one in (_F, np.uint8))

    def run(part: int) -> None:
        if around:
            compiled(read, draws.neighborhood, part, n_threads, stored, windows)
        make(part, n_threads, stored, factors, work_for(draws.source, draws.canvas, n_taps), out, whole)

    run_parts(run, n_threads)
    return torch.from_numpy(out if kind == _F else whole).view(n, *draws.canvas, 3)

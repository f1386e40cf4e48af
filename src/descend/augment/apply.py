"""The meaning of a draw, in plain torch on any device: geometry, tone, colour, one clamp, erase, mix, normalise.

This file defines what every faster path must reproduce. Pixels are *levels* (0..255, float32) in NHWC order until the end.
Where the geometry of a picture is a whole-pixel shift, a mirror image or a quarter turn, its pixels are copied; everything
else is one bilinear resampling of the stored picture. Where the output is coarser than the stored picture, each output
pixel averages a grid of samples over its footprint, so strong downscaling does not alias.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, grid_sample

from descend.augment.factors import N_LEVELS, Draws, Floats, Ints, Mix, split

_CHUNK = 1 << 22  # samples per resampling call: bounds the memory of strong downscaling to about 100 MB


def resample(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Apply the geometry: images (B, H, W, C) uint8 -> (B, h, w, C), uint8 if every picture is copied, else float32 levels."""
    copies = draws.copies
    if copies.all():
        return copied(images, draws.matrix, draws.canvas)
    if not copies.any():
        return sampled(images, draws.matrix, draws.taps, draws.canvas)
    out = torch.empty((len(images), *draws.canvas, images.shape[3]), dtype=torch.float32, device=images.device)
    for which, rows in ((True, np.flatnonzero(copies)), (False, np.flatnonzero(~copies))):
        index = torch.as_tensor(rows, device=images.device)
        part, matrix = images[index], draws.matrix[rows]
        pixels = copied(part, matrix, draws.canvas) if which else sampled(part, matrix, draws.taps[rows], draws.canvas)
        out[index] = pixels.to(torch.float32)
    return out


def copied(images: torch.Tensor, matrix: Floats, canvas: tuple[int, int]) -> torch.Tensor:
    """Copy pixels where every matrix (B, 3, 3) is a whole-pixel shift, mirror image or quarter turn."""
    n, height, width, channels = images.shape
    linear = np.rint(matrix[:, :2, :2]).astype(np.int64)
    origin = np.rint(linear.sum(2) / 2 + matrix[:, :2, 2] - 0.5).astype(np.int64)[..., None]
    y, x = np.arange(canvas[0]), np.arange(canvas[1])
    turned = linear[:, 0, 0, None] == 0
    down, across = linear[:, 1, 1, None] * y, linear[:, 0, 0, None] * x
    rows = np.where(turned, mirrored(linear[:, 0, 1, None] * y + origin[:, 0], width),
                    mirrored(down + origin[:, 1], height) * width)  # fmt: skip
    columns = np.where(turned, mirrored(linear[:, 1, 0, None] * x + origin[:, 1], height) * width,
                       mirrored(across + origin[:, 0], width))  # fmt: skip
    rows += np.arange(n)[:, None] * (height * width)
    index = torch.as_tensor(rows, device=images.device)[:, :, None] + torch.as_tensor(columns, device=images.device)[:, None]
    return images.reshape(-1, channels)[index]


def mirrored(index: Ints, n: int) -> Ints:
    """Fold any whole number into 0..n-1 by reflection about the first and the last pixel."""
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.where(index < n, index, 2 * n - 2 - index)


def sampled(images: torch.Tensor, matrix: Floats, taps: Ints, canvas: tuple[int, int]) -> torch.Tensor:
    """Resample with ``taps`` (B, 2) samples a pixel down and across: (B, H, W, C) uint8 -> (B, h, w, C) float32 levels."""
    out = torch.empty((len(images), *canvas, images.shape[3]), dtype=torch.float32, device=images.device)
    for down, across in np.unique(taps, axis=0):
        rows = np.flatnonzero((taps == (down, across)).all(1))
        n_each = max(1, _CHUNK // (canvas[0] * canvas[1] * down * across))
        for start in range(0, len(rows), n_each):
            chunk = rows[start : start + n_each]
            index = torch.as_tensor(chunk, device=images.device)
            pixels = _bilinear(images[index], matrix[chunk], (canvas[0] * int(down), canvas[1] * int(across)), canvas)
            pixels = avg_pool2d(pixels, (int(down), int(across))) if down * across > 1 else pixels
            out[index] = pixels.permute(0, 2, 3, 1)
    return out


def _bilinear(images: torch.Tensor, matrix: Floats, samples: tuple[int, int], canvas: tuple[int, int]) -> torch.Tensor:
    """Read one bilinear sample at each of ``samples`` (down, across) positions of the canvas: -> (B, C, down, across)."""
    height, width = images.shape[1:3]
    m = torch.as_tensor(matrix, dtype=torch.float64, device=images.device)[:, :, :, None, None]
    y = ((torch.arange(samples[0], dtype=torch.float64, device=images.device) + 0.5) * (canvas[0] / samples[0]))[:, None]
    x = ((torch.arange(samples[1], dtype=torch.float64, device=images.device) + 0.5) * (canvas[1] / samples[1]))[None]
    depth = m[:, 2, 0] * x + m[:, 2, 1] * y + m[:, 2, 2]
    across = (m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2]) / depth - 0.5
    down = (m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2]) / depth - 0.5
    grid = torch.stack([_unit(across, width), _unit(down, height)], -1).to(torch.float32)
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _unit(position: torch.Tensor, n: int) -> torch.Tensor:
    """Reflect positions (pixel centres 0..n-1) into the picture and bring them to grid_sample's -1..1."""
    if n == 1:
        return torch.zeros_like(position)
    folded = position.abs() % (2 * n - 2)
    return (n - 1 - (folded - (n - 1)).abs()) * (2 / (n - 1)) - 1


def toned(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Read tone tables (B, 3, 256) at float levels (B, h, w, 3), linear between entries."""
    clipped = pixels.clamp(0, N_LEVELS - 1)
    low = clipped.long().clamp(max=N_LEVELS - 2)
    flat = low.permute(0, 3, 1, 2).flatten(2)
    below, above = (table.gather(2, flat + k).unflatten(2, pixels.shape[1:3]).permute(0, 2, 3, 1) for k in (0, 1))
    part = clipped - low
    return torch.where(part == 0, below, below + part * (above - below))


def colored(pixels: torch.Tensor, color: Floats) -> torch.Tensor:
    """Apply colour changes (B, 3, 7) to float levels (B, h, w, 3) and clamp to 0..255."""
    a, d, b = (torch.as_tensor(part, device=pixels.device) for part in split(color))
    mean = pixels.mean((1, 2)).to(a.dtype)[:, :, None] if bool(d.any()) else torch.zeros_like(b)
    offset = (d @ mean + b).to(pixels.dtype).mT
    moved = torch.baddbmm(offset, pixels.flatten(1, 2), a.to(pixels.dtype).mT)
    return moved.view_as(pixels).clamp_(0, N_LEVELS - 1)


def erased(pixels: torch.Tensor, draws: Draws, mean: torch.Tensor) -> torch.Tensor:
    """Paint the boxes over float levels (B, h, w, C); ``mean`` (C,) levels stands in for NaN."""
    if draws.boxes is None or draws.fills is None:
        return pixels
    fills = torch.as_tensor(draws.fills, device=pixels.device)
    fills = torch.where(fills.isnan(), mean, fills)
    for picture, slot in np.argwhere((draws.boxes[..., 0] < draws.boxes[..., 1]) & (draws.boxes[..., 2] < draws.boxes[..., 3])):
        top, bottom, left, right = draws.boxes[picture, slot]
        pixels[picture, top:bottom, left:right] = fills[picture, slot]
    return pixels


def mixed(pixels: torch.Tensor, mix: Mix) -> torch.Tensor:
    """Blend or paste each picture (B, h, w, C) with its partner."""
    partner = torch.as_tensor(mix.partner, device=pixels.device)
    if mix.boxes is None:
        weight = torch.as_tensor(mix.weight, dtype=pixels.dtype, device=pixels.device)[:, None, None, None]
        return weight * pixels + (1 - weight) * pixels[partner]
    out = pixels.clone()
    for picture, (top, bottom, left, right) in enumerate(mix.boxes):
        out[picture, top:bottom, left:right] = pixels[partner[picture], top:bottom, left:right]
    return out


def levels(images: torch.Tensor, draws: Draws, mean: torch.Tensor) -> torch.Tensor:
    """Apply everything but normalisation: (B, H, W, 3) uint8 -> (B, h, w, 3), uint8 while nothing but copying happened."""
    pixels = resample(images, draws)
    if draws.table is not None:
        pixels = toned(pixels.to(torch.float32), torch.as_tensor(draws.table, device=images.device))
    if draws.color is not None:
        pixels = colored(pixels.to(torch.float32), draws.color)
    if draws.boxes is not None:
        pixels = erased(pixels.to(torch.float32), draws, mean)
    for mix in draws.mixes:
        pixels = mixed(pixels.to(torch.float32), mix)
    return pixels


def normalized(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Bring levels (B, h, w, 3) to ``(x / 255 - mean) / std``: (B, 3, h, w) float32 in channels-last memory.

    mean, std: (3,) in the unit 1 = full level. The constants are tiled over a row, because torch's element-wise loops are slow
    along an innermost axis of three.
    """
    n, h, w, channels = pixels.shape
    gain = (1 / (255 * std)).repeat(w)
    flat = torch.addcmul((-mean / std).repeat(w), pixels.reshape(n, h, w * channels).to(torch.float32), gain)
    return flat.view(n, h, w, channels).permute(0, 3, 1, 2)


def rounded(pixels: torch.Tensor) -> torch.Tensor:
    """Return levels (B, h, w, C) as uint8, halves rounded up."""
    return pixels if pixels.dtype == torch.uint8 else (pixels + 0.5).floor().clamp(0, N_LEVELS - 1).to(torch.uint8)

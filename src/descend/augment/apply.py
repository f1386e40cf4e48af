"""The meaning of a draw, in plain torch on any device: geometry, tone, color, one clamp, erase, mix, normalize.

This file defines what every faster path must reproduce. Pixels are *levels* (0..255, float32) in NHWC order until the end.
Geometry stands in ``resampling``.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from descend.augment.array_types import Floats, Ints
from descend.augment.factors import N_LEVELS, Draws, Mix, Noise, split
from descend.augment.neighborhood import processed
from descend.augment.resampling import resample
from descend.augment.statistics import equalizing, stretched
from descend.rng import philox4x32


def toned(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Read tone tables (B, 3, 256) at float levels (B, h, w, 3), linear between entries."""
    clipped = pixels.clamp(0, N_LEVELS - 1)
    low = clipped.long().clamp(max=N_LEVELS - 2)
    flat = low.permute(0, 3, 1, 2).flatten(2)
    below, above = (table.gather(2, flat + k).unflatten(2, pixels.shape[1:3]).permute(0, 2, 3, 1) for k in (0, 1))
    part = clipped - low
    return torch.where(part == 0, below, below + part * (above - below))


def colored(pixels: torch.Tensor, color: Floats) -> torch.Tensor:
    """Apply color changes (B, 3, 7) to float levels (B, h, w, 3)."""
    a, d, b = (torch.as_tensor(part, device=pixels.device) for part in split(color))
    mean = pixels.mean((1, 2)).to(a.dtype)[:, :, None] if bool(d.any()) else torch.zeros_like(b)
    offset = (d @ mean + b).to(pixels.dtype).mT
    return torch.baddbmm(offset, pixels.flatten(1, 2), a.to(pixels.dtype).mT).view_as(pixels)


def adapted(pixels: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Stretch and equalize the chosen images of float levels (B, h, w, 3), each by its own levels."""
    for chosen, change in ((draws.stretch, stretched), (draws.flatten, _equalized)):
        for k in () if chosen is None else np.flatnonzero(chosen):
            pixels[k] = change(pixels[k])
    return pixels


def _equalized(image: torch.Tensor) -> torch.Tensor:
    return toned(image[None], equalizing(image)[None])[0]


def noisy(pixels: torch.Tensor, noise: Noise, ids: Ints) -> torch.Tensor:
    """Add Gaussian noise to float levels (B, h, w, 3)."""
    added = normal(ids, noise.key, pixels[0].numel()) * noise.sigma[:, None]
    return pixels + torch.as_tensor(added, device=pixels.device).to(pixels.dtype).view_as(pixels)


def normal(ids: Ints, key: tuple[int, int], count: int) -> NDArray[np.float32]:
    """Return standard normal numbers for the values of images, a function of (sample id, key, place): (B, count) float32.

    Values 2 k and 2 k + 1 of an image take word k of its Philox words: the cell of ``quantiles`` from its lowest 12 bits and from
    its highest, and the place within the cell from the 12 bits next to them. These overlap by four, far below what can be seen.
    """
    counter = np.zeros((4, len(ids), -(-count // 8)), np.uint64)
    counter[0] = np.arange(counter.shape[2])
    words = ids.view(np.uint64)[:, None]
    counter[2], counter[3] = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
    drawn = np.moveaxis(philox4x32(counter, key), 0, -1).astype(np.int64)
    cell = np.stack([drawn & 0xFFF, drawn >> 20], -1)
    place = ((np.stack([drawn >> 12, drawn >> 8], -1) & 0xFFF).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-12)
    below, above = quantiles()[cell], quantiles()[cell + 1]
    values = np.asarray(below + place * (above - below), np.float32)
    return values.reshape(len(ids), -1)[:, :count]


@cache
def quantiles() -> NDArray[np.float32]:
    """Return the borders of 4,096 cells that a standard normal number falls into equally often: (4097,) float32, -4.17 to 4.17.

    A number that is uniform within its cell has variance 1.
    """
    law, n = NormalDist(), 4096
    half = [law.inv_cdf(k / n) for k in range(1, n // 2)]
    borders = np.array([law.inv_cdf(1 / (16 * n)), *half, 0.0, *(-border for border in half[::-1]), -law.inv_cdf(1 / (16 * n))])
    low, high = borders[:-1], borders[1:]
    return (borders / np.sqrt(((low**2 + low * high + high**2) / 3).mean())).astype(np.float32)


def erased(pixels: torch.Tensor, draws: Draws, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Paint the boxes over float levels (B, h, w, 3); mean, std: (3,) levels, which NaN and infinity in the fills stand for."""
    if draws.boxes is None or draws.fills is None:
        return pixels
    fills = torch.as_tensor(draws.fills, device=pixels.device)
    fills = torch.where(fills.isnan(), mean, fills)
    for row, slot in np.argwhere((draws.boxes[..., 0] < draws.boxes[..., 1]) & (draws.boxes[..., 2] < draws.boxes[..., 3])):
        top, bottom, left, right = draws.boxes[row, slot]
        fill = fills[row, slot]
        if bool(fill.isinf().any()) and draws.grain is not None:
            numbers = normal(draws.ids[row : row + 1], draws.grain, pixels[row].numel())
            grains = torch.as_tensor(numbers, device=pixels.device).to(pixels.dtype).view_as(pixels[row])
            fill = mean + std * grains[top:bottom, left:right]
        pixels[row, top:bottom, left:right] = fill
    return pixels


def mixed(pixels: torch.Tensor, mix: Mix) -> torch.Tensor:
    """Blend or paste each image (B, h, w, C) with its partner."""
    partner = torch.as_tensor(mix.partner, device=pixels.device)
    if mix.boxes is None:
        weight = torch.as_tensor(mix.weight, dtype=pixels.dtype, device=pixels.device)[:, None, None, None]
        return weight * pixels + (1 - weight) * pixels[partner]
    out = pixels.clone()
    inside = np.zeros(len(pixels)) if mix.inside is None else mix.inside
    for row, ((top, bottom, left, right), share) in enumerate(zip(mix.boxes, inside, strict=True)):
        other = pixels[partner[row], top:bottom, left:right]
        out[row, top:bottom, left:right] = share * pixels[row, top:bottom, left:right] + (1 - share) * other if share else other
    return out


def levels(images: torch.Tensor, draws: Draws, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Apply everything but normalization: (B, H, W, 3) uint8 -> (B, h, w, 3), uint8 while nothing but copying happened.

    mean, std: (3,) the levels that normalization subtracts and divides by; fills may ask for them.
    """
    pixels = resample(processed(images, draws.neighborhood), draws, mean)
    if draws.stretch is not None or draws.flatten is not None:
        pixels = adapted(pixels.to(torch.float32), draws)
    if draws.table is not None:
        pixels = toned(pixels.to(torch.float32), torch.as_tensor(draws.table, device=images.device))
    if draws.color is not None:
        pixels = colored(pixels.to(torch.float32), draws.color)
    if draws.noise is not None:
        pixels = noisy(pixels.to(torch.float32), draws.noise, draws.ids)
    if pixels.dtype != torch.uint8:
        pixels = pixels.clamp_(0, N_LEVELS - 1)
    if draws.boxes is not None:
        pixels = erased(pixels.to(torch.float32), draws, mean, std)
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

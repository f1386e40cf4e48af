"""The meaning of a draw, in plain torch on any device: geometry, tone, colour, one clamp, erase, mix, normalise.

This file defines what every faster path must reproduce. Pixels are *levels* (0..255, float32) in NHWC order until the end.
Where the geometry of an image is a whole-pixel shift, a mirror image or a quarter turn, its pixels are copied; everything
else is one bilinear resampling of the stored image. Where the output is coarser than the stored image, each output
pixel averages a grid of samples over its footprint, so strong downscaling does not alias.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, grid_sample

from descend.augment.factors import N_LEVELS, Draws, Mix, Noise, split
from descend.augment.neighborhood import processed
from descend.augment.points import Floats, Ints
from descend.augment.statistics import equalizing, stretched
from descend.rng import philox4x32

_CHUNK = 1 << 22  # samples per resampling call: bounds the memory of strong downscaling to about 100 MB


def resample(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Apply the geometry: images (B, H, W, C) uint8 -> (B, h, w, C), uint8 if every image is copied, else float32 levels."""
    copies = draws.copies
    if copies.all():
        return copied(images, draws.matrix, draws.canvas)
    if not copies.any():
        return sampled(images, draws, np.arange(len(images)))
    out = torch.empty((len(images), *draws.canvas, images.shape[3]), dtype=torch.float32, device=images.device)
    for which, rows in ((True, np.flatnonzero(copies)), (False, np.flatnonzero(~copies))):
        index = torch.as_tensor(rows, device=images.device)
        pixels = copied(images[index], draws.matrix[rows], draws.canvas) if which else sampled(images[index], draws, rows)
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


def sampled(images: torch.Tensor, draws: Draws, rows: Ints) -> torch.Tensor:
    """Resample the images that stand in ``rows`` of the draw: (b, H, W, C) uint8 -> (b, h, w, C) float32 levels."""
    canvas, taps = draws.canvas, draws.taps[rows]
    out = torch.empty((len(images), *canvas, images.shape[3]), dtype=torch.float32, device=images.device)
    for down, across in np.unique(taps, axis=0):
        group = np.flatnonzero((taps == (down, across)).all(1))
        n_each = max(1, _CHUNK // (canvas[0] * canvas[1] * down * across))
        for start in range(0, len(group), n_each):
            chunk = group[start : start + n_each]
            index = torch.as_tensor(chunk, device=images.device)
            pixels = _bilinear(images[index], draws, rows[chunk], int(down), int(across))
            pixels = avg_pool2d(pixels, (int(down), int(across))) if down * across > 1 else pixels
            out[index] = pixels.permute(0, 2, 3, 1)
    return out


def _bilinear(images: torch.Tensor, draws: Draws, rows: Ints, n_down: int, n_across: int) -> torch.Tensor:
    """Read n_down x n_across bilinear samples in each output pixel: -> (b, C, h * n_down, w * n_across) levels."""
    height, width = images.shape[1:3]
    m = torch.as_tensor(draws.matrix[rows], device=images.device)[:, :, :, None, None]
    y = (torch.arange(draws.canvas[0] * n_down, dtype=torch.float64, device=images.device)[:, None] + 0.5) / n_down
    x = (torch.arange(draws.canvas[1] * n_across, dtype=torch.float64, device=images.device)[None] + 0.5) / n_across
    if draws.shifts is not None:
        moved = torch.as_tensor(draws.shifts[rows], device=images.device)
        moved = moved.repeat_interleave(n_down, 2).repeat_interleave(n_across, 3).double()
        x, y = x + moved[:, 0], y + moved[:, 1]
    depth = m[:, 2, 0] * x + m[:, 2, 1] * y + m[:, 2, 2]
    across = (m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2]) / depth - 0.5
    down = (m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2]) / depth - 0.5
    grid = torch.stack([_unit(across, width), _unit(down, height)], -1).to(torch.float32)
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _unit(position: torch.Tensor, n: int) -> torch.Tensor:
    """Reflect positions (pixel centres 0..n-1) into the image and bring them to grid_sample's -1..1."""
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
    """Apply colour changes (B, 3, 7) to float levels (B, h, w, 3)."""
    a, d, b = (torch.as_tensor(part, device=pixels.device) for part in split(color))
    mean = pixels.mean((1, 2)).to(a.dtype)[:, :, None] if bool(d.any()) else torch.zeros_like(b)
    offset = (d @ mean + b).to(pixels.dtype).mT
    return torch.baddbmm(offset, pixels.flatten(1, 2), a.to(pixels.dtype).mT).view_as(pixels)


def adapted(pixels: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Stretch and equalise the chosen images of float levels (B, h, w, 3), each by its own levels."""
    for chosen, change in ((draws.stretch, stretched), (draws.flatten, _equalized)):
        for k in () if chosen is None else np.flatnonzero(chosen):
            pixels[k] = change(pixels[k])
    return pixels


def _equalized(image: torch.Tensor) -> torch.Tensor:
    return toned(image[None], equalizing(image)[None])[0]


def noisy(pixels: torch.Tensor, noise: Noise, ids: Ints) -> torch.Tensor:
    """Add Gaussian noise to float levels (B, h, w, 3).

    Value j of an image takes word j % 4 of Philox block j // 4, whose words (0, 1) and (2, 3) become two normal numbers each, by
    Box and Muller: the radius from the first, the angle from the second.
    """
    count = pixels[0].numel()
    counter = np.zeros((4, len(ids), -(-count // 4)), np.uint64)
    counter[0] = np.arange(counter.shape[2])
    words = ids.view(np.uint64)[:, None]
    counter[2], counter[3] = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
    u = (philox4x32(counter, noise.key) + 0.5) * 2.0**-32
    radius, angle = np.sqrt(-2 * np.log(u[::2])), 2 * np.pi * u[1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(4, len(ids), -1)
    normal = np.moveaxis(pairs, 0, -1).reshape(len(ids), -1)[:, :count] * noise.sigma[:, None]
    return pixels + torch.as_tensor(normal, device=pixels.device).to(pixels.dtype).view_as(pixels)


def erased(pixels: torch.Tensor, draws: Draws, mean: torch.Tensor) -> torch.Tensor:
    """Paint the boxes over float levels (B, h, w, C); ``mean`` (C,) levels stands in for NaN."""
    if draws.boxes is None or draws.fills is None:
        return pixels
    fills = torch.as_tensor(draws.fills, device=pixels.device)
    fills = torch.where(fills.isnan(), mean, fills)
    for image, slot in np.argwhere((draws.boxes[..., 0] < draws.boxes[..., 1]) & (draws.boxes[..., 2] < draws.boxes[..., 3])):
        top, bottom, left, right = draws.boxes[image, slot]
        pixels[image, top:bottom, left:right] = fills[image, slot]
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


def levels(images: torch.Tensor, draws: Draws, mean: torch.Tensor) -> torch.Tensor:
    """Apply everything but normalisation: (B, H, W, 3) uint8 -> (B, h, w, 3), uint8 while nothing but copying happened."""
    pixels = resample(processed(images, draws.neighborhood), draws)
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

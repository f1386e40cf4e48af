"""The meaning of geometry, in plain torch: where each output pixel reads the stored image, and how.

Where the geometry of an image is a whole-pixel shift, a mirror image or a quarter turn, its pixels are copied; everything
else is one resampling of the stored image, as ``Draws.sampling`` says. Where the output is coarser than the stored image, each
output pixel averages a grid of samples over its footprint, so strong downscaling does not alias.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch.nn.functional import avg_pool2d, grid_sample

from descend.augment.array_types import Ints
from descend.augment.factors import Border, Draws, Interpolation, Sampling
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.errors import KnobError
from descend.technique import technique

_CHUNK = 1 << 22  # samples per resampling call: bounds the memory of strong downscaling to about 100 MB
_PLAIN = Sampling()


Level = Annotated[float, Ge(0), Le(255)]
_NAN = float("nan")
_FILLS = {"mean": (_NAN, _NAN, _NAN), "black": (0.0, 0.0, 0.0), "white": (255.0, 255.0, 255.0)}


@technique("resampling", source="Keys 1981, IEEE Trans. ASSP 29(6), equation 15 (bicubic); OpenCV's border modes")
class Resampling(Augmentation):
    """Choose how the one resampling reads the stored picture, between its pixels and beyond them; it moves nothing itself.

        level at (x, y) = sum over i, j of k(x - i) k(y - j) pixel[i, j]        bilinear: k(t) = max(1 - |t|, 0)
        bicubic: k(t) = 1.5 |t|**3 - 2.5 t**2 + 1 for |t| <= 1, -0.5 |t|**3 + 2.5 t**2 - 4 |t| + 2 for |t| <= 2, else 0

    ``interpolation``: "bilinear", or "bicubic", which keeps fine detail where pictures are enlarged or turned and costs more.
    ``border``: what a geometry shows beyond the picture: its mirror image ("reflect", OpenCV's REFLECT_101), one color
    ("constant"), the outermost pixel again ("replicate", also called edge), or the opposite side ("wrap"). ``fill``: the color of
    a constant border: "mean" (zero after normalization), "black", "white", or three levels of 255; tone and color change it like
    the picture. It stands anywhere in the list, once, and holds for every geometry in it.
    """

    stage = "geometry"
    neutral: ClassVar = "it says how the other transforms read pixels"
    batch_wide: ClassVar = True

    interpolation: Interpolation = "bilinear"
    border: Border = "reflect"
    fill: Literal["mean", "black", "white"] | tuple[Level, Level, Level] = "mean"

    def __post_init__(self) -> None:
        if self.fill != "mean" and self.border != "constant":
            raise KnobError("resampling", "fill has no effect on another border than constant", got=self.fill,
                            fix="Add border=constant, or leave fill out.")  # fmt: skip

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Choose for the batch."""
        fill = _FILLS[self.fill] if isinstance(self.fill, str) else self.fill
        return replace(draws, sampling=Sampling(self.interpolation, self.border, fill)).note(stream.name)


def resample(images: torch.Tensor, draws: Draws, mean: torch.Tensor) -> torch.Tensor:
    """Apply the geometry: images (B, H, W, 3) uint8 -> (B, h, w, 3), uint8 if every pixel is a copy, else float32 levels.

    mean: (3,) levels that stand in for NaN in the color of a constant border.
    """
    copies, outside = draws.copies, outside_of(draws, mean)
    if copies.all():
        return copied(images, draws, np.arange(len(images)), outside)
    if not copies.any():
        return sampled(images, draws, np.arange(len(images)), outside)
    out = torch.empty((len(images), *draws.canvas, images.shape[3]), dtype=torch.float32, device=images.device)
    for way, rows in ((copied, np.flatnonzero(copies)), (sampled, np.flatnonzero(~copies))):
        index = torch.as_tensor(rows, device=images.device)
        out[index] = way(images[index], draws, rows, outside).to(torch.float32)
    return out


def outside_of(draws: Draws, mean: torch.Tensor) -> torch.Tensor:
    """Return the color of a constant border: (3,) float32 levels."""
    fill = torch.tensor((draws.sampling or _PLAIN).fill, dtype=torch.float32, device=mean.device)
    return torch.where(fill.isnan(), mean.to(torch.float32), fill)


def copied(images: torch.Tensor, draws: Draws, rows: Ints, outside: torch.Tensor) -> torch.Tensor:
    """Copy pixels of the images that stand in ``rows``: each geometry is a whole-pixel shift, mirror image or quarter turn."""
    matrix, canvas, border = draws.matrix[rows], draws.canvas, (draws.sampling or _PLAIN).border
    n, height, width, channels = images.shape
    linear = np.rint(matrix[:, :2, :2]).astype(np.int64)
    origin = np.rint(linear.sum(2) / 2 + matrix[:, :2, 2] - 0.5).astype(np.int64)[..., None]
    y, x = np.arange(canvas[0]), np.arange(canvas[1])
    turned = linear[:, 0, 0, None] == 0
    down = np.where(turned, linear[:, 0, 1, None] * y + origin[:, 0], linear[:, 1, 1, None] * y + origin[:, 1])
    across = np.where(turned, linear[:, 1, 0, None] * x + origin[:, 1], linear[:, 0, 0, None] * x + origin[:, 0])
    sides, steps = np.where(turned, (width, height), (height, width)), np.where(turned, (1, width), (width, 1))
    (down, out_down), (across, out_across) = (_placed(at, sides[:, k, None], border) for k, at in enumerate((down, across)))
    index = (down * steps[:, :1] + np.arange(n)[:, None] * (height * width))[:, :, None] + (across * steps[:, 1:])[:, None]
    pixels = images.reshape(-1, channels)[torch.as_tensor(index, device=images.device)]
    missing = out_down[:, :, None] | out_across[:, None]
    return torch.where(torch.as_tensor(missing, device=images.device)[..., None], outside, pixels) if missing.any() else pixels


def _placed(index: Any, n: Any, border: Border) -> tuple[Any, Any]:
    """Fold whole numbers into 0..n-1 as the border says; returns also which of them are beyond a constant border.

    index, n: NumPy arrays, or a tensor and a number; hence nothing but operators.
    """
    beyond = (index < 0) | (index >= n)
    if border in ("constant", "replicate"):
        return index * ~beyond + (n - 1) * (index >= n), beyond & (border == "constant")
    if border == "wrap":
        return index % n, beyond & False
    index = abs(index) % (2 * n - 2 + (n == 1))
    return index - 2 * (index - (n - 1)) * (index >= n), beyond & False


def sampled(images: torch.Tensor, draws: Draws, rows: Ints, outside: torch.Tensor) -> torch.Tensor:
    """Resample the images that stand in ``rows`` of the draw: (b, H, W, C) uint8 -> (b, h, w, C) float32 levels."""
    canvas, taps = draws.canvas, draws.taps[rows]
    out = torch.empty((len(images), *canvas, images.shape[3]), dtype=torch.float32, device=images.device)
    for down, across in np.unique(taps, axis=0):
        group = np.flatnonzero((taps == (down, across)).all(1))
        n_each = max(1, _CHUNK // (canvas[0] * canvas[1] * down * across))
        for start in range(0, len(group), n_each):
            chunk = group[start : start + n_each]
            index = torch.as_tensor(chunk, device=images.device)
            pixels = _samples(images[index], draws, rows[chunk], int(down), int(across), outside)
            pixels = avg_pool2d(pixels, (int(down), int(across))) if down * across > 1 else pixels
            out[index] = pixels.permute(0, 2, 3, 1)
    return out.clamp_(0, 255) if draws.sampling is not None and draws.sampling.interpolation == "bicubic" else out


def _samples(images: torch.Tensor, draws: Draws, rows: Ints, n_down: int, n_across: int, outside: torch.Tensor) -> torch.Tensor:
    """Read n_down x n_across samples in each output pixel: -> (b, C, h * n_down, w * n_across) levels."""
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
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    if draws.sampling not in (None, _PLAIN):
        return gathered(pixels, across, down, draws.sampling, outside)
    grid = torch.stack([_unit(across, width), _unit(down, height)], -1).to(torch.float32)
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _unit(position: torch.Tensor, n: int) -> torch.Tensor:
    """Reflect positions (pixel centers 0..n-1) into the image and bring them to grid_sample's -1..1."""
    if n == 1:
        return torch.zeros_like(position)
    folded = position.abs() % (2 * n - 2)
    return (n - 1 - (folded - (n - 1)).abs()) * (2 / (n - 1)) - 1


# ------------------------------------------------------------------------------------------ every interpolation and border


def gathered(
    pixels: torch.Tensor, across: torch.Tensor, down: torch.Tensor, sampling: Sampling, outside: torch.Tensor
) -> torch.Tensor:
    """Read levels (b, C, H, W) at positions (b, h, w), pixel centers at whole numbers: (b, C, h, w).

    The sum over the neighbors of a position, down and across, of weight times level.
    """
    height, width = pixels.shape[2:]
    rows, columns = (_neighbors(at, n, sampling) for at, n in ((down, height), (across, width)))
    flat, out = pixels.flatten(2), torch.zeros((*pixels.shape[:2], *across.shape[1:]), device=pixels.device)
    for i, share, above in rows:
        for j, part, beside in columns:
            index = (i * width + j).flatten(1)[:, None].expand(-1, pixels.shape[1], -1)
            read = flat.gather(2, index).view_as(out)
            missing = (above | beside)[:, None]
            out += (share * part).to(torch.float32)[:, None] * torch.where(missing, outside[None, :, None, None], read)
    return out


def _neighbors(at: torch.Tensor, n: int, sampling: Sampling) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return the pixels around positions along one side of n: index, weight, and whether it lies beyond a constant border."""
    first = at.floor()
    t = at - first
    weights = [(0, 1 - t), (1, t)] if sampling.interpolation == "bilinear" else [(k, _keys((t - k).abs())) for k in (-1, 0, 1, 2)]
    return [(index, weight, out) for k, weight in weights for index, out in [_placed(first.long() + k, n, sampling.border)]]


def _keys(x: torch.Tensor) -> torch.Tensor:
    """Cubic convolution with a = -1/2 at distances 0 to 2. Source: Keys 1981, IEEE Trans. ASSP 29(6), equation 15."""
    return torch.where(x <= 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2)

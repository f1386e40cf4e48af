"""Operations that look at neighboring pixels: blur, sharpen, JPEG. They run on the stored uint8 image, before the one pass.

They are the only operations that cost a pass of their own, and only for the images that draw them.
"""

from __future__ import annotations

import io
import math
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import conv2d, pad

from descend.augment.color import around_one
from descend.augment.factors import Draws, Neighborhood, check_range
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.technique import Probability, Search, technique

_SMOOTH = ((1, 1, 1), (1, 5, 1), (1, 1, 1))  # divided by 13: Pillow's SMOOTH, the blurred end of its sharpness


@technique("blur", source="Chen et al. 2020, arXiv:2002.05709, appendix A")
class Blur(Augmentation):
    """Blur with a Gaussian, with probability ``p``: out-of-focus and upscaled pictures become familiar.

        x'(i, j) = sum over a, b of G(a) G(b) x(i + a, j + b)        G(a) ~ exp(-a**2 / (2 sigma**2)) for |a| <= round(3 sigma)

    ``sigma_range``: standard deviation in stored pixels, uniform. Differs from the paper: the Gaussian is cut at three standard
    deviations, not at a twentieth of the side.
    """

    stage = "neighborhood"
    neutral: ClassVar = {"sigma_range": (0.0, 0.0)}

    p: Probability = 0.2
    sigma_range: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        check_range("blur", "sigma_range", self.sigma_range, 0.0, 20.0)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the width."""
        low, high = self.sigma_range
        sigma = low + stream.uniform()[0] * (high - low)
        return draws.around("blur", np.where(sigma > 0, sigma, np.nan)).note(stream.name, sigma=sigma)


@technique("sharpen", source="Cubuk et al. 2019, arXiv:1805.09501, table 6 (Sharpness); Pillow's ImageEnhance")
class Sharpen(Augmentation):
    """Move each pixel away from (factor > 1) or towards (< 1) the weighted mean of it and its neighbors.

        y = smooth + factor (x - smooth)        smooth: (5 x + its 8 neighbors) / 13
        factor uniform on [max(0, 1 - amount), 1 + amount]

    The outermost pixels stay.
    """

    stage = "neighborhood"
    neutral: ClassVar = {"amount": 0.0}

    amount: Annotated[float, Ge(0), Search(0.0, 0.9)] = 0.5
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Choose the factors."""
        factor = around_one(stream.uniform()[0], self.amount)
        return draws.around("sharpen", np.where(factor == 1, np.nan, factor)).note(stream.name, factor=factor)


@technique("jpeg", source="Hendrycks & Dietterich 2019, arXiv:1903.12261, section 4.1 (JPEG)")
class Jpeg(Augmentation):
    """Compress and decompress as JPEG, with probability ``p``; ``quality_range`` on the encoder's scale, uniform.

        c' = Q round(c / Q)        c: a cosine coefficient of 8 x 8 pixels of Y, Cb or Cr,  Q = (s T + 50) // 100, kept in 1..255
        s = 5000 // quality below 50, else 200 - 2 quality        T: the standard's table for luma or chroma

    Cb and Cr are first averaged over 2 x 2 pixels: Pillow's default.
    """

    stage = "neighborhood"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.2
    quality_range: tuple[int, int] = (40, 90)

    def __post_init__(self) -> None:
        check_range("jpeg", "quality_range", self.quality_range, 1, 100)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the quality."""
        low, high = self.quality_range
        quality = np.floor(low + stream.uniform()[0] * (high + 1 - low))
        return draws.around("jpeg", quality).note(stream.name, quality=quality)


def processed(images: torch.Tensor, steps: tuple[Neighborhood, ...]) -> torch.Tensor:
    """Run the drawn operations: images (B, H, W, 3) uint8 -> the same shape; the input is left as it is."""
    if all(np.isnan(step.strength).all() for step in steps):
        return images
    images = images.clone()
    for step in steps:
        for k in np.flatnonzero(~np.isnan(step.strength)):
            images[k] = _OPERATIONS[step.kind](images[k], float(step.strength[k]))
    return images


def reach_of(sigma: float) -> int:
    """Return how many pixels from its middle a Gaussian is cut: at three standard deviations."""
    return max(1, round(3 * sigma))


def gaussian(sigma: float) -> NDArray[np.int32]:
    """Return the weights of a Gaussian cut at ``reach_of(sigma)`` in 2**-16, from its middle outwards; they sum up to 1."""
    halves = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(reach_of(sigma) + 1)]
    scale = 2**16 / (2 * sum(halves) - 1)
    others = [round(scale * weight) for weight in halves[1:]]
    return np.array([2**16 - 2 * sum(others), *others], np.int32)


def _blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Convolve across and down, mirrored at the border; rounded to 1/128 of a level in between.

    All numbers are whole (weights in 2**-16), so that sums are exact in any order and the kernels agree to the bit.
    """
    half = torch.as_tensor(gaussian(sigma), device=image.device).double()
    weights, reach = torch.cat([half.flip(0), half[1:]]), len(half) - 1
    x = image.permute(2, 1, 0)[:, None].double()
    for unit in (2**9, 2**23):
        mode = "reflect" if x.shape[2] > reach else "replicate"  # torch mirrors only within one period
        x = conv2d(pad(x, (0, 0, reach, reach), mode=mode), weights[None, None, :, None]).transpose(2, 3)
        x = (x / unit + 0.5).floor()
    return x[:, 0].to(torch.uint8).permute(2, 1, 0)


def _sharpened(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Blend with the smoothed image; the outermost pixels stay, as in Pillow."""
    x = image.permute(2, 0, 1).to(torch.float32)
    if min(x.shape[1:]) < 3:
        return image
    kernel = torch.tensor(_SMOOTH, dtype=torch.float32, device=x.device)[None, None] / 13
    smooth = (conv2d(x[:, None], kernel)[:, 0] + 0.5).floor()
    x[:, 1:-1, 1:-1] = factor * x[:, 1:-1, 1:-1] + (1 - factor) * smooth
    return _levels(x)


def _levels(x: torch.Tensor) -> torch.Tensor:
    return (x + 0.5).floor().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


def _compressed(image: torch.Tensor, quality: float) -> torch.Tensor:
    file = io.BytesIO()
    Image.fromarray(image.cpu().numpy()).save(file, "JPEG", quality=int(quality))
    return torch.from_numpy(np.array(Image.open(file))).to(image.device)


_OPERATIONS = {"blur": _blurred, "sharpen": _sharpened, "jpeg": _compressed}


# ------------------------------------------------------------------------------------------------------- the same, compiled


def compiled(
    images: NDArray[np.uint8],
    steps: tuple[Neighborhood, ...],
    part: int,
    n_parts: int,
    out: NDArray[np.uint8],
    seen: NDArray[np.int64] | None = None,
) -> None:
    """Run the drawn operations on every n_parts-th image, from number ``part`` on, by kernels where there are some.

    images, out: (B, H, W, 3); what no operation changes is copied. seen: (B, 4) top, bottom, left and right of what is wanted of
    each image, half open; the rest of ``out`` is left to chance. None wants all.
    """
    size = images.shape[1:3]
    everything = np.array([0, size[0], 0, size[1]])
    for k in range(part, len(images), n_parts):
        image, chosen = images[k], [(step.kind, float(step.strength[k])) for step in steps if not np.isnan(step.strength[k])]
        windows = [everything if seen is None else seen[k]]
        for kind, strength in chosen[:0:-1]:  # what the last operation looks at, the one before it must have made
            windows.insert(0, _grown(windows[0], _reach(kind, strength), size))
        for place, ((kind, strength), window) in enumerate(zip(chosen, windows, strict=False), 1):
            changed = out[k] if place == len(chosen) else np.empty_like(image)
            _COMPILED[kind](image, window, strength, changed)
            image = changed
        if not chosen:
            out[k] = image


def _grown(window: NDArray[np.int64], n: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return a window with n more pixels on each side, where the image has them."""
    top, bottom, left, right = window
    return np.array([max(top - n, 0), min(bottom + n, size[0]), max(left - n, 0), min(right + n, size[1])])


def _reach(kind: str, strength: float) -> int:
    """Return how far from a pixel an operation looks; JPEG to the end of its unit of 16 pixels and of the next one."""
    return {"blur": reach_of(strength), "sharpen": 1, "jpeg": 18}[kind]


def _fast_blur(image: NDArray[np.uint8], window: NDArray[np.int64], sigma: float, out: NDArray[np.uint8]) -> None:
    from descend.augment.neighborhood_kernels import blur, blur_work

    weights = gaussian(sigma)
    if weights[0] == 2**16:  # nothing is left for the neighbors
        out[:] = image
        return
    blur(image, window, weights, blur_work(len(weights) - 1, int(window[3] - window[2])), out)


def _fast_sharpen(image: NDArray[np.uint8], window: NDArray[np.int64], factor: float, out: NDArray[np.uint8]) -> None:
    from descend.augment.neighborhood_kernels import sharpen

    sharpen(image, window, np.float32(factor), np.float32(1 - factor), out)


def _fast_jpeg(image: NDArray[np.uint8], window: NDArray[np.int64], quality: float, out: NDArray[np.uint8]) -> None:
    from descend.augment.jpeg_kernels import jpeg, region_of, steps, work_for

    region = region_of(window, *image.shape[:2])
    jpeg(image, window, region, steps(int(quality)), work_for(region), out)


_COMPILED = {"blur": _fast_blur, "sharpen": _fast_sharpen, "jpeg": _fast_jpeg}

"""Changes of the color channels as a whole, and noise: gray, invert, shuffle, drop, PCA lighting, Gaussian noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from descend.augment.array_types import Bools, Floats
from descend.augment.color import saturated
from descend.augment.factors import Draws, Noise, check_range, tinted
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.technique import Probability, Search, technique

_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])  # of the covariance of ImageNet's RGB values, unit 1 = full level
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])  # columns


def inverted(chosen: Bools) -> Floats:
    """Return the color change (B, 3, 7) that takes x to 255 - x in the chosen images (B,)."""
    sign = np.where(chosen, -1.0, 1.0)
    return tinted(sign[:, None, None] * np.eye(3), b=np.repeat(np.where(chosen, 255.0, 0.0)[:, None], 3, 1))


@technique("grayscale", source="Chen et al. 2020, arXiv:2002.05709, appendix A")
class Grayscale(Augmentation):
    """Replace color by its gray, with probability ``p``, so that shape has to decide.

        x' = gray(x) in all three channels

    All changes of color are one matrix for each picture: one more costs nothing.
    """

    stage = "color"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.1

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append saturation 0."""
        return draws.tint(saturated(np.zeros(len(draws)))).note(stream.name, chosen=draws.every)


@technique("invert", source="Cubuk et al. 2019, arXiv:1805.09501, table 6")
class Invert(Augmentation):
    """Take each level x to 255 - x, with probability ``p``: black on white becomes white on black.

        x' = 255 - x

    All changes of color are one matrix for each picture: one more costs nothing.
    """

    stage = "color"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.1

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the inversion."""
        return draws.tint(inverted(draws.every)).note(stream.name, chosen=draws.every)


@technique("channel_shuffle", source="common practice; Buslaev et al. 2020, Albumentations")
class ChannelShuffle(Augmentation):
    """Put the three channels in another order, uniform over all six, with probability ``p``.

        x'[c] = x[s(c)]        s uniform over the permutations of the three channels

    All changes of color are one matrix for each picture: one more costs nothing.
    """

    stage = "color"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.2

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append a permutation matrix."""
        order = np.argsort(stream.uniform(3), axis=0).T
        return draws.tint(tinted(np.eye(3)[order])).note(stream.name, order=order)


@technique("channel_drop", source="common practice; Tompson et al. 2015, arXiv:1411.4280, applied to the input")
class ChannelDrop(Augmentation):
    """Set one channel, uniform over the three, to black, with probability ``p``: no single channel may decide.

        x'[c] = 0 for one channel c, uniform over the three;  x'[c] = x[c] for the others

    All changes of color are one matrix for each picture: one more costs nothing.
    """

    stage = "color"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.1

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append a diagonal with one zero."""
        dropped = np.floor(3 * stream.uniform()[0]).astype(np.int64)
        keep = np.arange(3) != dropped[:, None]
        return draws.tint(tinted(keep[:, :, None] * np.eye(3))).note(stream.name, dropped=dropped)


@technique("lighting", source="Krizhevsky et al. 2012, section 4.1")
class Lighting(Augmentation):
    """Add to every pixel a random multiple of the principal colors of ImageNet: the color of the light changes.

        x' = x + 255 P (a * d)        a: three numbers ~ N(0, sigma**2);  d, P: eigenvalues, eigenvectors of the covariance

    ``sigma``: standard deviation of the three multiples (the paper: 0.1). ``d`` and ``P`` are the constants of Facebook's
    fb.resnet.torch.
    """

    stage = "color"
    neutral: ClassVar = {"sigma": 0.0}

    sigma: Annotated[float, Ge(0), Search(0.02, 0.3)] = 0.1
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the offset."""
        multiples = self.sigma * normal(stream.uniform(6))
        offset = 255 * (_EIGENVECTORS @ (multiples * _EIGENVALUES[:, None])).T
        still = np.broadcast_to(np.eye(3), (len(draws), 3, 3))
        return draws.tint(tinted(still, b=offset)).note(stream.name, offset=offset)


@technique("gaussian_noise", formerly="noise", source="Bishop 1995, Training with noise is equivalent to Tikhonov regularization")
class GaussianNoise(Augmentation):
    """Add Gaussian noise to every pixel and channel, after color and before the clamp.

        x' = x + sigma z        z standard normal, sigma uniform on sigma_range

    ``sigma_range``: standard deviation in levels (of 255), uniform for each picture. The noise itself is a function of the same
    coordinates as every draw, so it can be replayed. It is the most costly transform here: one random number per value.
    """

    stage = "color"
    neutral: ClassVar = {"sigma_range": (0.0, 0.0)}

    sigma_range: tuple[float, float] = (0.0, 10.0)
    p: Probability = 1.0

    def __post_init__(self) -> None:
        check_range("gaussian_noise", "sigma_range", self.sigma_range, 0.0, 255.0)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the strength and the key of the noise; two independent noises add up to one."""
        low, high = self.sigma_range
        sigma = low + stream.uniform()[0] * (high - low)
        before = draws.noise.sigma if draws.noise else 0.0
        return replace(draws, noise=Noise(np.hypot(sigma, before), stream.key())).note(stream.name, sigma=sigma)


def normal(u: Floats) -> Floats:
    """Return standard normal numbers (n, B) from uniform ones (2 n, B), by Box and Muller's cosine."""
    radius, angle = np.split(u, 2)
    return np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)

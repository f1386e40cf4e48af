"""Tone: one curve per image and channel, read as a table of 256 levels.

Curves that bend (gamma, solarize, posterize) compose into one table. Autocontrast and equalization depend on the levels of
the image itself, so a draw only says *whether*; they come before the table.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from descend.augment.array_types import Floats
from descend.augment.factors import IDENTITY_TABLE, Draws, check_range
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.technique import Probability, Search, technique

Table = NDArray[np.float32]


def tables(curve: NDArray[np.floating]) -> Table:
    """Return the same curve (B, 256) for each channel: (B, 3, 256) float32 levels."""
    return np.repeat(curve[:, None], 3, 1).astype(np.float32)


def gamma_curve(gamma: Floats) -> Table:
    """Return ``255 (x / 255) ** gamma`` for each image, gamma (B,)."""
    curve = 255 * (IDENTITY_TABLE / 255) ** gamma[:, None]
    curve[gamma == 1] = IDENTITY_TABLE
    return tables(curve)


def solarized(threshold: Floats) -> Table:
    """Return the curve that inverts levels >= threshold (B,); above 255 nothing is."""
    return tables(np.where(threshold[:, None] <= IDENTITY_TABLE, 255 - IDENTITY_TABLE, IDENTITY_TABLE))


def posterized(bits: Floats) -> Table:
    """Return the curve that keeps the upper ``bits`` (B,) of each level; 8 keeps all."""
    kept = 256 - 2 ** (8 - bits.astype(np.int64))
    return tables((np.arange(256) & kept[:, None]).astype(np.float32))


@technique("gamma", source="Poynton 2012, Digital Video and HD, chapter 27 (power-law transfer)")
class Gamma(Augmentation):
    """Bend tones by a power, log-uniform on ``gamma_range``: darker above 1, lighter below, ends stay.

        x' = 255 (x / 255)**g        log g uniform between the logarithms of gamma_range

    All changes of tone are one table of 256 levels for each picture: one more costs nothing.
    """

    stage = "tone"
    neutral: ClassVar = {"gamma_range": (1.0, 1.0)}

    gamma_range: tuple[float, float] = (0.7, 1.4)
    p: Probability = 1.0

    def __post_init__(self) -> None:
        check_range("gamma", "gamma_range", self.gamma_range, 0.05, 20.0)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the curve."""
        low, high = np.log(self.gamma_range)
        gamma = np.exp(low + stream.uniform()[0] * (high - low))
        return draws.curve(gamma_curve(gamma)).note(stream.name, gamma=gamma)


@technique("solarize", source="Cubuk et al. 2019, arXiv:1805.09501, table 6")
class Solarize(Augmentation):
    """Invert the levels from ``threshold`` up, with probability ``p``, as an over-exposed negative does.

        x' = 255 - x where x >= threshold, else x

    All changes of tone are one table of 256 levels for each picture: one more costs nothing.
    """

    stage = "tone"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.2
    threshold: Annotated[int, Ge(0), Le(255), Search(64, 224)] = 128

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the curve."""
        return draws.curve(solarized(np.full(len(draws), self.threshold))).note(stream.name, chosen=draws.every)


@technique("posterize", source="Cubuk et al. 2019, arXiv:1805.09501, table 6")
class Posterize(Augmentation):
    """Keep only the upper ``bits`` of each level, with probability ``p``.

        x' = x - x mod 2**(8 - bits)

    All changes of tone are one table of 256 levels for each picture: one more costs nothing. Where geometry has
    averaged pixels it is read between its entries: a level between the end of a step and the next (127.5 with ``bits=1``) gets
    one between those that are kept.
    """

    stage = "tone"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.2
    bits: Annotated[int, Ge(1), Le(8), Search(2, 6)] = 4

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the curve."""
        return draws.curve(posterized(np.full(len(draws), self.bits))).note(stream.name, chosen=draws.every)


@technique("autocontrast", source="Cubuk et al. 2019, arXiv:1805.09501, table 6; Pillow's ImageOps")
class Autocontrast(Augmentation):
    """Spread each channel linearly over 0..255, with probability ``p``.

        y = 255 (x - low) / (high - low)        low, high: the channel's extremes

    A flat channel stays, and so does one whose levels lie less than half a level apart.
    """

    stage = "tone"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.2

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the stretch."""
        return draws.spread(draws.every).note(stream.name, chosen=draws.every)


@technique("equalize", source="Cubuk et al. 2019, arXiv:1805.09501, table 6; Pillow's ImageOps")
class Equalize(Augmentation):
    """Give each channel a flat histogram, with probability ``p``.

        y = (step / 2 + number of darker pixels) / step        step: pixels below the brightest level, / 255;  whole numbers

    A channel of one level stays.
    """

    stage = "tone"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.2

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the equalization."""
        return draws.equalize(draws.every).note(stream.name, chosen=draws.every)

"""Color as one affine map: brightness, contrast, saturation, hue, and the normalization at the end.

A change of color that is linear in (R, G, B) is a 3 x 3 matrix and an offset, and a chain of them is one such map. Contrast
turns about the mean gray of the picture; that mean is carried as a symbol (the ``D`` of ``factors.Draws.color``), so it too
composes. Because a chain is one map, it is clamped to 0..255 once, at its end: brightness 1.5 and then contrast 0.5 keeps the
highlights that a clamp in between would burn.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from descend.augment.array_types import Floats
from descend.augment.factors import GRAY, Draws, tinted
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.errors import KnobError
from descend.technique import Probability, Search, technique

Amount = Annotated[float, Ge(0), Search(0.0, 0.8)]
HueAmount = Annotated[float, Ge(0), Le(0.5), Search(0.0, 0.2)]

_ONES = np.ones((3, 1))
_TO_YIQ = np.array([GRAY, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])  # NTSC: luma and two chroma axes
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def gain(factor: Floats) -> Floats:
    """Return the color change (B, 3, 7) that multiplies every level by ``factor`` (B,)."""
    return tinted(factor[:, None, None] * np.eye(3))


def contrasted(factor: Floats) -> Floats:
    """Return the color change (B, 3, 7) that spreads levels ``factor`` (B,) times about the mean gray of the picture."""
    pull = (1 - factor)[:, None, None] * (_ONES * GRAY)
    return tinted(factor[:, None, None] * np.eye(3), pull)


def saturated(factor: Floats) -> Floats:
    """Return the color change (B, 3, 7) that moves each pixel ``factor`` (B,) times as far from its own gray."""
    f = factor[:, None, None]
    return tinted(f * np.eye(3) + (1 - f) * (_ONES * GRAY))


def hue_turned(angle: Floats) -> Floats:
    """Return the color change (B, 3, 7) that turns chroma by ``angle`` (B,) radians in the YIQ plane; luma stays."""
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle), np.sin(angle)
    change = _FROM_YIQ @ turn @ _TO_YIQ
    change[angle == 0] = np.eye(3)  # the round trip through YIQ is exact only to the last bits
    return tinted(change)


def around_one(u: Floats, amount: float) -> Floats:
    """Map uniform numbers to factors uniform on [max(0, 1 - amount), 1 + amount], torchvision's convention."""
    low = max(0.0, 1 - amount)
    return low + u * (1 + amount - low) if amount else np.ones_like(u)


@technique("brightness", source="Howard 2013, arXiv:1312.5402, section 2; torchvision's ColorJitter")
class Brightness(Augmentation):
    """Multiply all levels by a factor uniform on [1 - amount, 1 + amount]: a lamp turned up or down.

        x' = f x        f uniform on [max(0, 1 - amount), 1 + amount]

    All changes of color are one matrix for each picture: one more costs nothing.
    """

    stage = "color"
    neutral: ClassVar = {"amount": 0.0}

    amount: Amount = 0.4
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the gain."""
        factor = around_one(stream.uniform()[0], self.amount)
        return draws.tint(gain(factor)).note(stream.name, factor=factor)


@technique("contrast", source="Howard 2013, arXiv:1312.5402, section 2; torchvision's ColorJitter")
class Contrast(Augmentation):
    """Spread levels about the mean gray of the picture by a factor uniform on [1 - amount, 1 + amount].

        x' = c x + (1 - c) mean(gray)        c uniform on [max(0, 1 - amount), 1 + amount]

    The mean takes one look more at the picture; the change itself joins the one matrix of all changes of color.
    """

    stage = "color"
    neutral: ClassVar = {"amount": 0.0}

    amount: Amount = 0.4
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append ``x' = c x + (1 - c) mean(gray)``."""
        factor = around_one(stream.uniform()[0], self.amount)
        return draws.tint(contrasted(factor)).note(stream.name, factor=factor)


@technique("saturation", source="Howard 2013, arXiv:1312.5402, section 2; torchvision's ColorJitter")
class Saturation(Augmentation):
    """Move each pixel away from (> 1) or towards (< 1) its own gray by a factor uniform on [1 - amount, 1 + amount].

        x' = s x + (1 - s) gray(x)        s uniform on [max(0, 1 - amount), 1 + amount]

    All changes of color are one matrix for each picture: one more costs nothing.
    """

    stage = "color"
    neutral: ClassVar = {"amount": 0.0}

    amount: Amount = 0.4
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append ``x' = s x + (1 - s) gray(x)``."""
        factor = around_one(stream.uniform()[0], self.amount)
        return draws.tint(saturated(factor)).note(stream.name, factor=factor)


@technique("hue", source="Gonzalez & Woods 2018, Digital Image Processing, the YIQ color model")
class Hue(Augmentation):
    """Turn every color round the color circle by a share of it uniform on -amount..amount (0.5 is the opposite color).

        Y' = Y        (I', Q') = (I, Q) turned by 2 pi share        share uniform on [-amount, amount]

    It dislikes tasks where color is the answer (ripeness, staining). Differs from torchvision, which turns HSV: a turn of the
    YIQ chroma plane is linear and keeps luma, so it composes with the rest.
    """

    stage = "color"
    neutral: ClassVar = {"amount": 0.0}

    amount: HueAmount = 0.05
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the turn; noted as a share of the circle."""
        share = (2 * stream.uniform()[0] - 1) * self.amount
        return draws.tint(hue_turned(2 * np.pi * share)).note(stream.name, share=share)


@technique("color_jitter", source="Howard 2013, arXiv:1312.5402, section 2; torchvision's ColorJitter")
class ColorJitter(Augmentation):
    """Brightness, contrast, saturation and hue in one, in that order and each as in its own transform.

        x' = H(S(C(B(x))))        B: brightness, C: contrast, S: saturation, H: hue, each with an amount of its own

    Differs from torchvision: the order is fixed and levels are clamped once, at the end.
    """

    stage = "color"
    neutral: ClassVar = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}

    brightness: Amount = 0.4
    contrast: Amount = 0.4
    saturation: Amount = 0.4
    hue: HueAmount = 0.0
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the four changes."""
        u = stream.uniform(4)
        amounts = (self.brightness, self.contrast, self.saturation)
        b, c, s = (around_one(row, amount) for row, amount in zip(u, amounts, strict=False))
        share = (2 * u[3] - 1) * self.hue
        draws = draws.tint(gain(b)).tint(contrasted(c)).tint(saturated(s))
        if self.hue:
            draws = draws.tint(hue_turned(2 * np.pi * share))
        return draws.note(stream.name, brightness=b, contrast=c, saturation=s, hue=share)


@technique("normalize", source="LeCun et al. 1998, Efficient BackProp, section 4.3")
class Normalize(Augmentation):
    """Bring each channel to mean 0 and standard deviation 1, or near them.

        x' = (x / 255 - mean) / std

    mean, std: three numbers each, in the unit 1 = full level.
    Without knobs it takes the mean and standard deviation of the pipeline, which normalizes anyway: it then only says so.
    """

    stage = "normalize"
    batch_wide: ClassVar = True
    neutral: ClassVar = "it changes no level: it says which constants the pipeline subtracts and divides by"

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.std is not None and min(self.std) <= 0:
            raise KnobError("normalize", "std must be three numbers > 0", got=self.std)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Leave the draw as it is: the pipeline reads the constants."""
        return draws.note(stream.name)

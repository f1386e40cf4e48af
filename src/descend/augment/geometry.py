"""Where pixels come from: flips, crops, rotation, shift, scale, shear.

Each transform draws one matrix per image, from its canvas back to the canvas before it. Outside the stored image the pixels
are its mirror image (reflection about the outermost pixel centers), so no transform invents a black border; ``resampling``
chooses otherwise.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le

from descend.augment.box_sampling import N_ATTEMPTS, draw_boxes, first_fit
from descend.augment.factors import Draws, check_range
from descend.augment.matrices import crop_resize, rotation, shearing, stack, translation, zoom
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.errors import KnobError
from descend.technique import Probability, Search, technique

Angle = Annotated[float, Ge(0), Le(180), Search(0.0, 45.0)]
Pixels = Annotated[int, Ge(1)]


@technique("flip", source="common practice; Krizhevsky et al. 2012, section 4.1")
class Flip(Augmentation):
    """Mirror the picture with probability ``p``.

        x' = width - x        vertical: y' = height - y

    Prefer it wherever left and right carry no meaning; it harms digits, signs and text. It costs nothing: pixels are copied.
    ``axis``: "horizontal" swaps left and right, "vertical" top and bottom.
    """

    stage = "geometry"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 0.5
    axis: Literal["horizontal", "vertical"] = "horizontal"

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append ``x -> w - x`` (or ``y -> h - y``)."""
        h, w = draws.canvas
        along = 0 if self.axis == "horizontal" else 1
        matrix = stack([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], len(draws))
        matrix[:, along, along] = -1.0
        matrix[:, along, 2] = (w, h)[along]
        return draws.warp(matrix).note(stream.name, flipped=draws.every)


@technique("pad_crop", source="Lee et al. 2015, arXiv:1409.5185; He et al. 2016, arXiv:1512.03385, section 4.2")
class PadCrop(Augmentation):
    """Pad the picture, then cut the old size at a random whole-pixel position.

        (x, y) is read at (x + i, y + j)        i, j uniform over the whole numbers -padding, ..., padding

    The standard shift for small pictures (CIFAR, digits). Pixels are copied, never interpolated. ``padding``: pixels per side.
    Differs from the paper: the border is a mirror image; ``resampling(border=constant, fill=black)`` makes it black.
    """

    stage = "geometry"
    neutral: ClassVar = {"padding": 0}

    padding: Annotated[int, Ge(0), Search(0, 8)] = 4
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append a whole-pixel shift, uniform on -padding..padding in each direction."""
        shift = np.floor(stream.uniform(2) * (2 * self.padding + 1)) - self.padding
        return draws.warp(translation(shift[0], shift[1])).note(stream.name, x=shift[0], y=shift[1])


@technique("random_resized_crop", source="Szegedy et al. 2015, arXiv:1409.4842, section 6")
class RandomResizedCrop(Augmentation):
    """Cut a box of random area, shape and place, and stretch it over the output.

        (x, y) is read at (left + x width / w, top + y height / h)        width = sqrt(s r W H),  height = sqrt(s W H / r)
        s uniform on scale_range,  log r uniform between the logarithms of ratio_range,  each place in W x H alike

    The strongest single augmentation for photographs. It dislikes tasks where size matters or where the object may be cut
    away. ``scale_range``: share of the area, uniform. ``ratio_range``: width / height, log-uniform. ``size``: pixels per side of
    the (square) output; None takes the size of the pipeline. Of ten boxes the first that fits is taken, else the largest
    middle box of a legal shape. Differs from torchvision: boxes are not rounded to whole pixels.
    """

    stage = "geometry"
    neutral: ClassVar = {"scale_range": (1.0, 1.0), "ratio_range": (1.0, 1.0)}  # of square images

    size: Pixels | None = None
    scale_range: tuple[float, float] = (0.35, 1.0)
    ratio_range: tuple[float, float] = (3 / 4, 4 / 3)
    p: Probability = 1.0

    def __post_init__(self) -> None:
        check_range("random_resized_crop", "scale_range", self.scale_range, 1e-3, 1.0)
        check_range("random_resized_crop", "ratio_range", self.ratio_range, 0.1, 10.0)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the map from the output back to the drawn box."""
        h, w = draws.canvas
        place, rest = np.split(stream.uniform(2 + 2 * N_ATTEMPTS), [2])
        width, height = draw_boxes(rest, self.scale_range, self.ratio_range, (h, w))
        width, height, fits = first_fit(width, height, (width <= w) & (height <= h))
        ratio = np.clip(w / h, *self.ratio_range)
        width, height = np.where(fits, width, min(w, h * ratio)), np.where(fits, height, min(h, w / ratio))
        left, top = place[0] * (w - width), place[1] * (h - height)
        canvas = (self.size, self.size) if self.size else draws.target or draws.canvas
        matrix = crop_resize(left, top, width, height, canvas)
        return draws.warp(matrix, canvas).note(stream.name, left=left, top=top, width=width, height=height)


@technique("rotate", source="Simard et al. 2003, ICDAR, section 2 (affine distortions)")
class Rotate(Augmentation):
    """Turn the picture about its middle by an angle uniform on -degrees..degrees, counter-clockwise positive.

        (x', y') = middle + turn(a) ((x, y) - middle)        a uniform on [-degrees, degrees]

    Prefer small angles for pictures with an up and a down (10-20), 180 for microscopy and aerial views; upside down, a 6 is a 9.
    """

    stage = "geometry"
    neutral: ClassVar = {"degrees": 0.0}

    degrees: Angle = 15.0
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the rotation."""
        angle = (2 * stream.uniform()[0] - 1) * self.degrees
        return draws.warp(rotation(angle, draws.canvas)).note(stream.name, degrees=angle)


@technique("shift", source="Simard et al. 2003, ICDAR, section 2 (affine distortions)")
class Shift(Augmentation):
    """Move the picture by up to ``fraction`` of its sides, uniform in each direction, with sub-pixel precision.

        (x', y') = (x + u width, y + v height)        u, v uniform on [-fraction, fraction]

    All changes of geometry are one resampling: one more costs nothing.
    """

    stage = "geometry"
    neutral: ClassVar = {"fraction": 0.0}

    fraction: Annotated[float, Ge(0), Le(1), Search(0.0, 0.3)] = 0.1
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the translation; noted in pixels, positive to the right and down."""
        h, w = draws.canvas
        x, y = (2 * stream.uniform(2) - 1) * self.fraction * np.array([[w], [h]])
        return draws.warp(translation(-x, -y)).note(stream.name, x=x, y=y)


@technique("scale", source="Simard et al. 2003, ICDAR, section 2 (affine distortions)")
class Scale(Augmentation):
    """Enlarge (> 1) or shrink (< 1) the picture about its middle by a factor log-uniform on ``factor_range``.

        (x', y') = middle + f ((x, y) - middle)        log f uniform between the logarithms of factor_range

    ``anisotropic`` draws width and height apart, which also changes the aspect ratio.
    """

    stage = "geometry"
    neutral: ClassVar = {"factor_range": (1.0, 1.0)}

    factor_range: tuple[float, float] = (0.8, 1.25)
    anisotropic: bool = False
    p: Probability = 1.0

    def __post_init__(self) -> None:
        check_range("scale", "factor_range", self.factor_range, 0.01, 100.0)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the change of scale."""
        low, high = np.log(self.factor_range)
        x, y = np.exp(low + stream.uniform(2) * (high - low))
        y = y if self.anisotropic else x
        return draws.warp(zoom(x, y, draws.canvas)).note(stream.name, x=x, y=y)


_FLAT = 45  # degrees: the area of a picture that is slanted by a and b is multiplied by 1 - tan(a) tan(b)


@technique("shear", source="Simard et al. 2003, ICDAR, section 2 (affine distortions)")
class Shear(Augmentation):
    """Slant the picture by angles uniform on -degrees..degrees, along both axes or one.

        (x, y) is read at (x + y tan(a), y + x tan(b))        from the middle;  a, b uniform on [-degrees, degrees]

    Prefer the horizontal one for handwriting. Along both axes ``degrees`` stay below 45: two slants of 45 press the picture flat,
    and steeper ones turn it inside out.
    """

    stage = "geometry"
    neutral: ClassVar = {"degrees": 0.0}

    degrees: Annotated[float, Ge(0), Le(60), Search(0.0, 30.0)] = 10.0
    axis: Literal["both", "horizontal", "vertical"] = "both"
    p: Probability = 1.0

    def __post_init__(self) -> None:
        if self.axis == "both" and self.degrees >= _FLAT:
            raise KnobError("shear", f"degrees must be below {_FLAT} along both axes, where two slants press the picture flat",
                            got=self.degrees, fix="Lower degrees, or slant along one axis: axis=horizontal.")  # fmt: skip

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the shear; noted in degrees."""
        x, y = (2 * stream.uniform(2) - 1) * self.degrees
        x = x * (self.axis != "vertical")
        y = y * (self.axis != "horizontal")
        matrix = shearing(np.tan(np.deg2rad(x)), np.tan(np.deg2rad(y)), draws.canvas)
        return draws.warp(matrix).note(stream.name, x=x, y=y)

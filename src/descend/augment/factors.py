"""What a draw is: numbers per image that compose, so that many transforms cost one pass over the pixels.

A transform never touches an image. It *draws factors*: a matrix that says where each output pixel comes from, a tone
table, a color matrix, boxes to erase, a partner to mix with. Two rotations in a row are one matrix product; brightness
and then saturation are one 3 x 3 matrix. ``Draws`` holds the composed factors of a batch; ``apply`` (torch) and
``kernels`` (Numba) turn them into pixels. Whatever is absent is neutral, and neutral means identity to the bit.

Geometry is written in *edge* coordinates: pixel ``i`` covers ``[i, i + 1)``, its center is ``i + 0.5``, and an image ``w``
pixels wide spans ``[0, w]``. A flip is then ``x -> w - x`` and a change of size is ``x -> x * W / w``, without halves.

Color values are *levels*, 0 to 255 as float, until the last step normalizes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from descend.augment.array_types import Bools, Floats, Ints
from descend.augment.describe import Description, described
from descend.augment.projection import bent, project, spline, unbent, unproject
from descend.errors import KnobError

N_LEVELS = 256
LEAST_SPREAD = 0.5  # levels: a channel of less is flat; the weights of a resampling sum to one up to rounding only
IDENTITY_TABLE = np.arange(N_LEVELS, dtype=np.float32)
GRAY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma, the weights of Pillow and torchvision


@dataclass(frozen=True)
class Mix:
    """One mixing of a batch with a permutation of itself: ``x[i] = inside[i] x[i] + (1 - inside[i]) x[partner[i]]`` in a box.

    partner: (B,) row of the batch. weight: (B,) in [0, 1], the share of image i and of its target in the result. boxes: (B, 4)
    top, bottom, left, right in output pixels, half open; None is the whole image. inside: (B,) the share of image i within its
    box; None pastes, so the share is 0, where there are boxes, and blends by ``weight`` where there are none.
    """

    partner: Ints
    weight: Floats
    boxes: Ints | None = None
    inside: Floats | None = None


@dataclass(frozen=True)
class Noise:
    """Gaussian noise for each pixel and channel, in levels; ``key`` makes it the same wherever it is computed."""

    sigma: Floats  # (B,) levels
    key: tuple[int, int]


@dataclass(frozen=True)
class Neighborhood:
    """An operation that looks at neighboring pixels; it runs on the stored image, before the one pass."""

    kind: Literal["blur", "sharpen", "jpeg"]
    strength: Floats  # (B,) standard deviation in stored pixels, blend factor, or quality; NaN leaves the image alone


Interpolation = Literal["bilinear", "bicubic"]
Border = Literal["reflect", "constant", "replicate", "wrap"]
BORDERS: tuple[Border, ...] = get_args(Border)
_NAN = float("nan")


@dataclass(frozen=True)
class Sampling:
    """How stored pixels are read, between them and beyond them; one way for the whole batch.

    interpolation: "bilinear", or "bicubic" (Keys 1981, a = -1/2), whose overshoot is clamped to 0..255. border: what lies beyond
    the outermost pixels: their mirror image ("reflect", about the outermost pixel centers), one color ("constant"), the outermost
    pixel again ("replicate"), or the opposite side ("wrap"). fill: the levels of a constant border, NaN for the mean that
    normalization subtracts.
    """

    interpolation: Interpolation = "bilinear"
    border: Border = "reflect"
    fill: tuple[float, float, float] = (_NAN, _NAN, _NAN)


@dataclass(frozen=True)
class Draws:
    """The composed factors of one batch: readable (``describe``), replayable (``apply`` them again), invertible (``to_output``).

    matrix: (B, 3, 3) float64, output edge coordinates (x, y, 1) -> stored edge coordinates, homogeneous.
    color: (B, 3, 7) float64 ``[A | D | b]``: a pixel x becomes ``A x + D m + b`` with m the mean color of the image after
    tone; levels. table: (B, 3, 256) float32 levels. boxes: (B, n, 4) int64 top, bottom, left, right in output pixels, empty
    ones erase nothing; fills: (B, n, 3) float32 levels, NaN stands for the mean that normalization subtracts, infinity for
    normal noise with that mean and with the standard deviation that it divides by, drawn under the key ``grain``. bends: each
    (B, 2, g, g), control points (x, y) of a cubic B-spline that moves the output pixels before ``matrix`` places them, in
    shares of the shorter side. kept: how many of the first rows are results; the others are there as partners. None keeps all.
    stretch, flatten: (B,) bool, the images whose levels are spread over 0..255 (autocontrast) and equalized before the table.
    """

    ids: Ints
    epoch: int
    draw: int
    step: int | None
    source: tuple[int, int]  # height and width of the stored images
    canvas: tuple[int, int]  # height and width of the output
    matrix: Floats
    target: tuple[int, int] | None = None  # the output size that the pipeline asks for
    neighborhood: tuple[Neighborhood, ...] = ()
    bends: tuple[Floats, ...] = ()
    stretch: Bools | None = None
    flatten: Bools | None = None
    color: Floats | None = None
    table: NDArray[np.float32] | None = None
    boxes: Ints | None = None
    fills: NDArray[np.float32] | None = None
    grain: tuple[int, int] | None = None  # the Philox key of noisy fills
    noise: Noise | None = None
    mixes: tuple[Mix, ...] = ()
    sampling: Sampling | None = None  # None is the default, and not chosen by anyone yet
    kept: int | None = None
    parameters: dict[str, dict[str, NDArray[np.generic]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def every(self) -> Bools:
        """All images of the batch: (B,) bool."""
        return np.ones(len(self), bool)

    def changed(self, **fields: Any) -> Draws:
        """Return a draw with other values of some fields.

        It is ``dataclasses.replace`` in a fifth of its time, which small batches feel: a draw is changed twenty times.
        """
        draws = object.__new__(Draws)
        draws.__dict__.update({name: self.__dict__[name] for name in _FIELDS}, **fields)
        return draws

    def note(self, stream: str, **values: NDArray[np.generic]) -> Draws:
        """Record what a transform drew, under the name of its stream, for people to read."""
        return self.changed(parameters={**self.parameters, stream: values})

    def warp(self, matrix: Floats, canvas: tuple[int, int] | None = None) -> Draws:
        """Append a geometry: (B, 3, 3) or (3, 3) from the new canvas to the present one; ``canvas`` its (h, w) if it changes."""
        return self.changed(matrix=self.matrix @ matrix, canvas=canvas or self.canvas)

    def tint(self, change: Floats) -> Draws:
        """Append a color change (B, 3, 7): ``x' = A x + D mean(x) + b``, where x already carries the changes before it."""
        if self.color is None:
            return self.changed(color=change)
        a, d, b = split(self.color)
        a2, d2, b2 = split(change)
        mixed = a2 @ d + d2 @ (a + d)  # the mean of A m + D m + b is (A + D) m + b: no second sweep is needed
        return self.changed(color=np.concatenate([a2 @ a, mixed, (a2 + d2) @ b + b2], axis=-1))

    def curve(self, table: NDArray[np.float32]) -> Draws:
        """Append a tone table (B, 3, 256) of levels; tables compose by reading the later one at the values of the earlier."""
        return self.changed(table=table if self.table is None else look_up(table, self.table))

    def erase(self, boxes: Ints, fills: NDArray[np.float32]) -> Draws:
        """Append boxes (B, n, 4) to erase and their fills (B, n, 3); later boxes lie on top."""
        if self.boxes is None or self.fills is None:
            return self.changed(boxes=boxes, fills=fills)
        return self.changed(boxes=np.concatenate([self.boxes, boxes], 1), fills=np.concatenate([self.fills, fills], 1))

    def spread(self, chosen: Bools) -> Draws:
        """Stretch the levels of the chosen images (B,) over 0..255, each channel by itself."""
        return self.changed(stretch=chosen if self.stretch is None else self.stretch | chosen)

    def equalize(self, chosen: Bools) -> Draws:
        """Equalize the histogram of the chosen images (B,), each channel by itself."""
        return self.changed(flatten=chosen if self.flatten is None else self.flatten | chosen)

    def around(self, kind: Literal["blur", "sharpen", "jpeg"], strength: Floats) -> Draws:
        """Append an operation on neighboring stored pixels; NaN in ``strength`` (B,) leaves an image alone."""
        return self.changed(neighborhood=(*self.neighborhood, Neighborhood(kind, strength)))

    def mix(self, mix: Mix) -> Draws:
        """Append a mixing of the batch with itself; mixings follow one another."""
        return self.changed(mixes=(*self.mixes, mix))

    @cached_property
    def copies(self) -> Bools:
        """Which images need no interpolation, because pixel centers land on pixel centers: (B,) bool."""
        m = self.matrix
        linear = m[:, :2, :2]
        size = np.abs(linear)
        axes = ((size == 0) | (size == 1)).all((1, 2)) & (size.sum(1) == 1).all(1) & (size.sum(2) == 1).all(1)
        affine = (m[:, 2] == (0.0, 0.0, 1.0)).all(1)
        origin = linear.sum(2) / 2 + m[:, :2, 2] - 0.5  # where the center of the first output pixel comes from
        straight = np.ones(len(self), bool)
        for bend in self.bends:
            straight &= (bend == 0).all((1, 2, 3))
        return axes & affine & straight & (np.abs(origin - np.rint(origin)) < 1e-9).all(1)

    @cached_property
    def taps(self) -> Ints:
        """How many samples an output pixel averages down and across so that shrinking does not alias: (B, 2) int64.

        It is the length of the pixel's footprint in stored pixels, where a footprint up to 1.25 counts as one sample.
        """
        h, w = self.canvas
        if (self.matrix[:, 2] == (0.0, 0.0, 1.0)).all():  # then it is the same everywhere
            across, down = np.sqrt((self.matrix[:, :2, :2] ** 2).sum(1)).T
            return _n_samples(np.stack([down, across], -1))
        spots = np.array([(x, y) for x in (0.0, w / 2, w - 1.0) for y in (0.0, h / 2, h - 1.0)])
        at = np.broadcast_to(spots, (len(self), *spots.shape))
        here, right, below = (project(self.matrix, at + np.array(step, np.float64)) for step in ((0, 0), (1, 0), (0, 1)))
        length = np.stack([np.linalg.norm(end - here, axis=-1).max(1) for end in (below, right)], -1)
        return _n_samples(length)

    @cached_property
    def shifts(self) -> NDArray[np.float32] | None:
        """By how much each output pixel is moved before ``matrix`` places it: (B, 2, h, w) float32 (x, y) pixels, or None."""
        h, w = self.canvas
        down, across = ((np.arange(n) + 0.5) / n for n in (h, w))
        fields = [min(h, w) * (spline(down, b.shape[2]) @ b @ spline(across, b.shape[3]).T) for b in self.bends]
        return np.sum(fields, axis=0).astype(np.float32) if fields else None

    def to_source(self, points: Floats) -> Floats:
        """Map output points to the stored image: (B, n, 2) (x, y) edge coordinates -> the same shape.

        Points may fall outside the stored image; the pixels there are its mirror image.
        """
        return project(self.matrix, bent(self.bends, np.asarray(points, np.float64), self.canvas))

    def to_output(self, points: Floats) -> Floats:
        """Map points of the stored image to the output, the inverse of ``to_source``: (B, n, 2) (x, y) -> the same shape.

        NaN marks points that no output pixel comes from because a bend folds there. Raises DataError for a geometry without
        inverse.
        """
        return unbent(self.bends, unproject(self.matrix, np.asarray(points, np.float64)), self.canvas)

    def describe(self) -> list[Description]:
        """Return what was drawn, one flat readable dictionary per image: ``{"rotate.degrees": -3.25, ...}``."""
        return described(self.parameters, len(self))[: self.kept]


_FIELDS = Draws.__match_args__  # without what was computed from them


def neutral(
    ids: Ints, source: tuple[int, int], target: tuple[int, int] | None = None, *, epoch: int, draw: int, step: int | None
) -> Draws:
    """Return the draw that changes nothing; every pipeline starts from it."""
    return Draws(ids, epoch, draw, step, source, source, np.broadcast_to(np.eye(3), (len(ids), 3, 3)).copy(), target)


def _n_samples(length: Floats) -> Ints:
    return np.maximum(np.ceil(length - 0.25 - 1e-9), 1).astype(np.int64)


def split(color: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the parts A (B, 3, 3), D (B, 3, 3) and b (B, 3, 1) of a color change (B, 3, 7)."""
    return color[..., :3], color[..., 3:6], color[..., 6:]


def tinted(a: Floats, d: Floats | None = None, b: Floats | None = None) -> Floats:
    """Return the color change ``[A | D | b]`` (B, 3, 7) of A (B, 3, 3), D (B, 3, 3) and b (B, 3) in levels."""
    change = np.zeros((len(a), 3, 7))
    change[..., :3] = a
    if d is not None:
        change[..., 3:6] = d
    if b is not None:
        change[..., 6] = b
    return change


def look_up(table: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Read tables (B, 3, 256) at levels (B, 3, n), linear between entries: (B, 3, n) float32."""
    clipped = np.clip(values, 0, N_LEVELS - 1)
    low = np.minimum(clipped.astype(np.int64), N_LEVELS - 2)
    below, above = np.take_along_axis(table, low, -1), np.take_along_axis(table, low + 1, -1)
    part = (clipped - low).astype(np.float32)
    return np.where(part == 0, below, below + part * (above - below))


def check_range(who: str, knob: str, value: tuple[float, float], low: float, high: float) -> None:
    """Refuse an interval that is not ``low <= value[0] <= value[1] <= high``."""
    if not low <= value[0] <= value[1] <= high:
        raise KnobError(who, f"{knob} must be two numbers with {low:g} <= first <= second <= {high:g}", got=value)

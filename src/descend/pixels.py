"""How stored pixels become 8-bit levels: one policy for files, arrays and anyone's Pillow images.

* Deep pictures, with more than 8 bits per channel (16-bit and 32-bit integers, floats), are mapped to levels so that the two
  ends of a *scale* become 0 and 255. A data set has one scale for all its pictures (``shared_scale``); a picture that stands
  alone takes the usual one of its container (``usual_scale``). Values beyond the ends saturate; no number becomes 0.
* Transparent pixels show the *background* behind them (alpha, palette transparency and color keys alike).
* CMYK, YCbCr, palette, gray and 1-bit pictures become RGB by Pillow's plain conversion; color profiles are not applied.
* A picture stands upright as its EXIF orientation says (``turned``).

Everything here is a pure function of an image in memory; opening files is the business of ``descend.data.decode``.
Pictures are converted in strips, so that besides the stored pixels and the 8-bit result nothing grows with the
picture: ``flattened`` takes at most 4 bytes per pixel (1 for gray) beyond the picture it is given, and 64 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from descend.errors import PictureError
from descend.pixel_choices import BACKGROUNDS as BACKGROUNDS
from descend.pixel_choices import FITS as FITS
from descend.pixel_choices import Background, Fit
from descend.tiff_tags import BITS, as_declared, is_signed_8, is_white_zero, no_data, tag
from descend.value_range import USUAL_INTEGERS, ends
from descend.value_range import shared_scale as shared_scale

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # red, green and blue of its training pictures, in the unit 1 = full level
IMAGENET_STD = (0.229, 0.224, 0.225)

GROUND_LEVEL: dict[Background, int] = {"white": 255, "black": 0, "gray": 128}
ONE_COLOR = 8  # levels: a picture whose levels spread no further shows one color
_FAINT = 3.0  # levels of standard deviation: a square of 8 x 8 black pixels on 512 x 512 white ones has 4
_FEW = 64  # pixels: of fewer, each counts
_STRIP = 2**18  # pixels converted at once
_SOME_SIDE = 64  # pixels of a picture's side that are looked at first
_SAMPLE = 2**20  # values that a picture's extremes are taken from
_OVERSHOOT = 0.05  # of a usual range, which resampling adds


@dataclass(frozen=True)
class PixelPolicy:
    """What is chosen once for a data set and holds wherever its pictures are read.

    scale: (low, high), the stored values that become levels 0 and 255 in deep pictures; None takes each picture's usual one.
    background: what shows through transparent pixels, and around a picture that is padded.
    fit: how a picture that is not square becomes one. ``crop`` keeps the center square and its shapes; ``squash`` keeps the whole
    picture and bends its shapes; ``pad`` keeps both, on bars of the background's color, at fewer pixels.
    """

    scale: tuple[float, float] | None = None
    background: Background = "white"
    fit: Fit = "crop"


USUAL = PixelPolicy()


@dataclass(frozen=True)
class DeepColor:
    """A color picture of 16 bits per channel, for which Pillow has no mode: two 8-bit images of one mode, RGB, LA or RGBA.

    upper, lower: the upper and the lower 8 bits of every channel. no_data: what stands for missing data, without tags.
    """

    upper: Image.Image
    lower: Image.Image
    no_data: float | None = None


Picture = Image.Image | DeepColor | NDArray[Any]


def rgb(picture: Picture, policy: PixelPolicy = USUAL) -> NDArray[np.uint8]:
    """Return a picture's levels: (H, W, 3) uint8, RGB, the caller's own to write on.

    picture: a Pillow image of any mode, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, uint8 or uint16.
    Raises PictureError for an array of another kind.

    >>> import numpy as np
    >>> from descend.pixels import PixelPolicy, rgb
    >>> rgb(np.array([[0, 257, 65535]], np.uint16))[0, :, 0].tolist()
    [0, 1, 255]
    >>> rgb(np.array([[960, 1050, 1140]], np.uint16), PixelPolicy(scale=(960, 1140)))[0, :, 0].tolist()
    [0, 128, 255]
    """
    flat = np.array(flattened(picture, policy))  # a copy: Pillow's own buffer is read-only
    return flat if flat.ndim == 3 else np.repeat(flat[:, :, None], 3, axis=2)


def flattened(picture: Picture, policy: PixelPolicy = USUAL) -> Image.Image:
    """Return a picture as an 8-bit image without transparency: mode L where it is gray by its mode, else RGB.

    An image that is of such a mode already is returned as it is. Raises PictureError for an array of another kind.
    """
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture)
    if is_deep(picture):
        return _flat_deep(picture, policy)
    assert isinstance(picture, Image.Image)  # everything else is deep
    if picture.has_transparency_data:
        return _on_ground(picture, policy.background)
    wanted = "L" if picture.mode in ("1", "L") else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)


def is_deep(picture: Picture) -> bool:
    """Return whether a picture stores more than 8 bits per channel, or numbers below 0."""
    if isinstance(picture, Image.Image):
        return picture.mode.startswith(("I", "F")) or is_signed_8(picture)
    return isinstance(picture, DeepColor) or picture.dtype == np.uint16


def _from_array(array: NDArray[Any]) -> Picture:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or 0 in array.shape or array.dtype not in (np.bool_, np.uint8, np.uint16):
        raise PictureError("picture", f"an array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, uint8 or uint16 "
                           f"(it is {array.shape} {array.dtype})")  # fmt: skip
    if array.dtype == np.uint16:
        return array
    return Image.fromarray(np.ascontiguousarray(array * np.uint8(255) if array.dtype == np.bool_ else array))


# --------------------------------------------------------------------------------------------------------- orientation

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height


def orientation(image: Image.Image | NDArray[Any]) -> int:
    """Return the EXIF orientation of an image, 1 (upright) to 8; 1 where it has none."""
    if not isinstance(image, Image.Image):
        return 1
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata around sound pixels: Pillow raises a dozen kinds of error here
        return 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return an image of an EXIF orientation upright."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


# --------------------------------------------------------------------------------------------------------- transparency


def _on_ground(image: Image.Image, background: Background) -> Image.Image:
    """Return an image with transparency laid on a plain ground: mode RGB."""
    flat = Image.new("RGB", image.size, (GROUND_LEVEL[background],) * 3)
    for top, strip in _image_strips(image):
        strip = strip.convert("LA") if strip.mode == "La" else strip  # from which Pillow knows no other way
        layer = strip if strip.mode == "RGBA" else strip.convert("RGBA")
        # to the bit what alpha_composite gives on an opaque ground, in a third of its time
        flat.paste(layer, (0, top), mask=layer)
    return flat


def has_transparency(picture: Picture) -> bool:
    """Return whether a background can show through a picture."""
    image = picture.upper if isinstance(picture, DeepColor) else picture
    if isinstance(image, Image.Image):
        return image.has_transparency_data or _color_key(image) is not None
    return image.ndim == 3 and image.shape[2] == 4


def is_one_color(picture: Picture, background: Background) -> bool:
    """Return whether a picture's levels on a background lie within ``ONE_COLOR`` of each other, in each of its channels.

    Nearly every picture that shows more does so in a few thousand of its pixels; only the others are looked at as a whole.
    """
    return all(_spread(part) <= ONE_COLOR for part in _some_and_all(picture, background))


def is_nearly_one_color(picture: Picture, background: Background) -> bool:
    """Return whether a picture shows one color on a background, but for a few pixels or what is too faint to tell it by.

    A white symbol with one gray pixel, or with a pale shadow, is blank on white.
    """
    return all(_spread(part) <= ONE_COLOR or _variation(part) <= _FAINT for part in _some_and_all(picture, background))


def _some_and_all(picture: Picture, background: Background) -> Iterator[Image.Image]:
    """Yield some pixels of a large picture, laid on a background, and then all of them."""
    yield from (flattened(part, PixelPolicy(background=background)) for part in (*_some_pixels(picture), picture))


def _spread(flat: Image.Image) -> int:
    """Return how far the levels of an 8-bit image spread, in the widest of its channels."""
    extrema: Any = flat.getextrema()  # a pair, or one for each channel
    return max(high - low for low, high in (extrema if isinstance(extrema[0], tuple) else (extrema,)))


def _variation(flat: Image.Image) -> float:
    """Return the standard deviation of an 8-bit image's levels, less one pixel at either end, in the widest of its channels."""
    n = flat.width * flat.height
    few = int(n >= _FEW)
    up_to = np.cumsum(np.reshape(flat.histogram(), (-1, 256)), axis=1).clip(few, n - few)
    shares, level = np.diff(up_to, axis=1, prepend=few) / (n - 2 * few), np.arange(256)
    return float(np.sqrt((shares @ level**2 - (shares @ level) ** 2).max().clip(0)))


def _some_pixels(picture: Picture) -> list[Image.Image]:
    """Return an image of some pixels of a large one; none of a deep picture, whose levels follow from all of its values."""
    if is_deep(picture) or not isinstance(picture, Image.Image) or picture.width * picture.height <= _SOME_SIDE**2:
        return []
    return [picture.resize((_SOME_SIDE, _SOME_SIDE), Image.Resampling.NEAREST)]


def is_blank(picture: Picture) -> bool:
    """Return whether a picture shows one color on every background."""
    if is_deep(picture):
        low, high, *_ = extremes(picture)
        return not low < high
    return all(is_one_color(picture, background) for background in BACKGROUNDS)


# -------------------------------------------------------------------------------------------------------- deep pictures


def levels(values: NDArray[Any], scale: tuple[float, float]) -> NDArray[np.uint8]:
    """Return stored values as levels: the ends of ``scale`` become 0 and 255, what lies beyond saturates, NaN becomes 0.

    The first end may be the larger one, where 0 means white.
    """
    low, high = scale
    with np.errstate(invalid="ignore", over="ignore"):  # of damaged floats: signaling NaN, infinity
        unit = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.rint(np.nan_to_num(unit, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1) * 255).astype(np.uint8)


def usual_scale(picture: Picture) -> tuple[float, float]:
    """Return the scale of a deep picture that stands alone.

    It is the range of a 16-bit container, or of as many bits as a TIFF file declares, but that of 8 bits where no value is larger
    than 255, in 32-bit integers too: such a picture would be black. For other 32-bit integers and floats the
    smallest of the usual ranges that holds the picture (0..65535; 0..1, 0..255 or 0..65535) but for a thousandth of its values
    and a twentieth of the range, else its own lowest and highest. Raises PictureError for one without a finite number.
    """
    if (not isinstance(picture, Image.Image) or picture.mode != "F") and _is_of_8_bits(picture):
        return 0.0, USUAL_INTEGERS[0]
    if not isinstance(picture, Image.Image) or picture.mode.startswith("I;16"):
        bits = tag(picture, BITS, 16) if isinstance(picture, Image.Image) else 16  # 12-bit cameras write 0..4095
        return 0.0, float(2**bits - 1)
    low, high, _, n_apart = extremes(picture)
    if np.isnan(low):
        if not n_apart:
            raise PictureError("picture", "must hold at least one finite number")
        low = high = _no_data(picture) or 0.0  # nothing but what is declared to be missing: one color
    usual = (1.0, 255.0, 65535.0) if picture.mode == "F" else (65535.0,)
    return next(((0.0, peak) for peak in usual if low >= 0 and high <= peak * (1 + _OVERSHOOT)), (low, high))


def _is_of_8_bits(picture: Picture) -> bool:
    """Return whether a picture of whole numbers holds what 8 bits hold: none below 0, none above 255."""
    strips = (_colors(values) for _, values in value_strips(picture))
    return all(int(values.min()) >= 0 and int(values.max()) <= USUAL_INTEGERS[0] for values in strips)


class Extremes(NamedTuple):
    """What a deep picture's values span. n_missing: pixels that are no number. n_apart: values that are left out of the span."""

    low: float
    high: float
    n_missing: int
    n_apart: int


def extremes(picture: Picture) -> Extremes:
    """Return the lowest and the highest value of a deep picture, less a thousandth at either end, and what is left out.

    Color channels count together, alpha does not, and what is wholly transparent only where nothing else is. The value that a
    TIFF file declares to mean missing data, and values that stand apart from all others, are left out (``value_range.ends``). A
    picture without a single finite number gives (nan, nan, n, m).
    """
    every = max(1, int(np.ceil(np.sqrt(_n_pixels(picture) / _SAMPLE))))
    no_data, hidden = _no_data(picture), list[NDArray[Any]]()
    parts, n_missing, n_apart = list[NDArray[Any]](), 0, 0
    for top, strip in value_strips(picture):
        colors = _colors(strip)
        finite = np.isfinite(colors) if colors.dtype.kind == "f" else np.ones(colors.shape, np.bool_)
        n_missing += finite.size - int(np.count_nonzero(finite))
        if no_data is not None:
            n_apart += int((colors == no_data).sum())
            finite &= colors != no_data
        sampled = slice(-top % every, None, every), slice(None, None, every)
        seen = finite[sampled] & ~np.expand_dims(_is_clear(picture, strip[sampled]), tuple(range(2, colors.ndim)))
        parts.append(colors[sampled][seen])
        hidden.append(colors[sampled][finite[sampled] & ~seen])
    values = np.concatenate(parts) if any(part.size for part in parts) else np.concatenate(hidden)
    if not values.size:
        return Extremes(np.nan, np.nan, n_missing, n_apart)
    low, high, n_odd = ends(values)
    return Extremes(low, high, n_missing, n_apart + n_odd)


def _no_data(picture: Picture) -> float | None:
    if isinstance(picture, DeepColor):
        return no_data(picture.upper) if picture.no_data is None else picture.no_data
    return no_data(picture) if isinstance(picture, Image.Image) else None


def is_seen_through(picture: Picture) -> bool:
    """Return whether some pixel of a deep picture is not wholly opaque."""
    strips = (strip for _, strip in value_strips(picture))
    return any(bool(_is_clear(picture, strip, opacity=65535).any()) for strip in strips)


def _is_clear(picture: Picture, values: NDArray[Any], *, opacity: int = 1) -> NDArray[np.bool_]:
    """Return which of a deep picture's stored values, (H, W) or (H, W, C), are less opaque than that: (H, W)."""
    if values.ndim == 3 and values.shape[2] in (2, 4):
        return values[..., -1] < opacity
    key = _color_key(picture)
    if key is None:
        return np.zeros(values.shape[:2], np.bool_)
    return (values == key).reshape(*values.shape[:2], -1).all(axis=2)


def value_strips(picture: Picture) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (top row, values) of a deep picture from top to bottom: (h, W) or, in color, (h, W, C) uint16.

    Values are the numbers that the file declares (``tiff_tags.as_declared``).
    """
    if isinstance(picture, np.ndarray):
        height = max(1, _STRIP // picture.shape[1])
        yield from ((top, picture[top : top + height]) for top in range(0, len(picture), height))
    elif isinstance(picture, Image.Image):
        yield from ((top, as_declared(picture, np.asarray(strip))) for top, strip in _image_strips(picture))
    else:
        for (top, upper), (_, lower) in zip(_image_strips(picture.upper), _image_strips(picture.lower), strict=True):
            yield top, np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower)


def _flat_deep(picture: Picture, policy: PixelPolicy) -> Image.Image:
    """Return a deep picture as L or RGB, strip by strip."""
    scale = policy.scale or usual_scale(picture)
    if isinstance(picture, Image.Image) and is_white_zero(picture):
        scale = scale[1], scale[0]
    flat: Image.Image | None = None
    empty = True
    for top, values in value_strips(picture):
        empty = empty and not np.isfinite(values).any()
        shown = levels(_colors(values), scale)
        if _color_key(picture) is not None:
            shown[_is_clear(picture, values)] = GROUND_LEVEL[policy.background]
        strip = Image.fromarray(shown.squeeze(2) if shown.shape[2:] == (1,) else shown)
        if values.ndim == 3 and values.shape[2] in (2, 4):
            strip.putalpha(Image.fromarray(levels(values[..., -1], (0.0, 65535.0))))
            strip = _on_ground(strip, policy.background)
        flat = flat or Image.new(strip.mode, _size(picture))
        flat.paste(strip, (0, top))
    if empty or flat is None:
        raise PictureError("picture", "must hold at least one finite number")
    return flat


def _colors(values: NDArray[Any]) -> NDArray[Any]:
    """Return the channels less alpha: of 2, 3 and 4 the first 1, 3 and 3."""
    return values if values.ndim == 2 else values[..., : values.shape[2] - 1 | 1]


def _color_key(picture: Picture) -> NDArray[Any] | None:
    """Return the stored value, or the (3,) values of the channels, that stand for transparency, or None."""
    image = picture.upper if isinstance(picture, DeepColor) else picture
    key = image.info.get("transparency") if isinstance(image, Image.Image) else None
    return np.array(key) if isinstance(key, (int, tuple)) else None


def _image_strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    height = max(1, _STRIP // image.width)
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        yield top, image if height >= image.height else image.crop((0, top, image.width, bottom))


def _size(picture: Picture) -> tuple[int, int]:
    if isinstance(picture, np.ndarray):
        return picture.shape[1], picture.shape[0]
    return (picture if isinstance(picture, Image.Image) else picture.upper).size


def _n_pixels(picture: Picture) -> int:
    width, height = _size(picture)
    return width * height

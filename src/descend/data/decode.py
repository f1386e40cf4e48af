"""The one decode policy: whatever comes in, an upright ``(H, W, 3) uint8`` RGB picture comes out, or an error does.

This is the only file that opens pictures. It imports NumPy and Pillow and nothing heavier, so that a spawned worker starts fast.

* EXIF orientation is applied.
* Transparent pixels show white behind them (alpha, palette transparency and colour keys alike).
* 16-bit pictures are scaled to 8 bits, never saturated: 65535 becomes 255. 32-bit integers and floats take the smallest of the
  usual ranges that holds them (``_span``).
* CMYK, YCbCr, palette, grey and 1-bit pictures become RGB by Pillow's plain conversion; colour profiles are not applied.
* Of an animation, the first frame counts.
* A file that is truncated, empty, foreign or suspiciously large raises ``PictureError``; nothing is ever filled up with black.
* Resizing is Pillow's antialiased bicubic, shorter side first, then a centre crop: the evaluation geometry of timm and
  torchvision to the pixel. Only a JPEG at least ``2 * DRAFT_GAP`` times larger than asked is first shrunk while it is decoded.

Formats that need an outside program (EPS calls Ghostscript) or that Pillow can only identify are not pictures here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, UnidentifiedImageError

from descend.errors import DataError, DescendError, KnobError, PictureError

Source = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[Any]

POLICY = 1  # part of every cache key: raise it when any pixel of any picture would change
DRAFT_GAP = 2  # a drafted JPEG still has this many times the pixels asked for along each side, so the bicubic filter decides
_LONGEST = 4  # pictures longer than this many times their width are resized only where the crop will be
_FOREIGN = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})
_WIDE = ("I", "F")


@cache
def formats() -> tuple[str, ...]:
    """Return the names of the formats that count as pictures."""
    Image.preinit()  # the common formats register first and are tried first
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _FOREIGN)


@cache
def suffixes() -> frozenset[str]:
    """Return the file name endings, lower case with their dot, that count as pictures."""
    known = {*formats(), "MPO"}  # MPO is a JPEG with more pictures behind the first
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def is_picture_name(name: str) -> bool:
    """Say whether a file of this name counts as a picture: not hidden, and with an ending that Pillow reads."""
    base = name.rpartition("/")[2]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in suffixes()  # noqa: PTH122 (a name, not a path)


def decode(source: Source, *, name: str | None = None) -> NDArray[np.uint8]:
    """Decode a picture: a path, encoded bytes, an open file, a Pillow image or an array -> (H, W, 3) uint8, RGB.

    An array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, uint8 or uint16. ``name`` stands in errors.
    Raises PictureError, which names the picture and the reason.
    """
    with _named(name or _name_of(source)):
        return _as_rgb(_upright(_opened(source)))


def decode_resized(source: Source, resolution: int, *, name: str | None = None) -> NDArray[np.uint8]:
    """Decode a picture, bring its shorter side to ``resolution`` pixels and crop the centre: (R, R, 3) uint8, RGB.

    A picture whose shorter side has that size already is cropped only, without interpolation. Raises PictureError.
    """
    if resolution < 1:
        raise KnobError("decode_resized", "resolution must be a whole number >= 1", got=resolution)
    with _named(name or _name_of(source)):
        image = _opened(source)
        drafted = None if image is source else _draft(image, resolution)
        upright = _upright(image)
        box = _drafted_box(upright, drafted, _orientation(image)) if drafted else (0.0, 0.0, *upright.size)
        return _as_rgb(_fitted(upright, box, resolution))


def probe(source: Source, *, name: str | None = None) -> tuple[int, int]:
    """Read (width, height) from a picture's header, before any orientation. Raises PictureError."""
    with _named(name or _name_of(source)):
        return _opened(source).size


def _name_of(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or f"<{type(source).__name__}>")


@contextmanager
def _named(who: str) -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged file (anything, in practice) into a PictureError with a reason."""
    _hush()
    try:
        yield
    except PictureError as error:
        raise PictureError(who, error.must, fix=error.fix) from None
    except DescendError:
        raise
    except Exception as error:
        raise PictureError(who, f"must be a readable picture ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a format that Pillow reads"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow's limit"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".")


def _hush() -> None:
    """Keep Pillow's own warnings (odd metadata, large pictures) off the terminal: the policy decides about each.

    ``warnings.catch_warnings`` swaps a process-wide list and is not safe in threads; one filter that stays is.
    """
    if not any(action == "ignore" and getattr(module, "pattern", "") == r"PIL\." for action, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _opened(source: Source) -> Image.Image:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError("Pillow", "ImageFile.LOAD_TRUNCATED_IMAGES must be off", fix="Truncated pictures would be half black.")
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, os.PathLike)):
        source = Path(source).read_bytes()
    if isinstance(source, bytes):
        if not source:
            raise PictureError("picture", "must be a readable picture (the file is empty)")
        source = BytesIO(source)
    image = Image.open(source, formats=formats())
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        must = f"must have at most {Image.MAX_IMAGE_PIXELS:,} pixels (its header says {image.width} x {image.height})"
        raise PictureError("picture", must, fix="Raise PIL.Image.MAX_IMAGE_PIXELS if you trust it.")
    return image


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or 0 in array.shape or array.dtype not in (np.bool_, np.uint8, np.uint16):
        raise PictureError("picture", f"an array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, uint8 or uint16 "
                           f"(it is {array.shape} {array.dtype})")  # fmt: skip
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif array.dtype == np.uint16:
        array = _to_bytes(array, 0.0, 65535.0)
    return Image.fromarray(np.ascontiguousarray(array))


def _draft(image: Image.Image, resolution: int) -> tuple[float, float] | None:
    """Let a JPEG's decoder shrink by 2, 4 or 8 where that leaves enough; return the exact (width, height), before rounding up."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    wanted = _resized(image.size, resolution)
    drafted = image.draft(None, (DRAFT_GAP * wanted[0], DRAFT_GAP * wanted[1]))
    return None if drafted is None else drafted[1][2:]


def _drafted_box(upright: Image.Image, exact: tuple[float, float], orientation: int) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of the picture proper: a draft pads right and bottom, and turning moves the padding."""
    width, height = exact[::-1] if orientation in _SIDEWAYS else exact
    left = upright.width - width if orientation in (2, 3, 6, 7) else 0.0
    top = upright.height - height if orientation in (3, 4, 7, 8) else 0.0
    return left, top, left + width, top + height


def _upright(image: Image.Image) -> Image.Image:
    """Return the first frame in mode L or RGB, turned as its EXIF orientation says."""
    image.load()
    turn = _TURNS.get(_orientation(image))
    flat = _flat(image)
    return flat if turn is None else flat.transpose(turn)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # these swap width and height


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata around sound pixels: Pillow raises a dozen kinds of error here
        return 1


def _flat(image: Image.Image) -> Image.Image:
    if image.mode.startswith(_WIDE):
        return Image.fromarray(_scaled(image))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _scaled(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise PictureError("picture", "must hold finite numbers")
    low, high = _span(image, values)
    flat = _to_bytes(values, low, high)
    key = image.info.get("transparency")
    if isinstance(key, int):
        flat[values == key] = 255
    return flat


def _span(image: Image.Image, values: NDArray[Any]) -> tuple[float, float]:
    """Return the values that become 0 and 255: the range of the format, or the smallest usual range that holds them all."""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(258, 16)  # TIFF's BitsPerSample: 12-bit cameras write 0..4095
        return 0.0, float(2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1)
    low, high = float(values.min()), float(values.max())
    usual = (65535.0,) if image.mode == "I" else (1.0, 255.0, 65535.0)
    fitting = [peak for peak in usual if low >= 0 and high <= peak]
    return (0.0, fitting[0]) if fitting else (low, high)


def _to_bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    unit = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.rint(unit * 255).astype(np.uint8)


def _resized(size: tuple[float, float], resolution: int) -> tuple[int, int]:
    """Return (width, height) with the shorter side at ``resolution``; the longer one is rounded down, as in torchvision."""
    width, height = size
    longer = int(resolution * max(size) / min(size))
    return (resolution, longer) if width <= height else (longer, resolution)


def _fitted(image: Image.Image, box: tuple[float, float, float, float], resolution: int) -> Image.Image:
    """Resize what is in ``box`` (left, top, right, bottom) and crop its centre."""
    width, height = _resized((box[2] - box[0], box[3] - box[1]), resolution)
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)  # half to even, as torchvision rounds
    if max(width, height) > _LONGEST * resolution:
        x, y = (box[2] - box[0]) / width, (box[3] - box[1]) / height  # source pixels for each of ours
        corner = box[0] + left * x, box[1] + top * y
        part = (*corner, corner[0] + resolution * x, corner[1] + resolution * y)
        return image.resize((resolution, resolution), Image.Resampling.BICUBIC, box=part)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return image.crop((left, top, left + resolution, top + resolution))


def _as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    array = np.array(image)  # a copy: Pillow's own buffer is read-only
    return array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2)

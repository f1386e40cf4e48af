"""From a source to stored pixels: files, bytes, open files, Pillow images and arrays; every failure names the picture.

This is the only file that opens pictures. It imports NumPy and Pillow and nothing heavier, so that a spawned worker starts fast.
A file that is truncated, empty, foreign or suspiciously large raises ``PictureError``; nothing is ever filled up with black.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
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
from PIL import Image, ImageFile, UnidentifiedImageError

from descend.data.deep_color import is_deep_color, read_deep_color
from descend.data.fits import is_fits_16, read_fits_16
from descend.data.formats import LFS_POINTER, formats
from descend.data.large_jpeg import can_be_within_limit, is_beyond_limit, reopened
from descend.data.planar_tiff import is_planar, is_single, plane
from descend.data.png_text import without_large_text
from descend.data.ranges import Member
from descend.data.truncation import refuse_filled, refuse_truncated
from descend.errors import DataError, DescendError, PictureError
from descend.pixels import Picture, is_blank
from descend.regular_files import size_on_disk

LARGEST_FILE = 2**30  # bytes; a picture of 89 million pixels, uncompressed in 16-bit color with alpha, has 0.7 GB
MOST_BLANK = 64  # frames at the beginning of a file that are looked at
MOST_SOUGHT = 2**24  # pixels of a frame: of larger ones the first counts, for all threads would load them at once
_OF_FRAMES = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")  # each frame a picture: a camera's MPO holds views of one
READ_AT_ONCE = 2**24  # bytes; of a larger file the header is looked at first
_MARKED = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "AVIF", "HEIF")

Source = str | os.PathLike[str] | Member | bytes | IO[bytes] | Image.Image | NDArray[Any]


def opened(source: Source) -> Image.Image | NDArray[Any]:
    """Open a picture; the pixels of a file are not loaded yet, but for those of an animation.

    An image that its owner has opened and not touched is what its file would be; one that was loaded is what it shows.

    A file beyond Pillow's limit is a JPEG that its decoder can shrink: after that, ``check_pixels`` decides.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError("Pillow", "ImageFile.LOAD_TRUNCATED_IMAGES must be off", fix="Truncated pictures would be half black.")
    if isinstance(source, Image.Image):
        source = file_content(source) or source
    if isinstance(source, (Image.Image, np.ndarray)):
        return source
    if isinstance(source, (str, os.PathLike, Member)):
        source = read_source(source)
    if isinstance(source, bytes):
        if not source:
            raise PictureError("picture", "must be a readable picture (the file is empty)")
        if source.startswith(LFS_POINTER):
            raise PictureError("picture", "must be a readable picture (a pointer of Git LFS in its place: git lfs pull)")
        source = BytesIO(source)
    image = _identified(source)
    if is_planar(image) and is_single(image):
        image = plane(image, 0)
    if not can_be_within_limit(image):
        check_pixels(image)
    refuse_truncated(image)
    if image.format in _OF_FRAMES and image.width * image.height <= MOST_SOUGHT:
        _show_first(image)
    return image


def file_content(image: Image.Image) -> bytes | None:
    """Return the bytes of the file of an image, opened and not touched since, if they hold more than Pillow shows; else None.

    More are further frames, deeper colors, and what the header of a TIFF or FITS file says of its numbers. Raises PictureError
    for an image whose file was closed before anything of it was read.
    """
    if not isinstance(image, ImageFile.ImageFile) or getattr(image, "_im", None) is not None:
        return None
    if image.fp is None or getattr(image.fp, "closed", False):
        raise PictureError("picture", "must be open, or loaded (its file was closed before its pixels were read)",
                           fix="Call image.load() before the file is closed, or give the file's path.")  # fmt: skip
    holds_more = getattr(image, "is_animated", False) or is_deep_color(image) or image.format in ("TIFF", "FITS")
    if image.tell() or not holds_more:
        return None
    image.fp.seek(0)
    return image.fp.read()


def _show_first(image: Image.Image) -> None:
    """Go to the first frame, or page, that is not all one color; to the first of all where there is none among ``MOST_BLANK``.

    Animations fade in from black, scans begin with an empty page, and stacks of slices above their object. A later frame that
    cannot be decoded, or has too many pixels, ends the search. Raises what Pillow does for a first one.
    """
    if not getattr(image, "is_animated", False) or is_deep_color(image):
        return
    number = 0
    try:
        for number in range(MOST_BLANK):
            image.seek(number)
            check_pixels(image)
            image.load()
            if not is_blank(image):
                return
    except Exception as error:  # there is no further frame, or it is damaged
        if number == 0 or isinstance(error, MemoryError):
            raise  # asked again, Pillow would give a damaged first frame as a black picture
    image.seek(0)


def _identified(source: IO[bytes]) -> Image.Image:
    try:
        return Image.open(source, formats=formats())
    except Image.DecompressionBombError:  # beyond twice the limit, Pillow does not open it at all
        image = reopened(source)
        if image is None:
            raise
        return image
    except ValueError:  # of text in a PNG file that grows beyond Pillow's limit
        source.seek(0)
        slimmed = without_large_text(source.read())
        if slimmed is None:
            raise
        return Image.open(BytesIO(slimmed), formats=formats())


def check_pixels(image: Image.Image | NDArray[Any]) -> None:
    """Raise PictureError for a file, opened here, that would be loaded with more pixels than Pillow's limit."""
    if isinstance(image, Image.Image) and is_beyond_limit(image):
        must = f"must have at most {Image.MAX_IMAGE_PIXELS:,} pixels (its header says {image.width} x {image.height})"
        raise PictureError("picture", must, fix="Raise PIL.Image.MAX_IMAGE_PIXELS if you trust it.")


def read_source(source: str | os.PathLike[str] | Member) -> bytes:
    """Return the bytes of a picture, of its file or of its place in a shard. Raises OSError, PictureError."""
    return source.read() if isinstance(source, Member) else read_file(Path(source))


def read_file(path: Path) -> bytes:
    """Return the bytes of a picture's file, of 1 GiB at most.

    Raises OSError; also for a pipe, a device or a file of the kernel, which are never opened, because they may never end.
    PictureError for a file beyond the bound, and for one of more than 16 MiB that does not begin like a picture.
    """
    n_bytes = size_on_disk(path)
    if n_bytes > LARGEST_FILE:
        raise PictureError("picture", f"must be a readable picture (the file has {n_bytes:,} bytes, more than {LARGEST_FILE:,})")
    if n_bytes > READ_AT_ONCE:
        _check_header(path)
    return path.read_bytes() if n_bytes else b""


def _check_header(path: Path) -> None:
    """Raise PictureError unless a file begins like a picture; no more than its header is read."""
    try:
        Image.open(path, formats=formats()).close()
    except UnidentifiedImageError as error:
        raise PictureError("picture", f"must be a readable picture ({_reason(error)})") from None
    except Exception:  # it is opened again, in full, and its error told there
        return


def is_picture_file(file: Path | IO[bytes]) -> bool:
    """Say whether a file is a picture by its content, whatever its name; only formats that begin with a mark are tried."""
    _hush()
    try:
        if isinstance(file, Path) and (not size_on_disk(file) or file.is_dir()):
            return False
        with Image.open(file, formats=[name for name in _MARKED if name in formats()]):
            return True
    except Exception:  # Pillow raises a dozen kinds of error on files of other kinds
        return False


def loaded(image: Image.Image | NDArray[Any]) -> Picture:
    """Load the stored pixels, all bits of them."""
    if not isinstance(image, Image.Image):
        return image
    if is_deep_color(image):
        return read_deep_color(image)
    if is_fits_16(image):
        return read_fits_16(image)
    file = image.fp if isinstance(image, ImageFile.ImageFile) else None
    image.load()
    refuse_filled(image, file)
    return image


def name_of(source: Source) -> str:
    """Return what a source is called in errors."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or f"<{type(source).__name__}>")


@contextmanager
def naming(who: str) -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged file (anything, in practice) into a PictureError with a reason.

    A MemoryError says nothing about the file, and passes: what it is taken for may be kept, and believed by every later run.
    """
    _hush()
    try:
        yield
    except PictureError as error:
        raise PictureError(who, error.must, fix=error.fix) from None
    except (DescendError, MemoryError):
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

    What it logs, and what libtiff prints from C, is of damaged files too: the error that follows says it.
    ``warnings.catch_warnings`` swaps a process-wide list and is not safe in threads; one filter that stays is.
    """
    if not any(action == "ignore" and getattr(module, "pattern", "") == r"PIL\." for action, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=r"PIL\.")
    _silence_decoders()


@cache
def _silence_decoders() -> None:
    """Set, once for the process and so safely for threads, no handler for libtiff's messages and one for Pillow's log.

    libtiff's own handlers print; the library is found behind Pillow's, whose dependency it is. Where it is linked otherwise (in
    Windows), its messages go on being printed. A program that handles Pillow's log itself goes on receiving it.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # with none, Python prints errors itself
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        with contextlib.suppress(OSError, AttributeError, TypeError):
            set_handler = getattr(ctypes.CDLL(Image.core.__file__), name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)

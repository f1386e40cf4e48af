"""What a picture looks like, in a few numbers: perceptual hashes, as it is and mirrored, its extremes, and how it is stored.

Every picture is decoded once for it, squashed to ``SIDE`` x ``SIDE`` pixels, whatever its bytes are: a copy that was saved
again, resized, mirrored or turned has the signature of its original, or one a few bits away. A picture too small to be compared
so has a digest of its pixels instead. An index on disk, keyed by contents, keeps what was computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from descend.data.dct_hashes import SIDE, WAVES, hashes, waves
from descend.data.decode import POLICY, alone_if_large, decode, decode_resized
from descend.data.deep_color import is_deep_color
from descend.data.opening import naming, opened, read_source
from descend.data.packed import Packed, source_of
from descend.data.pool import in_order
from descend.data.ranges import Member
from descend.data.scan import DIGEST_BYTES, digest, reason
from descend.errors import PictureError
from descend.files import CacheFolder
from descend.pixels import USUAL, PixelPolicy
from descend.progress import Update

SIGNATURE = np.dtype([
    ("hashes", "<u8", 4), ("waves", "<f2", (WAVES, WAVES)), ("low", "u1"), ("high", "u1"), ("mean", "u1"),
    ("mode", "S8"), ("format", "S10"), ("bits", "u1"), ("pixels", "u1", DIGEST_BYTES),
])  # fmt: skip
MOST_KEPT = 2**18  # signatures in an index, 90 MB; beyond, those of the newest look alone are kept
LEAST_SIDE = 32  # pixels: smaller pictures have too few details, and resemble each other by chance
LEAST_SPREAD = 8  # levels between the darkest and the brightest: below, there is nothing to compare
_CHUNK = 64  # pictures given to a thread at once
Stored = tuple[bytes, bytes, int, bytes]  # mode, format, bits of one channel, digest of the pixels or zeros
_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16, "I": 32, "F": 32}


@dataclass(frozen=True)
class Pictures:
    """N pictures as signatures need them: the files below ``root``, or ``held``: as in ``Manifest.pictures``.

    digests: (N, 16) uint8. policy: how they are read. opaque: whether none of the files is transparent; whatever the background
    is, they have the same signatures then.
    """

    root: Path | None
    names: Sequence[str]
    digests: NDArray[np.uint8]
    policy: PixelPolicy
    held: NDArray[Any] | Packed | None = None
    opaque: bool = False

    def squashed(self, row: int, side: int = SIDE) -> NDArray[np.uint8]:
        """Return a whole picture at ``side`` x ``side`` pixels: (side, side, 3) uint8. Raises PictureError, OSError."""
        source = self.content(row)
        return decode_resized(source, side, name=self.names[row], policy=replace(self.policy, fit="squash"))

    def content(self, row: int) -> bytes | NDArray[Any]:
        """Return a picture's bytes or pixels. Raises OSError, PictureError."""
        source = source_of(self.root, self.names, self.held, row)
        if isinstance(source, (Path, Member)):
            return read_source(source)
        assert isinstance(source, (bytes, np.ndarray))  # in memory
        return source


@dataclass(frozen=True)
class Signatures:
    """rows: (N,) ``SIGNATURE``; zeros where a picture cannot be decoded. reasons: row -> why it cannot.

    hashes: of the picture as it is, mirrored left to right, top to bottom, and both ways; waves: the lowest frequencies of its
    gray levels, per pixel (``dct_hashes``); zeros for pictures below ``LEAST_SIDE``.
    low, high, mean: of its gray levels, at ``SIDE`` pixels where it has as many, 0 to 255. mode: Pillow's name of the color mode,
    as stored. bits: of one channel. pixels: a digest of all decoded pixels, for pictures with too few details to tell copies by
    (``is_too_plain``); zeros for others.
    """

    rows: NDArray[np.void]
    reasons: dict[int, str]


def signatures(pictures: Pictures, *, threads: int, cache: CacheFolder, progress: Update | None = None) -> Signatures:
    """Return the signature of every picture; only what no earlier look has left on disk is decoded."""
    _, first, same = np.unique(pictures.digests, axis=0, return_index=True, return_inverse=True)  # of copies, one is looked at
    seen = np.zeros(len(first), SIGNATURE)
    index = _Index(cache, pictures)
    wanted = np.flatnonzero(~index.fill(pictures.digests[first], seen))
    wanted = wanted[np.argsort(first[wanted])]  # as they lie, not as their digests sort: a row group is read for many at once
    reasons: dict[int, str] = {}

    def look(start: int) -> None:
        places, squashed, stored = list[int](), list[NDArray[np.uint8]](), list[Stored]()
        for at in map(int, wanted[start : start + _CHUNK]):
            try:
                picture, kind = _looked_at(pictures, int(first[at]))
            except PictureError as error:
                reasons[at] = reason(error)
            except OSError as error:
                reasons[at] = error.strerror or str(error)
            else:
                if min(picture.shape[:2]) < LEAST_SIDE:
                    seen[at] = _small_row(picture, kind)
                    continue
                places.append(at)
                squashed.append(picture)
                stored.append(kind)
        if places:
            seen[places] = _rows(np.stack(squashed), stored)

    if progress is not None and len(wanted):
        progress("looks", 0, len(wanted))  # so that the first chunk counts, and its time
    for done, _ in enumerate(in_order(look, range(0, len(wanted), _CHUNK), threads), start=1):
        if progress is not None:
            progress("looks", min(done * _CHUNK, len(wanted)), len(wanted))
    if len(wanted) > len(reasons):
        kept = np.setdiff1d(np.arange(len(first)), list(reasons))
        index.save(pictures.digests[first[kept]], seen[kept])
    same = same.reshape(-1)
    return Signatures(seen[same], {row: reasons[at] for row, at in enumerate(same.tolist()) if at in reasons})


def _looked_at(pictures: Pictures, row: int) -> tuple[NDArray[np.uint8], Stored]:
    """Return a picture at ``SIDE`` pixels, or whole where it is smaller, and how it is stored. Raises OSError, PictureError."""
    content, name = pictures.content(row), pictures.names[row]
    with naming(name):
        image = opened(content)
    size, mode, form, bits = _stored_as(image)
    if min(size) < LEAST_SIDE:
        whole = decode(image, name=name, policy=pictures.policy)
        return whole, (mode, form, bits, _digest_of(whole))
    small = decode_resized(content, SIDE, name=name, policy=replace(pictures.policy, fit="squash"))
    spread = np.ptp(np.asarray(Image.fromarray(small).convert("L")))
    plain = is_too_plain(np.array(size), spread)
    pixels = _digest_of(decode(content, name=name, policy=pictures.policy)) if plain else bytes(DIGEST_BYTES)
    return small, (mode, form, bits, pixels)


def _digest_of(whole: NDArray[np.uint8]) -> bytes:
    return digest(str(whole.shape).encode() + whole.tobytes())


def is_too_plain(sizes: NDArray[np.integer], spread: NDArray[np.integer] | int) -> NDArray[np.bool_]:
    """Return which pictures have too few details to tell copies by: (..., 2) pixels, (...,) levels -> (...,) bool."""
    return (sizes.min(axis=-1) < LEAST_SIDE) | (np.asarray(spread) < LEAST_SPREAD)


def _rows(small: NDArray[np.uint8], stored: Sequence[Stored]) -> NDArray[np.void]:
    """Return the signatures of pictures at ``SIDE`` pixels, (B, S, S, 3): (B,) ``SIGNATURE``."""
    tall = Image.fromarray(small.reshape(-1, SIDE, 3))  # Pillow's gray levels, of all in one call
    gray = np.asarray(tall.convert("L")).reshape(-1, SIDE, SIDE)
    rows = np.zeros(len(gray), SIGNATURE)
    coefficients = waves(gray)
    rows["hashes"], rows["waves"] = hashes(coefficients), coefficients / SIDE**2
    rows["low"], rows["high"], rows["mean"] = gray.min(axis=(1, 2)), gray.max(axis=(1, 2)), gray.mean(axis=(1, 2))
    *kinds, pixels = zip(*stored, strict=True)
    for field, values in zip(("mode", "format", "bits"), kinds, strict=True):
        rows[field] = values
    rows["pixels"] = np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, DIGEST_BYTES)
    return rows


def _small_row(whole: NDArray[np.uint8], stored: Stored) -> NDArray[np.void]:
    """Return the signature of a picture below ``LEAST_SIDE``, (H, W, 3): () ``SIGNATURE``, without hashes and waves."""
    gray = np.asarray(Image.fromarray(whole).convert("L"))
    row = np.zeros((), SIGNATURE)
    row["low"], row["high"], row["mean"] = gray.min(), gray.max(), gray.mean()
    row["mode"], row["format"], row["bits"], pixels = stored
    row["pixels"] = np.frombuffer(pixels, np.uint8)
    return row


def _stored_as(image: Image.Image | NDArray[Any]) -> tuple[tuple[int, int], bytes, bytes, int]:
    """Return size, mode, format and bits per channel of a picture as it is stored, opened and not loaded."""
    if not isinstance(image, Image.Image):
        return (image.shape[1], image.shape[0]), (b"L" if image.ndim == 2 or image.shape[2] == 1 else b"RGB"), b"", 8
    with alone_if_large(image):
        bits = 16 if is_deep_color(image) else _BITS.get(image.mode, 8)
    return image.size, image.mode.encode(), (image.format or "").encode(), bits


class _Index:
    """The signatures of earlier looks at one source under one policy, on disk, sorted by the digests of the contents."""

    def __init__(self, cache: CacheFolder, pictures: Pictures) -> None:
        place = "arrays" if pictures.root is None else str(pictures.root.absolute())
        background = USUAL.background if pictures.opaque and pictures.root is not None else pictures.policy.background
        text = f"signatures 4\0{POLICY}\0{PIL.__version__}\0{pictures.policy.scale}\0{background}\0{place}"
        key = digest(text.encode("utf-8", "surrogatepass")).hex()
        self._cache, self._path = cache, cache.entry_path("index", key, ".sealed")
        self._digests, self._rows = np.zeros((0, DIGEST_BYTES), np.uint8), np.zeros(0, SIGNATURE)
        content = cache.load(self._path)
        if content is not None:
            with np.load(BytesIO(content)) as file:
                self._digests, self._rows = file["digests"], file["rows"]

    def fill(self, digests: NDArray[np.uint8], rows: NDArray[np.void]) -> NDArray[np.bool_]:
        """Fill in the rows whose contents are known, and return which these are: (N,) bool."""
        known = np.zeros(len(digests), np.bool_)
        if len(self._digests):
            at = np.minimum(np.searchsorted(_heads(self._digests), _heads(digests)), len(self._digests) - 1)
            known = (self._digests[at] == digests).all(axis=1)
            rows[known] = self._rows[at[known]]
        return known

    def save(self, digests: NDArray[np.uint8], rows: NDArray[np.void]) -> None:
        """Write the signatures of these contents beside what was known; without them the next look decodes again."""
        if len(self._digests) + len(digests) <= MOST_KEPT:  # tables of one folder, and pictures in memory, share an index
            digests, rows = np.concatenate([digests, self._digests]), np.concatenate([rows, self._rows])
            _, first = np.unique(digests, axis=0, return_index=True)
            digests, rows = digests[first], rows[first]
        order = np.argsort(_heads(digests))
        content = BytesIO()
        np.savez(content, digests=digests[order], rows=rows[order])
        self._cache.store(self._path, content.getvalue())


def _heads(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each digest as a number that sorts: (N, 16) uint8 -> (N,)."""
    return np.ascontiguousarray(digests[:, :8]).view("<u8").reshape(-1)

"""Crops: pictures that show a part of another, four fifths of its sides or more, found by the hashes that its parts would have.

The lowest frequencies of a picture tell those of any part of it, so that no pixel is needed to find candidates: pairs in which
the hash of one picture differs in ``hash_pairs.MOST_BITS_OF_PARTS`` bits at most from that of a part of the other. The parts lie
on a grid; a candidate's borders are then moved until the details agree best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from descend.data.dct_hashes import SIDE, part_hashes
from descend.data.hash_pairs import within
from descend.data.likeness import ALIKE_BELOW, ALIKE_DETAIL, FAINT, MOST_ALIKE, correlation, details_of_gray, is_drawn, is_plain
from descend.data.pool import in_order

LEAST_SIDE = 64  # pixels: parts of smaller pictures have too few details
MOST_PICTURES = 100_000  # of the search, which takes the square of their number
STEP = 0.04  # of a side, from one part to the next
LARGEST_CUT = 5  # steps that are cut off a side
WHOLE_SIDE = 2 * SIDE  # pixels of the picture that a part is cut from
LEAST_COLOR, LEAST_DETAIL = 0.9, 0.9  # correlations of a crop ...
SURE_COLOR, SURE_DETAIL = 0.985, 0.97  # ... that is plain
LEAST_AT_FIRST = 0.3  # correlation of details before the borders have moved: they are off by half a step
MOVES = (0.02, 0.01, 0.005)  # of a side, by which borders are moved
MOST_CANDIDATES = 3  # for each picture (flowers have 0.1, solar cells 6): more, and the pictures resemble each other
MOST_ROUNDS = 6  # of moves of one length
_CHUNK = 2048  # pictures whose parts are hashed at once
_COMPARED = 128  # pairs that are compared at once

Part = tuple[float, float, float, float]
"""Left, top, right and bottom of a part, as shares of width and height."""

LITTLE_LESS: Part = (STEP / 2, STEP / 2, 1 - STEP / 2, 1 - STEP / 2)
_ALONG = np.array([move for sign in (1.0, -1.0) for move in (
    (sign, 0.0, sign, 0.0), (0.0, sign, 0.0, sign), (sign, 0.0, -sign, 0.0), (0.0, sign, 0.0, -sign),
)])  # fmt: skip
"""Moves of the borders: both of a side along it, and towards each other."""


@dataclass(frozen=True)
class Crops:
    """P pairs of rows, (P, 2) int64: a picture, and one that shows a part of it.

    detail: (P,) float32, the correlation of the details of the second with those of that part of the first.
    """

    pairs: NDArray[np.int64]
    detail: NDArray[np.float32]


NONE = Crops(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))


def parts() -> list[Part]:
    """Return the parts that are tried: square cuts of up to ``LARGEST_CUT`` steps, and strips cut along one side only."""
    found = list[Part]()
    for cut in range(1, LARGEST_CUT + 1):
        borders = [(STEP * start, 1 - STEP * (cut - start)) for start in range(cut + 1)]
        found += [(x[0], y[0], x[1], y[1]) for x, y in product(borders, borders)]
        found += [(x[0], 0.0, x[1], 1.0) for x in borders] + [(0.0, y[0], 1.0, y[1]) for y in borders]
    return found


def crops(
    waves: NDArray[np.float32], hashes: NDArray[np.uint64], squashed: Callable[[int, int], NDArray[np.uint8]],
    also: NDArray[np.int64], known: NDArray[np.int64], *, threads: int,
) -> Crops:  # fmt: skip
    """Find the crops among N pictures; none where so many pairs nearly pass that their pictures resemble each other.

    waves: (N, F, F), hashes: (N,), as of ``signatures``. squashed: row, side -> (side, side, 3) uint8. also: (P, 2) int64,
    other pairs that may be a whole and a part that is little less. known: (N,) int64, equal for pictures that are known to be
    copies: they are not compared, nor are two that crops have linked. threads: that decode and compare pictures.
    """
    every = [*parts(), LITTLE_LESS]
    whole, part, place = _candidates(waves, hashes)
    whole, part = np.concatenate([whole, also[:, 0], also[:, 1]]), np.concatenate([part, also[:, 1], also[:, 0]])
    place = np.concatenate([place, np.full(2 * len(also), len(every) - 1)])
    told = known[whole] != known[part]
    if told.sum() > MOST_CANDIDATES * len(hashes):
        return NONE
    pairs, borders = np.stack([whole, part], 1)[told], np.array(every)[place[told]]
    looks = _Looks(squashed, pairs, threads)
    at_first = looks.likeness_of_all(borders)
    family, n_nearly = known.copy(), 0
    found, detail = list[tuple[int, int]](), list[float]()
    for at in np.argsort(-at_first, kind="stable")[: int((at_first >= LEAST_AT_FIRST).sum())]:
        one, other = pairs[at].tolist()
        if family[one] == family[other]:
            continue
        best, likeness = _moved(borders[at], lambda many, at=at: looks.likeness(np.full(len(many), at), many))
        least_color, least_detail = (SURE_COLOR, SURE_DETAIL) if looks.is_plain(other) else (LEAST_COLOR, LEAST_DETAIL)
        if likeness >= least_detail and looks.color(one, other, best) >= least_color:
            found.append((one, other))
            detail.append(likeness)
            family[family == family[other]] = family[one]
        elif ALIKE_DETAIL <= likeness < ALIKE_BELOW:
            n_nearly += 1
            if n_nearly > MOST_ALIKE * len(hashes):
                return NONE
    return Crops(np.array(found, np.int64).reshape(-1, 2), np.array(detail, np.float32))


class _Looks:
    """Pictures as they are compared, each decoded once: gray, as a whole, and as a part less its surroundings.

    Of drawings, which agree with each other by chance, the details are zeros; what would be compared with them is not decoded.
    """

    def __init__(self, squashed: Callable[[int, int], NDArray[np.uint8]], pairs: NDArray[np.int64], threads: int) -> None:
        self._squashed, self._pairs, self._threads = squashed, pairs, threads
        cut = np.unique(pairs[:, 1]).tolist()
        self._fine = dict(zip(cut, in_order(self._details, cut, threads), strict=True))
        self._told = np.array([self._fine[part].any() for part in pairs[:, 1].tolist()], np.bool_)  # no drawings
        wholes = np.unique(pairs[self._told, 0]).tolist()
        self._wholes = dict(zip(wholes, in_order(self._whole, wholes, threads), strict=True))

    def likeness_of_all(self, borders: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return ``likeness`` of all pairs, (P, 4) -> (P,), computed by several threads; 0 where the second is a drawing."""
        found, told = np.zeros(len(self._pairs), np.float32), np.flatnonzero(self._told)
        chunks = [told[start : start + _COMPARED] for start in range(0, len(told), _COMPARED)]
        likeness = in_order(lambda chunk: self.likeness(chunk, borders[chunk]), chunks, self._threads)
        for chunk, values in zip(chunks, likeness, strict=True):
            found[chunk] = values
        return found

    def likeness(self, places: NDArray[np.int64], borders: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return how details of a part of a whole correlate with those of another, (M,), (M, 4) -> (M,). places: of pairs."""
        cut = [_cut(self._wholes[whole], at) for whole, at in zip(self._pairs[places, 0].tolist(), borders, strict=True)]
        parts_of_wholes = np.stack([np.asarray(part, np.float32) for part in cut])
        fine = np.stack([self._fine[part] for part in self._pairs[places, 1].tolist()])
        return correlation(details_of_gray(parts_of_wholes), fine, least=FAINT)

    def _details(self, part: int) -> NDArray[np.float32]:
        gray = np.asarray(Image.fromarray(self._squashed(part, SIDE)).convert("L"), np.float32)[None]
        return np.zeros_like(gray[0]) if is_drawn(gray)[0] else details_of_gray(gray)[0]

    def _whole(self, row: int) -> Image.Image:
        return Image.fromarray(self._squashed(row, WHOLE_SIDE)).convert("L")

    def is_plain(self, part: int) -> bool:
        """Return whether a part that was compared has few details."""
        return bool(is_plain(self._fine[part][None])[0])

    def color(self, whole: int, part: int, borders: NDArray[np.float64]) -> float:
        """Return the correlation of the colors of a picture with those of a part of another."""
        cut = np.asarray(_cut(Image.fromarray(self._squashed(whole, WHOLE_SIDE)), borders), np.float32)
        return float(correlation(cut[None], self._squashed(part, SIDE)[None].astype(np.float32))[0])


def _cut(whole: Image.Image, borders: NDArray[np.float64]) -> Image.Image:
    left, top, right, bottom = (borders * WHOLE_SIDE).tolist()
    return whole.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, right, bottom))


def _moved(
    borders: NDArray[np.float64], likeness: Callable[[NDArray[np.float64]], NDArray[np.float32]]
) -> tuple[NDArray[np.float64], float]:
    """Move borders, (4,), for as long as the likeness grows; return where they have come to stand, and how large it is there."""
    best = float(likeness(borders[None])[0])
    for step in MOVES:
        for _ in range(MOST_ROUNDS):
            tried = np.clip(borders + step * _ALONG, 0, 1)
            found = likeness(tried)
            if found.max() <= best:
                break
            borders, best = tried[found.argmax()], float(found.max())
    return borders, best


def _candidates(waves: NDArray[np.float32], hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], ...]:
    """Return wholes, parts and the numbers of the parts in ``parts``, (P,) each: of a pair the part whose hash is nearest."""
    n = len(hashes)
    tried = np.empty((len(parts()), n), np.uint64)
    for start in range(0, n, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        for place, (left, top, right, bottom) in enumerate(parts()):
            tried[place, chunk] = part_hashes(waves[chunk], (left, right), (top, bottom))
    whole, part, place, n_bits = within(tried, hashes)
    order = np.lexsort((place, n_bits, part, whole))
    whole, part, place = whole[order], part[order], place[order]
    first = np.diff(whole * n + part, prepend=-1) != 0
    return whole[first], part[first], place[first]

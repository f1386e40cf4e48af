"""Pairs of pictures whose hashes nearly agree, as they are or with one of the two mirrored or turned; not all are compared.

Of ``BANDS`` bands of a hash, two that differ in at most ``MOST_BITS`` bits agree in ``BANDS - MOST_BITS`` or more, so pairs are
sought among pictures that sort together by some choice of so many bands (multi-index hashing: Norouzi, Punjani & Fleet 2012,
arXiv:1307.2982; here with several bands to a key).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from descend.data.orientations import CLOCKWISE, TURNS, undone

MOST_BITS, BANDS = 6, 8
MOST_BITS_OF_PARTS = 8  # two bits more: a part lies beside those that are tried; of these pairs some sort together by no choice
CHOICES = list(combinations(range(BANDS), BANDS - MOST_BITS))
MOST_NEIGHBOURS = 64  # of a picture among those that sort together: sets of a thousand look-alikes stay quick
MOST_WITHIN = 200  # nearly agreeing parts for each picture: more, and the pictures resemble each other
MOST_TURNS = 2  # of a pair, those with the fewest bits: of symmetric pictures every turn comes near


def candidates(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of places, (P, 2), the smaller first, and (P,) the turns of the second that bring their hashes together.

    hashes: (N, 8), of each picture after every one of ``orientations.TURNS``. A pair stands there once for each of its turns, for
    ``MOST_TURNS`` at most.
    """
    n = len(hashes)
    found = list[NDArray[np.int64]]()
    for turn in range(len(TURNS)):
        if turn == CLOCKWISE:
            continue  # those of the other quarter turn, exchanged
        keys = hashes[:, 0] if turn == 0 else np.concatenate([hashes[:, 0], hashes[:, turn]])
        by_key = np.argsort(keys, kind="stable")
        codes = np.unique(np.concatenate([_sorting_together(keys, by_key, chosen, n) for chosen in CHOICES]))
        one, other = np.divmod(codes, max(len(keys), 1))
        other = other - n if turn else other
        turns = np.where(one > other, undone(np.full(len(one), turn)), turn)
        found.append((np.minimum(one, other) * n + np.maximum(one, other)) * len(TURNS) + turns)
    code, turns = np.divmod(np.unique(np.concatenate(found)), len(TURNS))
    one, other = np.divmod(code, max(n, 1))
    n_bits = n_different(hashes[one, 0], hashes[other, turns])
    order = np.lexsort((turns, n_bits, code))
    code, turns = code[order], turns[order]
    kept = np.arange(len(code)) - np.searchsorted(code, code) < MOST_TURNS
    return np.stack(np.divmod(code[kept], max(n, 1)), 1), turns[kept]


def within(
    many: NDArray[np.uint64], hashes: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return where ``hashes``, (N,), nearly agree with some of ``many``, (W, N), of other pictures.

    Returned: (P,) each, the picture of one of ``many``, that of the hash, which one of ``many``, and the bits that differ; none
    where there would be more than ``MOST_WITHIN`` for each picture.
    """
    n = len(hashes)
    codes = _all_within(many, hashes) if n <= MOST_NEIGHBOURS else _sorted_within(many, hashes)
    codes = codes if len(codes) <= MOST_WITHIN * n else codes[:0]
    pairs, place = np.divmod(codes, len(many))
    one, other = np.divmod(pairs, max(n, 1))
    return one, other, place, n_different(many[place, one], hashes[other])


def _all_within(many: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return what ``_sorted_within`` finds among so few that none has more neighbors than it looks at: all are compared.

    Of 18 pictures that takes a fiftieth of the time, of 64 a third.
    """
    differing = many[:, :, None] ^ hashes
    bands = np.ascontiguousarray(differing)[..., None].view(np.uint8)  # BANDS bands of one byte
    near = (n_different(many[:, :, None], hashes) <= MOST_BITS_OF_PARTS) & ((bands == 0).sum(-1) >= BANDS - MOST_BITS)
    place, one, other = np.nonzero(near & ~np.eye(len(hashes), dtype=np.bool_))
    return np.unique((one * len(hashes) + other) * len(many) + place)


def _sorted_within(many: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return (one * N + other) * W + place, sorted, of those that nearly agree; not all where there are too many."""
    n = len(hashes)
    by_key = np.argsort(hashes, kind="stable")
    codes = np.zeros(0, np.int64)
    for chosen in CHOICES:
        found = [codes]
        own = _bands(hashes, chosen)
        order = by_key[np.argsort(own[by_key], kind="stable")]
        starts = np.searchsorted(own[order], np.arange(2**16 + 1))
        for place, keys in enumerate(many):
            wanted = _bands(keys, chosen)
            n_there = np.minimum(starts[wanted + 1] - starts[wanted], MOST_NEIGHBOURS)
            one = np.repeat(np.arange(n), n_there)
            other = order[starts[wanted[one]] + np.arange(len(one)) - (np.cumsum(n_there) - n_there)[one]]
            close = (n_different(keys[one], hashes[other]) <= MOST_BITS_OF_PARTS) & (one != other)
            found.append((one[close] * n + other[close]) * len(many) + place)
        codes = np.unique(np.concatenate(found))
        if len(codes) > MOST_WITHIN * n:
            break
    return codes


def _bands(keys: NDArray[np.uint64], chosen: tuple[int, ...]) -> NDArray[np.int64]:
    """Return some bands of words as one number of 16 bits."""
    width = 64 // BANDS
    part = np.zeros(len(keys), np.uint64)
    for band in chosen:
        part = (part << np.uint64(width)) | ((keys >> np.uint64(width * band)) & np.uint64(2**width - 1))
    return part.astype(np.int64)


def _sorting_together(keys: NDArray[np.uint64], by_key: NDArray[np.int64], bands: tuple[int, ...], n: int) -> NDArray[np.int64]:
    """Return the pairs that agree in these bands and differ in ``MOST_BITS`` at most: (P,) int64, smaller place * len + larger.

    by_key: the order of the keys. n: of more keys than that, pairs are of one of the first n and one of the others, and never of
    one picture with itself.
    """
    part = _bands(keys, bands).astype(np.uint16)  # 16 bits are sorted in one sweep
    order = by_key[np.argsort(part[by_key], kind="stable")]
    part = part[order]
    pairs = [np.zeros(0, np.int64)]
    for step in range(1, min(MOST_NEIGHBOURS, len(keys) - 1) + 1):
        at = np.flatnonzero(part[:-step] == part[step:])
        if not len(at):
            break
        one, other = order[at], order[at + step]
        one, other = np.minimum(one, other), np.maximum(one, other)
        if len(keys) > n:
            across = (one < n) & (other >= n) & (one != other - n)
            one, other = one[across], other[across]
        close = n_different(keys[one], keys[other]) <= MOST_BITS
        pairs.append(one[close] * len(keys) + other[close])
    return np.concatenate(pairs)


def n_different(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return in how many bits words differ: (P,), (P,) -> (P,).

    Source: H. S. Warren, Hacker's Delight (2nd ed., 2012), figure 5-2.
    """
    words = one ^ other
    words = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    words = (words & np.uint64(0x3333333333333333)) + ((words >> np.uint64(2)) & np.uint64(0x3333333333333333))
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((words * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)

"""Randomness as a function: ``(seed, stream, epoch, sample, draw)`` in, the same numbers out, in any order, anywhere.

A classical generator is a *sequence*: the thousandth number needs the 999 before it, so worker count, batch size and the
point of resumption all change what a picture gets. A counter-based generator (Philox4x32-10, Salmon et al. 2011) is a
*hash*: it encrypts a counter under a key. Here the key is drawn from everything a whole batch shares (seed, stream name,
epoch, draw) and the counter holds the sample id and the running number, so there is no state, nothing to checkpoint, and
number ``j`` of sample ``i`` is the same whoever asks for it and whatever else is asked for.

Source: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the constants and the
known-answer vectors of its Random123 library.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # multipliers
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # steps of the key, a Weyl sequence
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUNDS = 10


def philox_rounds(a: Any, b: Any, c: Any, d: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Encrypt the four words of a counter under two words of a key; all are 32-bit words held in uint64.

    The one text of Philox: it runs on NumPy arrays and scalars, and is compiled into kernels as it stands.
    """
    for _ in range(_ROUNDS):
        left, right = _M0 * a, _M1 * c
        a, b = (right >> _HALF) ^ b ^ k0, right & _LOW
        c, d = (left >> _HALF) ^ d ^ k1, left & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return a, b, c, d


def philox4x32(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Encrypt ``counter`` ((4, ...) uint64 holding 32-bit words) under ``key``; returns the same shape."""
    a, b, c, d = counter
    return np.stack(philox_rounds(a, b, c, d, np.uint64(key[0]), np.uint64(key[1])))


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()


def key(seed: int, stream: str, *, epoch: int = 0, draw: int = 0) -> tuple[int, int]:
    """Return the 64-bit Philox key, as two 32-bit words, of one stream in one epoch and draw."""
    digest = _digest(int(seed), stream, int(epoch), int(draw))
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def bits(seed: int, stream: str, *, ids: ArrayLike, n: int = 1, epoch: int = 0, draw: int = 0) -> NDArray[np.uint32]:
    """Return ``n`` random 32-bit words for each sample id: ids (B,) int64 -> (B, n) uint32.

    Word ``j`` of a sample does not depend on ``n`` nor on the other ids.
    """
    ids = np.atleast_1d(np.asarray(ids)).astype(np.int64).view(np.uint64)
    n_blocks = -(-n // 4)
    block = np.arange(n_blocks, dtype=np.uint64)
    counter = np.zeros((4, ids.size, n_blocks), np.uint64)
    counter[0], counter[1] = block & _LOW, block >> _HALF
    counter[2], counter[3] = (ids & _LOW)[:, None], (ids >> _HALF)[:, None]
    words = philox4x32(counter, key(seed, stream, epoch=epoch, draw=draw))
    return np.moveaxis(words, 0, -1).reshape(ids.size, -1)[:, :n].astype(np.uint32)


def uniform(seed: int, stream: str, *, ids: ArrayLike, n: int = 1, epoch: int = 0, draw: int = 0) -> NDArray[np.float64]:
    """Return ``n`` uniform numbers in the open interval (0, 1) for each sample id: (B, n) float64."""
    words = bits(seed, stream, ids=ids, n=n, epoch=epoch, draw=draw)
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def bernoulli(
    seed: int, stream: str, *, ids: ArrayLike, p: float, n: int = 1, epoch: int = 0, draw: int = 0
) -> NDArray[np.bool_]:
    """Return which of ``n`` events of probability p, from 0 to 1, happen for each sample id: ids (B,) int64 -> (B, n) bool.

    Event ``j`` happens where a uniform number lies below p, which is rounded to 32 binary digits. The number is drawn digit by
    digit, as many as p has, so that a fair coin costs a random bit and not a word: digit ``k`` of the 128 events of group ``g``
    are the bits of the sample's Philox block ``g d + k``, where p has ``d`` digits. Whoever draws may stop at the digit by which
    all numbers of a group differ from p: the others decide nothing.
    """
    edge, d = round(p * 2**32), binary_digits(p)
    n_groups = -(-n // 128)
    words = bits(seed, stream, ids=ids, n=4 * d * n_groups, epoch=epoch, draw=draw)
    words, number = words.reshape(len(words), n_groups, d, 4), np.zeros((len(words), n_groups, 4, 32), np.uint64)
    for k in range(d):
        number |= (words[:, :, k, :, None] >> np.arange(32, dtype=np.uint32) & 1).astype(np.uint64) << np.uint64(31 - k)
    return (number < edge).reshape(len(words), -1)[:, :n]


def binary_digits(p: float) -> int:
    """Return how many digits behind the point a probability has, rounded to 32 of them: 1 for 0.5, 0 for 0 and 1."""
    edge = round(p * 2**32)
    return next(d for d in range(33) if edge % 2 ** (32 - d) == 0)


def visit_numbers(order: ArrayLike) -> NDArray[np.int64]:
    """Return how often each entry stood in the order before: order (n,) whole -> (n,) int64, 0 at its first visit.

    >>> from descend.rng import visit_numbers
    >>> visit_numbers([7, 3, 7, 7, 3]).tolist()
    [0, 0, 1, 2, 1]
    """
    rows = np.asarray(order)
    rank = np.argsort(rows, kind="stable")
    first = np.ones(rows.size, bool)
    first[1:] = rows[rank][1:] != rows[rank][:-1]
    numbers = np.empty(rows.size, np.int64)
    numbers[rank] = np.arange(rows.size) - np.maximum.accumulate(np.where(first, np.arange(rows.size), 0))
    return numbers


def visit_ids(ids: ArrayLike, visits: ArrayLike) -> NDArray[np.int64]:
    """Return the ids by which samples draw on their k-th visit in an epoch: ids (B,), visits (B,) from 0 -> (B,) int64.

    The first visit draws by the id itself. A later one draws by 64 random bits that are a function of (id, visit), so a sample
    that an epoch repeats gets other draws each time, in whatever draws by its id.
    """
    ids, visits = np.asarray(ids, np.int64), np.asarray(visits, np.int64)
    numbers, again = ids.copy(), visits > 0
    words, later = ids[again].view(np.uint64), visits[again].view(np.uint64)
    counter = np.stack([later & _LOW, later >> _HALF, words & _LOW, words >> _HALF])
    low, high, *_ = philox4x32(counter, key(0, "visit"))
    numbers[again] = (high << _HALF | low).view(np.int64)
    return numbers


def permutation(n: int, *, seed: int, stream: str, epoch: int = 0) -> NDArray[np.int64]:
    """Return a permutation of ``range(n)``: (n,) int64. It sorts 64 random bits per sample, so ties do not matter."""
    words = bits(seed, stream, ids=np.arange(n), n=2, epoch=epoch).astype(np.uint64)
    return np.argsort((words[:, 0] << _HALF) | words[:, 1], kind="stable").astype(np.int64)


def integer_seed(seed: int, stream: str) -> int:
    """Return a 63-bit seed for a foreign generator (torch's weight initialization, scikit-learn's splitters)."""
    return int.from_bytes(_digest(int(seed), stream), "little") >> 1


_torch_lock = threading.RLock()


@contextmanager
def torch_drawn(seed: int, stream: str) -> Iterator[None]:
    """Let torch's CPU generator draw from (seed, stream) within the block, and leave it where it was.

    For code of others that knows no other generator, such as the first weights of layers. There is one such generator in a
    process, so threads take turns.
    """
    import torch

    with _torch_lock, torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(seed, stream))
        yield


@dataclass(frozen=True)
class Coordinates:
    """Where in the training a forward pass stands; what a random layer needs to draw its mask."""

    epoch: int
    step: int
    ids: NDArray[np.int64]  # (B,) sample ids of the rows of the batch
    draw: int = 0  # numbers views and Monte-Carlo passes


_current: ContextVar[Coordinates | None] = ContextVar("descend_rng_coordinates", default=None)


@contextmanager
def context(epoch: int, step: int, ids: ArrayLike, draw: int = 0) -> Iterator[None]:
    """Tell every random layer below which (epoch, step, sample ids, draw) this forward pass is."""
    token = _current.set(Coordinates(epoch, step, np.ascontiguousarray(ids, np.int64), draw))
    try:
        yield
    finally:
        _current.reset(token)


def coordinates() -> Coordinates | None:
    """Return the coordinates set by the nearest ``context``, or None outside one."""
    return _current.get()

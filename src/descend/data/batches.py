"""Mini-batches: an order per epoch that is a function of (seed, epoch), gathered one batch ahead by one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from descend import rng
from descend.data.decoded_cache import Decoded
from descend.data.pool import in_order
from descend.errors import KnobError, check_count


@dataclass(frozen=True, eq=False)
class Rows:
    """B rows of the data set, not yet read. ids: (B,) int64, by which the samples draw. rows, targets: (B,) int64. step: from 0.

    The id of a row that the epoch visits again is another one than at its first visit, see ``rng.visit_ids``.
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    targets: NDArray[np.int64]
    step: int


Wanted = Callable[[Rows], NDArray[np.int64]]
"""Says which rows of a batch are wanted, by their positions in it."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B pictures. ids: (B,) int64, sample ids. rows: (B,) int64, rows of the data set. images: (B, R, R, 3) uint8, RGB.

    targets: (B,) int64. step: the batch's number in its epoch, from 0. whole: the rows of the whole batch, where these are some.
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    images: NDArray[np.uint8]
    targets: NDArray[np.int64]
    step: int
    whole: Rows

    def __len__(self) -> int:
        return len(self.rows)


class Batches:
    """The pictures of ``indices``, ``batch_size`` at a time.

    indices: (n,) rows of the data set. labels: (N,) int64 for all rows, or None for the data set's own. shuffle: a new order in
    each epoch, ``rng.permutation(n, seed=seed, stream="order", epoch=epoch)``; otherwise the order of ``indices``.
    positions: epoch -> (n,) positions in ``indices`` to visit instead (balanced sampling), or None for the usual order.
    drop_last: leave out a last batch that is not full; otherwise a last picture that would be alone joins the batch before,
    because batch normalization cannot learn from a batch of one.
    """

    def __init__(
        self,
        decoded: Decoded,
        indices: ArrayLike,
        labels: NDArray[np.int64] | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        positions: Callable[[int], NDArray[np.int64] | None] | None = None,
        drop_last: bool = False,
    ) -> None:
        self.positions = positions
        self.decoded, self.batch_size, self.seed, self.shuffle, self.drop_last = decoded, batch_size, seed, shuffle, drop_last
        self.indices = np.asarray(indices, np.int64)
        self._labels = decoded.dataset.labels if labels is None else labels
        self._ids = decoded.dataset.ids
        check_count("Batches", batch_size, knob="batch_size")
        if self.n_steps == 0:
            raise KnobError(
                "Batches", f"{len(self.indices)} pictures must fill a batch", got=batch_size, fix="Take a smaller batch."
            )

    @property
    def n_steps(self) -> int:
        """The number of batches in an epoch."""
        n = len(self.indices)
        if self.drop_last:
            return n // self.batch_size
        lonely = n % self.batch_size == 1 and n > self.batch_size > 1
        return -(-n // self.batch_size) - lonely

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows in the order of an epoch: (n,) int64."""
        chosen = None if self.positions is None else self.positions(epoch)
        if chosen is not None:
            return self.indices[chosen]
        if not self.shuffle:
            return self.indices
        return self.indices[rng.permutation(len(self.indices), seed=self.seed, stream="order", epoch=epoch)]

    def rows(self, epoch: int, start_step: int = 0) -> Iterator[Rows]:
        """Yield what the batches of an epoch hold, without reading a picture."""
        order = self.order(epoch)
        ids = self._ids_of_visits(order)
        for step in range(start_step, self.n_steps):
            yield self._rows(order, ids, step)

    def epoch(self, epoch: int, start_step: int = 0, wanted: Wanted | None = None) -> Iterator[Batch]:
        """Yield the batches of an epoch from ``start_step`` on; batch k is the same wherever one starts.

        wanted: says which of a batch's rows to read: Rows -> positions among them; None: all.
        """
        order = self.order(epoch)
        ids = self._ids_of_visits(order)
        gather = partial(self._gather, order, ids, wanted)
        yield from in_order(gather, range(start_step, self.n_steps), 1, in_flight=2)  # one is used while the next is gathered

    def _ids_of_visits(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the id by which each visit of an epoch draws: (n,) int64."""
        ids = self._ids[order]
        return ids if self.positions is None else rng.visit_ids(ids, rng.visit_numbers(order))

    def _rows(self, order: NDArray[np.int64], ids: NDArray[np.int64], step: int) -> Rows:
        end = None if step == self.n_steps - 1 and not self.drop_last else (step + 1) * self.batch_size
        part = slice(step * self.batch_size, end)
        return Rows(ids[part], order[part], self._labels[order[part]], step)

    def _gather(self, order: NDArray[np.int64], ids: NDArray[np.int64], wanted: Wanted | None, step: int) -> Batch:
        whole = self._rows(order, ids, step)
        at = slice(None) if wanted is None else wanted(whole)
        return Batch(whole.ids[at], whole.rows[at], self.decoded.take(whole.rows[at]), whole.targets[at], step, whole)

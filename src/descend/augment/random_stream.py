"""The random numbers of one transform: a function of coordinates, never a sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from descend import rng
from descend.augment.array_types import Bools, Floats, Ints
from descend.errors import KnobError


@dataclass(frozen=True)
class RandomStream:
    """The random numbers of one transform: a function of (seed, name of the stream, epoch, sample id, draw).

    batch, places: with several processes, the ids (N,) of the global batch and where in it the rows of ``ids`` stand (B,).
    """

    seed: int
    name: str
    ids: Ints  # (B,)
    epoch: int = 0
    draw: int = 0
    step: int | None = None
    batch: Ints | None = None
    places: Ints | None = None

    def uniform(self, n: int = 1) -> Floats:
        """Return ``n`` uniform numbers in (0, 1) for each sample: (n, B) float64, one row per quantity."""
        from descend.augment.stream_kernels import fill_uniform

        key = rng.key(self.seed, f"augment.{self.name}", epoch=self.epoch, draw=self.draw)
        numbers = np.empty((n, len(self.ids)))
        fill_uniform(np.ascontiguousarray(self.ids).view(np.uint64), np.uint64(key[0]), np.uint64(key[1]), numbers)
        return numbers

    def coin(self, p: float) -> Bools:
        """Return which samples a transform with probability ``p`` is applied to: (B,) bool.

        The coin has a stream of its own, so what is drawn for a sample does not depend on ``p``.
        """
        return self.branch("p").uniform()[0] < p

    def branch(self, name: str) -> RandomStream:
        """Return an independent sub-stream, for a transform made of parts."""
        return replace(self, name=f"{self.name}/{name}")

    def key(self) -> tuple[int, int]:
        """Return the Philox key for per-pixel noise: two 32-bit words."""
        return rng.key(self.seed, f"augment.{self.name}/pixels", epoch=self.epoch, draw=self.draw)

    def partners(self) -> Ints:
        """Return for each row the row that it is mixed with: (B,) int64, a permutation of the global batch as far as it is here.

        It is drawn from (seed, stream, epoch, step, draw) over the global batch sorted by id, so neither the order of the rows
        nor the number of processes matters. A row whose partner is elsewhere gets itself.
        """
        if self.step is None:
            raise KnobError(self.name, "mixing needs the step of the batch", got=None, fix="Pass step=... beside epoch=...")
        batch = self.ids if self.batch is None else self.batch
        places = np.arange(len(batch)) if self.places is None else self.places
        rank = np.argsort(batch, kind="stable")
        stream = f"augment.{self.name}/partner/step{self.step}/draw{self.draw}"
        partners, rows = np.empty(len(rank), np.int64), np.full(len(rank), -1)
        partners[rank] = rank[rng.permutation(len(rank), seed=self.seed, stream=stream, epoch=self.epoch)]
        rows[places] = np.arange(len(places))
        partner = rows[partners[places]]
        return np.where(partner < 0, np.arange(len(places)), partner)

"""Which units a drop layer keeps: masks as a function of where the training stands.

Every random layer owns a ``MaskSource(seed, stream)``. When a mask is drawn it reads ``rng.context``:

* per sample: a function of (seed, stream, epoch, sample id, draw). How the batch was cut does not matter.
* per batch: a function of (seed, stream, epoch, step, draw), the same in every process.

Outside a context the layer counts its own calls, and that count is the step. Inside one, a layer that is called twice in a
forward pass draws the same mask twice: give every place in a network a layer of its own. What activation checkpointing computes
again is dropped as it was, see ``recomputation``.

Layers draw ``untraced``: a mask depends on the context of the pass and comes out of a compiled kernel; ``torch.compile`` would
freeze the one, and fails on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from descend import rng
from descend.errors import KnobError, ModelError
from descend.regularize import mask_kernels
from descend.regularize.recomputation import drawn_once

Forced = Callable[["MaskSource", int, float], Tensor]
forced: ContextVar[Forced | None] = ContextVar("descend_forced_masks", default=None)
"""While set, every source takes its keep bits ((n,) bool) from this function: how exact enumeration reaches the layers."""


def checked_probability(who: str, p: float, knob: str = "p") -> float:
    """Return the drop probability ``p`` as a float; raise KnobError unless it is a number in [0, 1)."""
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p < 1:
        raise KnobError(who, f"{knob} must be a number in [0, 1)", got=p)
    return float(p)


def checked_choice(who: str, knob: str, value: str, choices: tuple[str, ...]) -> str:
    """Return ``value``; raise KnobError unless it is one of ``choices``."""
    if value not in choices:
        raise KnobError(who, f"{knob} must be one of {', '.join(map(repr, choices))}", got=value)
    return value


def channels_last(mask: Tensor, shape: torch.Size, like: Tensor) -> Tensor:
    """Return drawn numbers as the (B, C, H, W) = ``shape`` mask of feature maps, in the memory format of ``like``.

    Units of feature maps are numbered with the channel running fastest, as our networks hold them in memory; transposing
    the numbers would take four times as long as drawing them.
    """
    b, c, h, w = shape
    seen = mask.reshape(b, h, w, c).permute(0, 3, 1, 2)
    return seen if like.is_contiguous(memory_format=torch.channels_last) else seen.contiguous()


@dataclass(frozen=True)
class Draw:
    """One drawing of masks: ``ids`` (B,) int64 are the rows that differ, everything else is in the key."""

    source: MaskSource
    ids: NDArray[np.int64]
    key: tuple[int, int]

    def keep(self, n: int, p: float, like: Tensor, *, scale: float = 1.0, first: int = 0) -> Tensor:
        """Return masks (B, n) of units from ``first`` on: ``scale`` where one is kept (probability 1 - p), 0 where it is dropped.

        The device is that of ``like``, the type too, except that halves are drawn as float32, where 1/(1-p) is exact enough.
        """
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        bits = forced.get()
        if bits is not None:
            row = bits(self.source, first + n, p)[first:].to(like.device, dtype) * scale
            return row.expand(self.ids.size, n)
        group, skipped = divmod(first, mask_kernels.GROUP)
        mask = torch.empty((self.ids.size, skipped + n), dtype=dtype)
        mask_kernels.fill(mask.numpy(), self.ids, self.key, p, scale, group)
        return mask[:, skipped:].to(like.device)

    def one(self, row: int) -> Draw:
        """Return the draw of one row of the batch only; its masks are those it has in the whole batch."""
        return Draw(self.source, self.ids[row : row + 1], self.key)


class MaskSource:
    """Where one layer's masks come from: its seed, the name of its stream, and its own count of calls outside a context."""

    def __init__(self, seed: int, stream: str) -> None:
        self.seed, self.stream, self.n_calls = seed, stream, 0

    def per_sample(self, rows: int) -> Draw:
        """Return the draw for a batch whose tensors have ``rows`` rows, one per sample or m in turn for each sample.

        Raises ModelError where the rows are no multiple of the samples that the context names.
        """
        return drawn_once(self, lambda: self._per_sample(rows), self._who)

    def per_batch(self) -> Draw:
        """Return the draw that all samples of this step share: one row."""
        return drawn_once(self, self._per_batch, self._who)

    @property
    def _who(self) -> str:
        return f"drop layer {self.stream!r}"

    def _per_sample(self, rows: int) -> Draw:
        where = rng.coordinates()
        if where is None:
            return Draw(self, np.arange(rows, dtype=np.int64), self._call_key())
        if where.ids.size == 0 or rows % where.ids.size:
            raise ModelError(self._who, f"a tensor must hold rows for each of {where.ids.size} samples",
                             got=rows, fix="Give rng.context the ids of exactly the samples in the batch.")  # fmt: skip
        return Draw(self, where.ids, rng.key(self.seed, self.stream, epoch=where.epoch, draw=where.draw))

    def _per_batch(self) -> Draw:
        where = rng.coordinates()
        if where is None:
            return Draw(self, np.zeros(1, np.int64), self._call_key())
        step = np.array([where.step], np.int64)
        return Draw(self, step, rng.key(self.seed, self.stream, epoch=where.epoch, draw=where.draw))

    def _call_key(self) -> tuple[int, int]:
        self.n_calls += 1
        return rng.key(self.seed, f"{self.stream}#call", epoch=self.n_calls - 1)

"""A data set that augments each picture as it is read, for anyone's DataLoader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.data import Dataset

from descend.errors import DataError, KnobError

if TYPE_CHECKING:
    from descend.augment.pipeline import Pipeline


class Augmented(Dataset[tuple[Any, ...]]):
    """Wrap a map-style data set of (picture, target, ...) so that its pictures come augmented; the rest passes through.

    The draw of sample i is that of ``ids[i]`` (by default i) in the epoch that ``set_epoch`` announced, whatever the number of
    workers, their start method, or the order of reading; the epoch lies in shared memory, so persistent workers see it too.
    Pictures: (H, W, 3) uint8 as NumPy, torch or Pillow. Mixing needs whole batches and is refused.

    Raises KnobError (a pipeline that mixes) and DataError (ids that do not fit, pictures of another kind).
    """

    def __init__(self, dataset: Sequence[Any] | Dataset[Any], pipe: Pipeline, ids: ArrayLike | None = None) -> None:
        if pipe.mixes:
            raise KnobError(
                "augment.wrap", "mixing needs whole batches", got=str(pipe), fix="Call the pipeline on batches instead."
            )
        self.dataset: Any = dataset
        self.pipe = pipe
        self.ids = np.arange(len(self.dataset)) if ids is None else np.asarray(ids, np.int64)
        if self.ids.shape != (len(self.dataset),):
            raise DataError("augment.wrap", f"ids must be ({len(self.dataset)},), one for each sample", got=self.ids.shape)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Announce the epoch, before its first sample is asked for."""
        self._epoch.fill_(int(epoch))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        picture, *rest = self.dataset[index]
        levels = picture if isinstance(picture, torch.Tensor) else np.asarray(picture)
        made = self.pipe(levels[None], ids=self.ids[index : index + 1], epoch=int(self._epoch))
        return (made[0], *rest)

"""Augmentation one picture at a time: a data set for anyone's DataLoader, and a bare function of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL.Image import Image
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
        _refuse_mixing("augment.wrap", pipe)
        self.dataset: Any = dataset
        self.pipe = pipe
        self.ids = np.arange(len(self.dataset)) if ids is None else np.asarray(ids, np.int64)
        if self.ids.shape != (len(self.dataset),):
            raise DataError("augment.wrap", f"ids must be ({len(self.dataset)},), one for each sample", got=self.ids.shape)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Announce the epoch before its first sample is read."""
        self._epoch.fill_(int(epoch))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        picture, *rest = self.dataset[index]
        levels = picture if isinstance(picture, torch.Tensor) else np.asarray(picture)
        augmented = self.pipe(levels[None], ids=self.ids[index : index + 1], epoch=int(self._epoch))
        return (augmented[0], *rest)


class PictureTransform:
    """One picture in, its augmented form out: stands where a torchvision v2 transform stands.

    Takes a Pillow image of any mode, a (3, H, W) or (1, H, W) uint8 tensor, or an (H, W, 3) uint8 array; gives a
    (3, h, w) tensor, float32 or uint8 as the pipeline does. The draw comes from torch's generator, so ``torch.manual_seed``
    repeats it and DataLoader workers differ. Unlike ``Pipeline.wrap`` it depends on their number and on the order of reading.

    Raises KnobError (a pipeline that mixes) and DataError (pictures of another kind).
    """

    def __init__(self, pipe: Pipeline) -> None:
        _refuse_mixing("augment.transform", pipe)
        self.pipe = pipe

    def __repr__(self) -> str:
        return f"{self.pipe!r}.transform()"

    def __call__(self, picture: Image | torch.Tensor | NDArray[np.uint8]) -> torch.Tensor:
        """Augment one picture."""
        sample = torch.randint(2**63 - 1, (1,))
        augmented = self.pipe(_levels(picture)[None], ids=sample, epoch=0)[0]
        return augmented.permute(2, 0, 1) if self.pipe.out == "uint8" else augmented


def _levels(picture: Image | torch.Tensor | NDArray[np.uint8]) -> torch.Tensor | NDArray[np.uint8]:
    if isinstance(picture, Image):
        return np.asarray(picture.convert("RGB"))
    if not isinstance(picture, torch.Tensor):
        return np.asarray(picture)
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise DataError("augment.transform", "a tensor must be (3, H, W) or (1, H, W)", got=tuple(picture.shape),
                        fix="Put the channels first, as torchvision does.")  # fmt: skip
    return picture.expand(3, -1, -1).permute(1, 2, 0)


def _refuse_mixing(who: str, pipe: Pipeline) -> None:
    if pipe.mixes:
        raise KnobError(who, "mixing needs whole batches", got=str(pipe), fix="Call the pipeline on batches instead.")

"""What a run's network reads of a picture, as a function: for data loaders, and for networks that are run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from descend.data import decode_resized
from descend.data.one_picture import as_source
from descend.models.stages import to_input
from descend.pixels import PixelPolicy
from descend.train.record import RunRecord


@dataclass(frozen=True)
class Transform:
    """From a picture to the network's input, (3, S, S) float32, normalized: read and resized as in training, unaugmented.

    It can be pickled, so it may stand in ``ImageFolder(root, transform=run.transform)`` with workers.
    resolution: R, pixels per side of the resized square; size: S, of the crop from its center. mean, std: per channel, on the
    scale of 0 to 1. policy: how pixels are read, and how a picture becomes square.
    """

    resolution: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    policy: PixelPolicy

    @classmethod
    def of(cls, record: RunRecord) -> Transform:
        """Return the transform of a run. Raises RunError for one that stopped before it had a plan."""
        prepared = record.preparation()
        mean, std = tuple(prepared["mean"]), tuple(prepared["std"])
        return cls(prepared["resolution"], prepared["size"], mean, std, record.pixel_policy())

    def __call__(self, picture: Any) -> Tensor:
        """Return what the network reads: a path, a Pillow image, bytes, an open file, an array or a tensor -> (3, S, S) float32.

        Raises PictureError for a picture that cannot be read, DataError for what is none.
        """
        return to_input(torch.from_numpy(self.pixels(picture)[None]), self.mean, self.std)[0].contiguous()

    def pixels(self, picture: Any) -> NDArray[np.uint8]:
        """Return the same before it is normalized: (S, S, 3) uint8, RGB."""
        square = decode_resized(as_source(picture, 0, who="transform"), self.resolution, policy=self.policy)
        inset = (self.resolution - self.size) // 2
        return square[inset : inset + self.size, inset : inset + self.size]

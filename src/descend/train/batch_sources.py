"""Where the loop's batches come from: images through augmentation (and perhaps a frozen engine), or cached features.

Both sources visit the training set in the same order, a function of (seed, epoch), and in batches of the same size. So a head
trained on cached features and a head trained on images through the same frozen backbone see the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from descend import rng
from descend.augment import Pipeline
from descend.data import Batches
from descend.train.loop import Batch

Prefix = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # a frozen engine: (B, S, S, 3) -> (B, ...)


class ImageSource:
    """Stored images -> augmentation -> the module's input; with a frozen ``prefix``, its output is the input.

    batches: order, reading and labels. pipeline: makes float32 images for a module, uint8 ones for a prefix.
    """

    def __init__(
        self, batches: Batches, pipeline: Pipeline, n_classes: int, device: torch.device, prefix: Prefix | None = None
    ) -> None:
        self.batches, self.pipeline, self.prefix = batches, pipeline, prefix
        self.n_classes, self.device = n_classes, device
        self.n_steps = batches.n_steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``start`` on."""
        for stored in self.batches.epoch(epoch, start):
            targets = torch.from_numpy(stored.targets)
            where = {"ids": stored.ids, "epoch": epoch, "step": stored.step}
            if self.pipeline.mixes:
                images, targets = self.pipeline(stored.images, targets, n_classes=self.n_classes, **where)
            else:  # labels stay labels: the loss is exact and quicker on them
                images = self.pipeline(stored.images, **where)
            if self.prefix is not None:
                images = torch.from_numpy(self.prefix(np.asarray(images)))
            yield Batch(stored.ids, images.to(self.device), targets.to(self.device), stored.step)


class FeatureSource:
    """Cached features -> the head's input; with several views per picture, each epoch draws one of them.

    batches: order and labels; its images are not read. features: (n, V, ...) float32, view 0 the plain one. place: (N,) int64,
    where each dataset row stands among them.
    """

    def __init__(self, batches: Batches, features: NDArray[np.float32], place: NDArray[np.int64], device: torch.device) -> None:
        self.batches, self.features, self.place, self.device = batches, features, place, device
        self.n_steps = batches.n_steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``start`` on."""
        for rows in self.batches.rows(epoch, start):
            inputs = torch.from_numpy(self.features[self.place[rows.rows], self._view(rows.ids, epoch)])
            yield Batch(rows.ids, inputs.to(self.device), torch.from_numpy(rows.targets).to(self.device), rows.step)

    def _view(self, ids: NDArray[np.int64], epoch: int) -> NDArray[np.int64] | int:
        n_views = self.features.shape[1]
        if n_views == 1:
            return 0
        return (rng.uniform(self.batches.seed, "view", ids=ids, epoch=epoch)[:, 0] * n_views).astype(np.int64)


def feature_batches(features: NDArray[np.float32], device: torch.device, batch_size: int = 256) -> Iterator[Tensor]:
    """Yield cached inputs (n, ...) in their order."""
    for start in range(0, len(features), batch_size):
        yield torch.from_numpy(np.ascontiguousarray(features[start : start + batch_size])).to(device)

"""Where the loop's batches come from: images through augmentation (and perhaps a frozen engine), or cached features.

Both sources visit the training set in the same order, a function of (seed, epoch), and in batches of the same size. So a head
trained on cached features and a head trained on images through the same frozen backbone see the same numbers. Of several
processes (``world``) each gets its part of every batch, with the draws that the whole batch has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from descend import rng
from descend.augment import Pipeline
from descend.data import Batches
from descend.data.batches import Rows
from descend.train.loop import Batch
from descend.train.world import ALONE, World

Prefix = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # a frozen engine: (B, S, S, 3) -> (B, ...)


class ImageSource:
    """Stored images -> augmentation -> the module's input; with a frozen ``prefix``, its output is the input.

    batches: order, reading and labels. pipeline: makes float32 images for a module, uint8 ones for a prefix.
    """

    def __init__(
        self, batches: Batches, pipeline: Pipeline, n_classes: int, device: torch.device, prefix: Prefix | None = None,
        world: World = ALONE,
    ) -> None:  # fmt: skip
        self.batches, self.pipeline, self.prefix, self.world = batches, pipeline, prefix, world
        self.n_classes, self.device = n_classes, device
        self.n_steps = batches.n_steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``start`` on."""
        wanted = None if self.world.size == 1 else partial(self._wanted, epoch)
        for stored in self.batches.epoch(epoch, start, wanted):
            targets, share = torch.from_numpy(stored.targets), self.world.share(len(stored.whole.ids))
            local = None if share is None else share.rows
            where = {"ids": stored.whole.ids, "epoch": epoch, "step": stored.step, "local": local}
            if self.pipeline.mixes:
                images, targets = self.pipeline(stored.images, targets, n_classes=self.n_classes, **where)
            else:  # labels stay labels: the loss is exact and quicker on them
                images = self.pipeline(stored.images, **where)
            if self.prefix is not None:
                images = torch.from_numpy(self.prefix(np.asarray(images)))
            ids = stored.ids[: len(images)]  # partners in mixing follow
            yield Batch(ids, images.to(self.device), targets.to(self.device), stored.step, share)

    def _wanted(self, epoch: int, whole: Rows) -> NDArray[np.int64]:
        """Return the rows of a batch that this process must read: its own, and those that are mixed into them."""
        share = self.world.share(len(whole.ids))
        assert share is not None  # there are several processes
        return self.pipeline.needed(whole.ids, share.rows, epoch=epoch, step=whole.step)


class FeatureSource:
    """Cached features -> the head's input; with several views per picture, each epoch draws one of them.

    batches: order and labels; its images are not read. features: (n, V, ...) float32, view 0 the plain one. place: (N,) int64,
    where each dataset row stands among them.
    """

    def __init__(
        self, batches: Batches, features: NDArray[np.float32], place: NDArray[np.int64], device: torch.device,
        world: World = ALONE,
    ) -> None:  # fmt: skip
        self.batches, self.features, self.place, self.device, self.world = batches, features, place, device, world
        self.n_steps = batches.n_steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``start`` on."""
        for rows in self.batches.rows(epoch, start):
            share = self.world.share(len(rows.ids))
            at = slice(None) if share is None else share.rows
            ids, targets = rows.ids[at], torch.from_numpy(rows.targets[at])
            inputs = torch.from_numpy(self.features[self.place[rows.rows[at]], self._view(ids, epoch)])
            yield Batch(ids, inputs.to(self.device), targets.to(self.device), rows.step, share)

    def _view(self, ids: NDArray[np.int64], epoch: int) -> NDArray[np.int64] | int:
        n_views = self.features.shape[1]
        if n_views == 1:
            return 0
        return (rng.uniform(self.batches.seed, "view", ids=ids, epoch=epoch)[:, 0] * n_views).astype(np.int64)


def feature_batches(features: NDArray[np.float32], device: torch.device, batch_size: int = 256) -> Iterator[Tensor]:
    """Yield cached inputs (n, ...) in their order."""
    for start in range(0, len(features), batch_size):
        yield torch.from_numpy(np.ascontiguousarray(features[start : start + batch_size])).to(device)

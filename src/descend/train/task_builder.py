"""The parts that the transfer modes build their tasks from: batches, pipelines, cached features, groups, the loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend import __version__
from descend.augment import Augmentation, Normalize, Pipeline
from descend.data import Batches, Dataset, Decoded
from descend.data.decode import POLICY
from descend.durations import duration
from descend.models import Classifier
from descend.optim import GradientStage, Optimizer, Rule, knob_names, parameter_groups
from descend.progress import Progress
from descend.regularize import merged_class_weights, merged_epoch_rows
from descend.technique import spec
from descend.train.batch_sources import feature_batches
from descend.train.inference import rgb
from descend.train.loop import BatchSource, Task
from descend.train.picture_sources import BATCH
from descend.train.plan import Plan
from descend.train.record_types import HeadTrial
from descend.train.world import ALONE, World
from descend.transfer import Divided, Engine, OutOfFold, Work, extract, make_engine, n_missing, room_for

Inputs = Callable[[NDArray[np.int64]], Iterator[Tensor]]
Group = dict[str, Any]
"""A parameter group, in the form that torch gives it."""


@dataclass(frozen=True)
class FittedHead:
    """A head that was fitted in one go. module, inputs: as in ``ModeTask``. trials: what cross-validation tried.

    held_out: what heads that were fitted without them answer on the training pictures, where folds were asked for.
    """

    module: nn.Module
    inputs: Inputs
    feature_stages: str
    trials: list[HeadTrial]
    held_out: OutOfFold | None = None


@dataclass(frozen=True)
class ModeTask:
    """What a mode trains, by the loop or in one go.

    module: the part of the network that trains. inputs: dataset rows -> the plain inputs of ``module``, in batches, for judging.
    task: for the loop; None where ``fit`` does it in one go. frozen: the fingerprint of what must not change, where something
    must not. head_first: to be done before the first epoch, not on resume.
    engine: what computes the frozen part in front of ``module``, where there is one.
    """

    module: nn.Module
    inputs: Inputs
    task: Task | None = None
    fit: Callable[[], FittedHead] | None = None
    frozen: Callable[[], str] | None = None
    head_first: Callable[[], None] | None = None
    engine: Engine | None = None


@dataclass(frozen=True)
class Views:
    """What a frozen part looks at: draw 0 is the plain view, the others are varied. A value, so that it can be sent to a node."""

    plain: Pipeline
    varied: Pipeline

    def __call__(self, images: NDArray[np.uint8], ids: NDArray[np.int64], draw: int) -> NDArray[np.uint8]:
        """Return views of pictures: images (B, R, R, 3) uint8, ids (B,) int64 -> (B, S, S, 3) uint8."""
        return (self.varied if draw else self.plain)(images, ids=ids, epoch=0, draw=draw).numpy()


@dataclass
class Extraction:
    """What was computed rather than found in the cache: rows of features, and the seconds they took."""

    n_computed: int = 0
    wall_s: float = 0.0


class TaskBuilder:
    """Holds a plan, the decoded pictures and the network, and makes the parts of a task from them.

    engine: the one that was measured fastest for the whole backbone; None where none was measured. world: the processes that
    train the task; all of them make its parts, in the same order.
    """

    def __init__(
        self, plan: Plan, decoded: Decoded, classifier: Classifier, engine: Engine | None, progress: Progress,
        world: World = ALONE,
    ) -> None:  # fmt: skip
        self.plan, self.decoded, self.classifier, self.progress, self.world = plan, decoded, classifier, progress, world
        self.dataset = decoded.dataset
        self.device = torch.device(plan.device)
        self.n_classes = len(self.dataset.classes)
        self.train_rows = self.dataset.indices("train")
        self.batches = Batches(decoded, self.train_rows, batch_size=plan.batch_size, seed=plan.seed, positions=self._positions)
        self.extraction = Extraction()
        self._engine = engine
        self._last: tuple[int, float] | None = None

    # ------------------------------------------------------------------------------------------------- what is trained

    def noise(self, size: int) -> Tensor:
        """Return one picture of noise (1, 3, S, S) on the device, the same always: an example for what looks into a network."""
        return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(self.device)

    def task(self, module: nn.Module, source: BatchSource, groups: list[Group] | None = None) -> Task:
        """Return the task that trains ``module``, moved to the device, on the batches of ``source``.

        groups: the optimizer's parameter groups; by default those of ``module``, without decay for norms and biases.
        """
        plan = self.plan
        module = module.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stub)
        optimizer = scheduled(groups or self.groups(module), plan.optimizer, plan.gradients)
        return Task(module, source, optimizer, plan.schedule, self.loss(), plan.epochs, plan.regularize, world=self.world)

    def groups(
        self, module: nn.Module, *, rates: dict[str, float] | None = None, stage_of: Callable[[str], str] | None = None
    ) -> list[Group]:
        """Return the parameter groups of ``module``; rates, stage_of: as in ``parameter_groups``."""
        decays = "weight_decay" in knob_names(self.plan.optimizer)
        return parameter_groups(module, no_decay=decays, rates=rates, stage_of=stage_of)

    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the one loss, with the class weights that a technique asks for."""
        loss, weights = self.plan.loss(), class_weights(self.plan, self.dataset)
        return loss if weights is None else partial(loss, weights=weights.to(self.device))

    def _positions(self, epoch: int) -> NDArray[np.int64] | None:
        """Return which training pictures an epoch visits, where a technique (balanced sampling) says so."""
        return merged_epoch_rows(self.plan.regularize, self.dataset.labels[self.train_rows], seed=self.plan.seed, epoch=epoch)

    def fitted_weights(self) -> NDArray[np.float32] | None:
        """Return how many times a picture of each class counts where a head is fitted in one go, (K,); None: all once.

        As on average in the loop: by the weights of the loss, or by how often an epoch visits the class.
        """
        weights = class_weights(self.plan, self.dataset)
        if weights is not None:
            return weights.numpy()
        visited = self._positions(0)
        if visited is None:
            return None
        labels = self.dataset.labels[self.train_rows]
        n_visits, n = (np.bincount(y, minlength=self.n_classes) for y in (labels[visited], labels))
        return (n_visits / np.maximum(n, 1)).astype(np.float32)

    # ------------------------------------------------------------------------------------------------- what it is fed

    def pipeline(self, *, out: Literal["float", "uint8"] = "float", plain: bool = False) -> Pipeline:
        """Return the plan's augmentation, or the plain view, for the network's size and constants."""
        backbone = self.classifier.backbone
        specs = [] if plain else [item for item in self.plan.augment if not isinstance(item, Normalize)]  # it is the backbone's
        return Pipeline(specs, seed=self.plan.seed, size=self.plan.size, out=out, mean=rgb(backbone.mean), std=rgb(backbone.std))

    def image_inputs(self, rows: NDArray[np.int64]) -> Iterator[Tensor]:
        """Yield the plain views of rows, as the network reads them."""
        pipeline = self.pipeline(plain=True)
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            yield pipeline(self.decoded.take(part), ids=self.dataset.ids[part], epoch=0).to(self.device)

    def cached_inputs(self, engine: Engine, n_columns: int | None = None) -> Inputs:
        """Return how to feed rows of val and test to what follows a frozen engine: their plain features, computed once.

        n_columns: how many of the features, counted from the last; None for all.
        """
        rows = np.concatenate([self.dataset.indices("val"), self.dataset.indices("test")])
        features, place = self.extract(engine, rows)[:, 0], self.places(rows)
        features = features if n_columns is None else features[:, -n_columns:]
        return lambda wanted: feature_batches(features[place[wanted]], self.device)

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each dataset row among ``rows``, (N,) int64; -1 where it is not among them."""
        place = np.full(len(self.dataset), -1, np.int64)
        place[rows] = np.arange(len(rows))
        return place

    # ------------------------------------------------------------------------------------------------- the frozen part

    def backbone_engine(self, taps: Sequence[str] = ()) -> Engine:
        """Return the engine of the whole backbone: the one measured fastest, or the one that was asked for.

        taps: stages whose pooled outputs it gives before the features.
        """
        if self._engine is not None and self._engine.prefix.taps == tuple(taps):
            return self._engine
        return make_engine(self.plan.engine, self.classifier.backbone, size=self.plan.size, taps=taps)

    def extract(self, engine: Engine, rows: NDArray[np.int64], *, n_views: int = 1) -> NDArray[np.float32]:
        """Return the engine's output for rows, cached: (n, V, ...) float32, view 0 the plain one.

        Several processes compute it in parts; the one that leads looks into the cache, and writes there.
        """
        view = Views(self.pipeline(out="uint8", plain=True), self.pipeline(out="uint8"))

        def lead(divided: Divided) -> NDArray[np.float32]:
            where, n = self._where(n_views), self.n_missing(engine, rows, n_views=n_views)
            if n and engine.images_per_s:
                self.progress.say(
                    f"features of {n:,} view{'s' * (n != 1)}: about {duration(n / engine.images_per_s, estimated=True)}"
                )
            return extract(
                engine, self.decoded.take, rows, ids=self.dataset.ids, view=view, **where, seed=self.plan.seed,
                progress=self._count_extracted, divided=divided, batch=BATCH * self.world.size,
            )  # fmt: skip

        work = Work(engine, self.decoded.take, view, self.dataset.ids)
        return self.world.together(work, lead, partial(room_for, folder=engine.cache.folder_of("features")))

    def n_missing(self, engine: Engine, rows: NDArray[np.int64], *, n_views: int = 1) -> int:
        """Return how many views of rows ``extract`` would have to compute."""
        return n_missing(engine, rows, **self._where(n_views), seed=self.plan.seed)

    def _where(self, n_views: int) -> dict[str, Any]:
        """Return what names the features of the plan's views in the cache, beside engine and seed."""
        return {"digests": self.dataset.digests, "preparation": pixels_key(self.decoded, self.plan.size), "n_views": n_views,
                "augmentation": views_key(self.plan.augment)}  # fmt: skip

    def _count_extracted(self, stage: str, done: int, total: int) -> None:
        """Report the progress of an extraction, and count what was computed rather than found in the cache."""
        now = time.perf_counter()
        if self._last is not None and done > self._last[0]:
            self.extraction.n_computed += done - self._last[0]
            self.extraction.wall_s += now - self._last[1]
        self._last = None if done == total else (done, now)
        self.progress.update(stage, done, total)


def scheduled(groups: list[Group], rule: Rule | str, gradients: Sequence[GradientStage] = ()) -> Optimizer:
    """Return an optimizer whose groups remember the rate that they begin with: schedules are relative to it."""
    optimizer = Optimizer(groups, rule, gradients=gradients)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def class_weights(plan: Plan, data: Dataset) -> Tensor | None:
    """Return the weights that a technique of the plan gives the classes for the loss, (K,) float32, or None."""
    return merged_class_weights(plan.regularize, class_counts(data))


def class_counts(data: Dataset) -> NDArray[np.int64]:
    """Return the number of training pictures of each class, (K,)."""
    return np.bincount(data.labels[data.indices("train")], minlength=len(data.classes))


def pixels_key(decoded: Decoded, size: int) -> str:
    """Return what names stored pictures, cropped to a size, in the cache of their features: all that their pixels depend on."""
    # Pillow decodes: a new one has other pixels, which the cache of stored pictures notices too
    return f"decode {POLICY} {PIL.__version__}, {decoded.dataset.policy}, {decoded.resolution} px, crop {size} px"


def views_key(augment: Sequence[Augmentation]) -> str:
    """Return what names augmented views in that cache. Defaults are spelled out, for they may change; so may what draws."""
    return " ".join([*(spec(item, defaults=True) for item in augment), f"descend {__version__}"])

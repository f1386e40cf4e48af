"""The four ways to train, each as a job for the one loop: what is trained, on what inputs, and how it is judged.

scratch    pictures -> augmentation -> [backbone, head]                  all of it trained
features   cached feature vectors   -> [head]                            the backbone ran once
head       pictures -> augmentation -> frozen engine -> [head]           the backbone runs on every view
finetune   pictures -> augmentation -> [stages, head]                    head first on cached features, then thawed;
           with freeze_to: frozen engine -> [later stages, head]         its output cached where nothing random is before it
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend.augment import Normalize, Pipeline
from descend.data import Batches, Dataset, Decoded
from descend.data.decode import POLICY
from descend.models import Backbone, Classifier
from descend.optim import Optimizer, knob_names, parameter_groups
from descend.regularize import merged_class_weights, merged_epoch_rows
from descend.schedule import Schedule
from descend.technique import build
from descend.train.checkpoint import Best
from descend.train.evaluate import probabilities
from descend.train.feeds import FeatureFeed, PictureFeed, in_batches
from descend.train.loop import Job, Position, train
from descend.train.metrics import score
from descend.train.plan import Plan
from descend.train.progress import Progress
from descend.transfer import Engine, FineTuning, extract, fingerprint, freeze, make_engine
from descend.transfer.finetune import stage_of

Inputs = Callable[[NDArray[np.int64]], Iterator[Tensor]]
# Of the head alone, on cached features, before the backbone moves:
HEAD_FIRST_EPOCHS, HEAD_FIRST_RULE, HEAD_FIRST_SCHEDULE = 40, "adamw(lr=0.005)", "then(warmup(fraction=0.05), cosine())"


@dataclass
class Prepared:
    """A job, the whole classifier it belongs to, and how to feed any rows to the job's module for judging."""

    classifier: Classifier
    job: Job
    inputs: Inputs  # dataset rows -> the plain inputs of ``job.module``, in batches
    frozen: Callable[[], str] | None  # fingerprint of what must not change
    warm_up: Callable[[], None] | None = None  # to be done before the first epoch, not on resume


class Workshop:
    """Builds the job of a plan; holds what the builders share."""

    def __init__(self, plan: Plan, decoded: Decoded, classifier: Classifier, engine: Engine | None, progress: Progress) -> None:
        self.plan, self.decoded, self.classifier, self.engine, self.progress = plan, decoded, classifier, engine, progress
        self.dataset = decoded.dataset
        self.device = torch.device(plan.device)
        self.n_classes = len(self.dataset.classes)
        self.train_rows = self.dataset.indices("train")
        self.batches = Batches(decoded, self.train_rows, batch_size=plan.batch_size, seed=plan.seed, positions=self._positions)
        self.n_computed, self.computing_s = 0, 0.0  # features computed here, and the seconds they took
        self._last: tuple[int, float] | None = None

    def prepare(self) -> Prepared:
        """Return the job of the plan's transfer mode."""
        build = {"scratch": self._scratch, "features": self._features, "head": self._head, "finetune": self._finetune}
        return build[self.plan.transfer]()

    # ------------------------------------------------------------------------------------------------- the four modes

    def _scratch(self) -> Prepared:
        module = self._placed(self.classifier)
        feed = PictureFeed(self.batches, self._pipeline(), self.n_classes, self.device)
        return Prepared(
            self.classifier, self._job(module, feed, parameter_groups(module, no_decay=self._decays)), self._pictures, None
        )

    def _features(self) -> Prepared:
        freeze(self.classifier.backbone)
        engine, plan = self._frozen_engine(self.classifier.backbone), self.plan
        vectors = self._extract(engine, self.train_rows, n_views=1 + plan.views)
        feed = FeatureFeed(self.batches, vectors, self._places(self.train_rows), self.device)
        head = self._placed(self.classifier.head)
        job = self._job(head, feed, parameter_groups(head, no_decay=self._decays))
        return Prepared(self.classifier, job, self._cached(engine), lambda: fingerprint(self.classifier.backbone))

    def _head(self) -> Prepared:
        freeze(self.classifier.backbone)
        engine = self._frozen_engine(self.classifier.backbone)
        feed = PictureFeed(self.batches, self._pipeline(out="uint8"), self.n_classes, self.device, prefix=engine)
        head = self._placed(self.classifier.head)
        job = self._job(head, feed, parameter_groups(head, no_decay=self._decays))
        return Prepared(self.classifier, job, self._cached(engine), lambda: fingerprint(self.classifier.backbone))

    def _finetune(self) -> Prepared:
        plan, whole = self.plan, self.classifier
        tuning = FineTuning(whole, freeze_to=plan.freeze_to, norm=plan.norm)
        tuning.thaw()
        groups = parameter_groups(whole, no_decay=self._decays, rates=tuning.rates(plan.layer_decay), stage_of=stage_of)
        warm_up = self._head_first
        if plan.freeze_to is None:
            module, prefix, inputs = whole, None, self._pictures
        else:
            module = nn.Sequential(OrderedDict(stages=tuning.moving, head=whole.head))
            prefix = make_engine(plan.engine, whole.backbone, size=plan.size, stage=plan.freeze_to)
            inputs = self._cached(prefix)
        if prefix is not None and not plan.augment:
            maps = self._extract(prefix, self.train_rows)
            feed = FeatureFeed(self.batches, maps, self._places(self.train_rows), self.device)
        else:
            out = "float" if prefix is None else "uint8"
            feed = PictureFeed(self.batches, self._pipeline(out=out), self.n_classes, self.device, prefix=prefix)
        job = self._job(self._placed(module), feed, groups)
        return Prepared(whole, job, inputs, lambda: fingerprint(tuning.frozen), warm_up)

    def _head_first(self) -> None:
        """Train the head alone on cached features of plain views, so that fine-tuning does not begin with noise."""
        engine, head = self._frozen_engine(self.classifier.backbone), self.classifier.head
        vectors = self._extract(engine, self.train_rows)
        rows = self.dataset.indices("val")
        held, labels = list(self._cached(engine)(rows)), self.dataset.labels[rows]
        optimizer = Optimizer(parameter_groups(head), HEAD_FIRST_RULE)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        feed = FeatureFeed(self.batches, vectors, self._places(self.train_rows), self.device)
        job = Job(head, feed, optimizer, build(HEAD_FIRST_SCHEDULE, Schedule), self._loss(), HEAD_FIRST_EPOCHS)
        best = Best()
        judge = _KeepBest(best, lambda: score(probabilities(head, held), labels), head, self.plan.metric)
        train(job, Position(), judge, lambda: False)
        assert best.state is not None  # the loop ran to its end
        head.load_state_dict(best.state)

    # ------------------------------------------------------------------------------------------------- what they share

    @property
    def _decays(self) -> bool:
        return "weight_decay" in knob_names(self.plan.optimizer)

    def _positions(self, epoch: int) -> NDArray[np.int64] | None:
        """Return which training pictures an epoch visits, where a technique (balanced sampling) says so."""
        return merged_epoch_rows(self.plan.regularize, self.dataset.labels[self.train_rows], seed=self.plan.seed, epoch=epoch)

    def _loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the one loss, with the class weights that a technique asks for."""
        loss, weights = self.plan.loss(), class_weights(self.plan, self.dataset)
        return loss if weights is None else partial(loss, weights=weights.to(self.device))

    def _job(self, module: nn.Module, feed: PictureFeed | FeatureFeed, groups: list[dict[str, Any]]) -> Job:
        plan = self.plan
        optimizer = Optimizer(groups, plan.optimizer, gradients=plan.gradients)
        for group in optimizer.param_groups:
            group["initial_lr"] = plan.optimizer.lr * group["lr_scale"]
        return Job(module, feed, optimizer, plan.schedule, self._loss(), plan.epochs, plan.regularize)

    def _pipeline(self, *, out: Any = "float", plain: bool = False) -> Pipeline:
        body = self.classifier.backbone
        specs = [] if plain else [item for item in self.plan.augment if not isinstance(item, Normalize)]  # it stands in the body
        return Pipeline(specs, seed=self.plan.seed, size=self.plan.size, out=out, mean=triple(body.mean), std=triple(body.std))

    def _frozen_engine(self, backbone: Backbone) -> Engine:
        """Return the engine of the whole backbone: the chosen one, or the one that is asked for."""
        return self.engine or make_engine(self.plan.engine, backbone, size=self.plan.size)

    def _placed(self, module: nn.Module) -> nn.Module:
        return module.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stub)

    def _places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each dataset row among ``rows``; -1 where it is not among them."""
        place = np.full(len(self.dataset), -1, np.int64)
        place[rows] = np.arange(len(rows))
        return place

    def _extract(self, engine: Engine, rows: NDArray[np.int64], *, n_views: int = 1) -> NDArray[np.float32]:
        plain, varied = self._pipeline(out="uint8", plain=True), self._pipeline(out="uint8")

        def view(images: NDArray[np.uint8], ids: NDArray[np.int64], draw: int) -> NDArray[np.uint8]:
            return (varied if draw else plain)(images, ids=ids, epoch=0, draw=draw).numpy()

        return extract(
            engine, self.decoded.take, rows, digests=self.dataset.digests, ids=self.dataset.ids, view=view,
            preparation=f"decode {POLICY}, {self.decoded.resolution} px, crop {self.plan.size} px", n_views=n_views,
            augmentation=" ".join(map(str, self.plan.augment)), seed=self.plan.seed,
            progress=self._extracted,
        )  # fmt: skip

    def _extracted(self, done: int, total: int) -> None:
        """Tell the progress of an extraction, and keep count of what was computed rather than found in the cache."""
        now = time.perf_counter()
        if self._last is not None and done > self._last[0]:
            self.n_computed += done - self._last[0]
            self.computing_s += now - self._last[1]
        self._last = None if done == total else (done, now)
        self.progress.update("features", done, total)

    def _cached(self, engine: Engine) -> Inputs:
        """Return how to feed rows of val and test to what follows a frozen engine: their plain features, computed once."""
        rows = np.concatenate([self.dataset.indices("val"), self.dataset.indices("test")])
        features, place = self._extract(engine, rows)[:, 0], self._places(rows)
        return lambda wanted: in_batches(features[place[wanted]], self.device)

    def _pictures(self, rows: NDArray[np.int64]) -> Iterator[Tensor]:
        """Yield the plain views of rows, as the network reads them."""
        pipeline = self._pipeline(plain=True)
        for at in range(0, len(rows), self.plan.batch_size):
            part = rows[at : at + self.plan.batch_size]
            yield pipeline(self.decoded.take(part), ids=self.dataset.ids[part], epoch=0).to(self.device)


def class_weights(plan: Plan, data: Dataset) -> Tensor | None:
    """Return the weights that a technique of the plan gives the classes for the loss, (K,) float32, or None."""
    return merged_class_weights(plan.regularize, class_counts(data))


def class_counts(data: Dataset) -> NDArray[np.int64]:
    """Return the number of training pictures of each class, (K,)."""
    return np.bincount(data.labels[data.indices("train")], minlength=len(data.classes))


def triple(values: Sequence[float]) -> tuple[float, float, float]:
    """Return three numbers as a tuple of three."""
    red, green, blue = values
    return red, green, blue


class _KeepBest:
    """A watcher that only selects."""

    def __init__(self, best: Best, judge: Callable[[], dict[str, Any]], module: nn.Module, metric: str) -> None:
        self.best, self.judge, self.module, self.metric = best, judge, module, metric

    def after_step(self, at: Position) -> None:
        """Nothing to do."""

    def after_epoch(self, at: Position, rate: float) -> bool:
        """Offer the epoch."""
        del rate
        judged = self.judge()
        self.best.offer(at.epoch, judged[self.metric], judged["loss"], self.module)
        return True

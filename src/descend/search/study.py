"""What all steps of a search share: the pictures, the pretrained network, an engine, and answers that are computed once.

Every step looks at the same stored pictures; a step that wants smaller ones lets its network resample them. So all members of the
answer read one input, and what an engine has computed for one step is found in the cache by the next.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from descend import rng
from descend.augment import expand
from descend.data import Dataset, Decoded
from descend.data.split import nested_order
from descend.models import Backbone, Classifier
from descend.quantities import n_bytes
from descend.search.clock import Clock, Watch
from descend.search.steps import FeatureStep, FineTuneStep
from descend.search.warm_up import WarmUp
from descend.train.memory_need import state_bytes
from descend.train.metrics import evidence_per_row
from descend.train.plan import Plan
from descend.train.run_log import RunLog
from descend.train.task_builder import TaskBuilder
from descend.train.world import current
from descend.transfer import Engine, LogisticFit, Searched, Trial, bfloat16_pays, make_engine, offered

MIRROR = ("flip(p=1.0)",)
CROPS, FLIP, DISTORT = "random_resized_crop(scale_range=[0.5, 1.0])", "flip(p=0.5)", "trivialaugment()"

Probabilities = NDArray[np.float32]  # (n, K)

FIXED_COST = 0.15
"""Of what a picture costs at a view of 224 pixels, that it costs at any: on a processor without matrix units torch takes 10.2 ms
and 3.9 in 96 px, OpenVINO 4.4 and 1.1, where a view has 0.18 of the pixels; then it is taken from the cache and stored."""
REPAYS_START = 300  # pictures to be judged, from which a quick engine repays its start: torch takes 7 ms more for each
FIT_PACE = 2e-7  # seconds per fold, picture and axis that fitting a head of ten classes takes until it is measured


@dataclass(frozen=True)
class Crops:
    """Random crops of a training picture that a head learns from beside the views that it is asked about.

    n: of each picture. flipped: whether half of them are mirrored.
    """

    n: int
    flipped: bool


@dataclass(frozen=True, eq=False)
class Answer:
    """What one step made: a network, how it looks at pictures, and how good it is. Equal to itself only.

    classifier: reads pictures of the run's size. engine: computes its backbone's features. trial: of the cross-validation that
    chose its head, where one did. share: of the pictures that it was made from. frozen: whether its backbone is the pretrained
    one. strength: of the penalty on a head that was fitted. crops: what that head learned from beside its own views. saw_val:
    whether it learned from validation pictures, so that they cannot judge it. temperature: that its logits were divided by. why:
    what was decided on the way, in words.
    """

    classifier: Classifier
    engine: Engine
    view: int
    mirrored: bool
    share: float
    frozen: bool
    trial: Trial | None = None
    strength: float | None = None
    crops: Crops | None = None
    saw_val: bool = False
    temperature: float = 1.0
    why: str = ""


@dataclass
class TriedHead:
    """A head that was judged in cross-validation, and is fitted to all pictures only where it is chosen.

    stages: name of the set of features that it reads. best: trial of the chosen strength, None where no strength was tried.
    """

    stages: str
    best: Trial | None
    strength: float
    searched: Searched | None  # all that the fit needs; large, and dropped where the head has lost
    fitted: LogisticFit | None = None

    @property
    def loss(self) -> float:
        """The held-out loss, nats; infinite where no strength was tried."""
        return np.inf if self.best is None else self.best.loss


class Study:
    """The pictures, the network and the clock of one search.

    plan: with the engine decided. dataset: the part that takes part. pretrained: the backbone as it came.
    """

    def __init__(self, plan: Plan, decoded: Decoded, pretrained: Backbone, clock: Clock, watch: Watch, log: RunLog) -> None:
        self.plan, self.decoded, self.pretrained = plan, decoded, pretrained
        self.clock, self.watch, self.log = clock, watch, log
        self.dataset = decoded.dataset
        self.n_classes = len(self.dataset.classes)
        self.order = {split: nested(self.dataset, split, plan.seed) for split in ("train", "val", "test")}
        head = plan.head.build(pretrained.n_features, self.n_classes, plan.seed)
        views = replace(plan, augment=expand(MIRROR))  # view 0 is the plain one, view 1 its mirror image
        self.builder = TaskBuilder(views, decoded, Classifier(pretrained, head), None, watch, current())
        self._builders: dict[tuple[str, ...], TaskBuilder] = {MIRROR: self.builder}
        self.native = self.first_size = min(plan.size, pretrained.native_size)  # views: the network's own, and the first one
        self.measured_shares: dict[tuple[int, int], float] = {}  # of the loss, that a view takes away from a smaller one's
        self.why_smaller = ""  # the first view is smaller than the network's own, where that was measured
        self.may_mirror = False  # until it is measured
        self.may_distort: bool | None = None  # None until it is measured
        self.best_training: FineTuneStep | None = None  # that validation keeps with the most weight, None where it keeps none
        self.val_nats = np.inf  # that the best answer's mixture loses on validation, in all: no other can save more
        self.is_part = False  # of what the user has, where time does not allow more
        self.n_training = len(self.dataset.indices("train"))  # pictures that the user has to train on
        self.warm_up: WarmUp | None = None  # what compiles for fine-tuning meanwhile
        self.before_training: Callable[[FineTuneStep], None] = lambda _: None  # raises where a step must not be measured
        self.training_bytes: dict[FineTuneStep, int | None] = {}  # that a batch of such a step holds, None where nobody can tell
        self._fit_pace = FIT_PACE
        self.tried: dict[tuple[FeatureStep, str, bool], TriedHead] = {}  # by look, set of features, whether crops are flipped
        self.strengths: dict[str, float] = {}  # by set of features, of the last step that sought them on plain views
        self.best_trials: dict[tuple[int, str], Trial] = {}  # by size and set of features, also of choices that ended too early
        self._means: dict[Answer, NDArray[np.float64]] = {}
        self.engines: dict[int, Engine] = {}  # of the pretrained network, by view
        self._rates: dict[tuple[str, int], float] = {}
        self._training: dict[tuple[int, str | None, bool], float] = {}  # pictures per second: size, frozen part, distorted

    def rows(self, split: str, share: float = 1.0) -> NDArray[np.int64]:
        """Return the rows of a split that take part in a step with this share, the same first ones for every share."""
        rows = self.order[split]
        return rows[: max(1, round(share * len(rows)))] if len(rows) else rows

    def val_counts(self, share: float = 1.0) -> NDArray[np.float64] | None:
        """Return how much each validation picture counts where it judges, (n,): all together as much as they are evidence."""
        rows = self.rows("val", share)
        return evidence_per_row(len(rows), self.dataset.copies(rows), self.dataset.evidence(rows)) if len(rows) else None

    def training_rows(self, *, with_val: bool) -> NDArray[np.int64]:
        """Return the rows that late stages are trained on."""
        return np.concatenate([self.rows("train"), self.rows("val")]) if with_val else self.rows("train")

    @property
    def may_learn_val(self) -> bool:
        """Whether pictures for validation may be learned from, once they have decided: they were carved out here."""
        carved = not self.dataset.given_val and len(self.rows("val")) > 0
        return carved and not self.plan.limited

    def offered(self, n: int) -> dict[str, tuple[str, ...]]:
        """Return the sets of features that heads on n pictures may read: under ``max_size`` those whose network keeps it.

        The outputs of the last stage remain where none does: no head is smaller.
        """
        small = {name: taps for name, taps in offered(self.pretrained, n).items() if self.is_small(taps)}
        return small or {"last": self.pretrained.feature_sets["last"]}

    def is_small(self, taps: Sequence[str]) -> bool:
        """Return whether the pretrained network with a head on these features keeps ``max_size``."""
        if self.plan.max_size is None:
            return True
        head = 4 * self.n_classes * (self.pretrained.n_columns(taps) + 1)
        return state_bytes(self.pretrained) + head <= n_bytes(self.plan.max_size, who="max_size")

    def backbone(self, view: int, taps: Sequence[str] = ()) -> Backbone:
        """Return a copy of the pretrained backbone that looks at the run's pictures in ``view`` pixels."""
        backbone = copy.deepcopy(self.pretrained)
        backbone.look(view, of=self.plan.size)
        backbone.tap(taps)
        return backbone

    def frozen_engine(self, view: int) -> Engine:
        """Return the engine of the pretrained backbone for a view, with all that heads may read tapped; made once."""
        if view not in self.engines:
            taps = self.pretrained.every_tap
            self.engines[view] = make_engine(self.plan.engine, self.backbone(view), size=self.plan.size, taps=taps)
        return self.engines[view]

    def has_started(self, view: int) -> bool:
        """Return whether the engine of the pretrained backbone for a view computes at once."""
        return view in self.engines and self.engines[view].started

    @property
    def engine_of_trained(self) -> str:
        """The name of the engine that trained networks answer by: the plan's, where the pictures to be judged repay its start.

        It follows from the pictures alone, so that a replay takes the same.
        """
        n_judged = len(self.rows("val")) + len(self.rows("test"))
        return self.plan.engine if n_judged >= REPAYS_START else "torch"

    @property
    def precision(self) -> Literal["float32", "bfloat16"]:
        """What maps and products of fine-tuning are computed in on this machine."""
        return "bfloat16" if self.builder.device.type == "cpu" and bfloat16_pays() else "float32"

    @property
    def early_stage(self) -> str | None:
        """The last of the stages that fine-tuning leaves frozen: early ones cost most of a step and hold general features."""
        names = self.pretrained.stage_names
        return names[len(names) // 4] if len(names) >= 4 else None

    def rate(self, view: int, *, engine: str | None = None) -> float:
        """Return an engine's pictures per second at a view, the plan's by default: as measured last, or from another by cost."""
        name, slowdown = engine or self.plan.engine, self.clock.slowdown
        if (name, view) in self._rates:
            return self._rates[name, view] / slowdown
        known = [(size, rate) for (other, size), rate in self._rates.items() if other == name]
        known = known or [(size, rate) for (_, size), rate in self._rates.items()]
        size, rate = min(known, key=lambda item: abs(item[0] - view))
        return rate * view_cost(size) / view_cost(view) / slowdown

    def note_rate(self, engine: str, view: int, rate: float) -> None:
        """Note how many pictures per second an engine computes at a view while nothing else does."""
        self._rates[engine, view] = rate

    @property
    def fit_pace(self) -> float:
        """The seconds per fold, picture and axis that fitting a head of ten classes takes."""
        return self._fit_pace * self.clock.slowdown

    def note_fit(self, took: float, expected: float) -> None:
        """Note how many seconds fitting took that was expected to take so many."""
        if expected and self.clock.slowdown == 1.0:
            self._fit_pace *= took / expected

    def training_rate(self, step: FineTuneStep) -> float | None:
        """Return the pictures per second of training with a step's frozen part: as measured, or by area from another size."""
        known = [(key, rate) for key, rate in self._training.items() if key[1] == step.freeze_to]
        if not known:
            return None
        key, rate = min(known, key=lambda item: (abs(item[0][0] - step.size), item[0][2] != step.distorted))
        return rate * (key[0] / step.size) ** 2 / self.clock.slowdown

    def measure_training(self, step: FineTuneStep, measure: Callable[[], float]) -> bool:
        """Measure the rate of a step's kind of training, unless that is known; returns whether it was measured now."""
        key = (step.size, step.freeze_to, step.distorted)
        if key in self._training:
            return False
        self.before_training(step)
        self._training[key] = measure() * self.clock.slowdown
        return True

    def features(
        self, engine: Engine, rows: NDArray[np.int64], *, mirrored: bool, crops: Crops | None = None
    ) -> NDArray[np.float32]:
        """Return the engine's features of rows, cached; notes how fast they were computed.

        They are (n, V, D) float32: of the plain view, of its mirror image where ``mirrored``, then of the crops.
        """
        features = self._extracted(self.builder, engine, rows, 1 + mirrored)
        if crops is None:
            return features
        cropper = self._views((CROPS, FLIP) if crops.flipped else (CROPS,))
        return np.concatenate([features, self._extracted(cropper, engine, rows, 1 + crops.n)[:, 1:]], axis=1)

    def mean_features(self, answer: Answer) -> NDArray[np.float64]:
        """Return the means over an answer's training pictures of its engine's features of their plain views, (D,), found once."""
        if answer not in self._means:
            features = self.features(answer.engine, self.rows("train", answer.share), mirrored=False)
            self._means[answer] = features[:, 0].mean(0, dtype=np.float64)
        return self._means[answer]

    def transformed(self, engine: Engine, rows: NDArray[np.int64], augment: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the engine's features of the plain view of rows and of one that is augmented, cached: (n, 2, D) float32."""
        return self._extracted(self._views(augment), engine, rows, 2)

    def _extracted(self, builder: TaskBuilder, engine: Engine, rows: NDArray[np.int64], n_views: int) -> NDArray[np.float32]:
        if builder.n_missing(engine, rows, n_views=n_views):
            engine.start()  # it is no part of the pace
        before, started, view = builder.extraction.n_computed, time.perf_counter(), engine.prefix.seen_size
        paced = builder is self.builder  # to augment takes a time of its own
        with self.watch.pacing(self._rates.get((engine.name, view))) if paced else nullcontext():
            features = builder.extract(engine, rows, n_views=n_views)
        n = builder.extraction.n_computed - before
        if n >= 32 and self.clock.slowdown == 1.0:  # fewer say little of the rate
            self.note_rate(engine.name, view, n / (time.perf_counter() - started))
        return features

    def _views(self, augment: tuple[str, ...]) -> TaskBuilder:
        """Return a builder whose views after the plain one are augmented."""
        if augment not in self._builders:
            plan = replace(self.builder.plan, augment=expand(augment))
            self._builders[augment] = TaskBuilder(
                plan, self.decoded, self.builder.classifier, None, self.watch, self.builder.world
            )
        return self._builders[augment]

    def share_done(self, view: int) -> float:
        """Return the share of the training pictures, in their nested order, whose plain features at a view are on disk."""
        rows, engine = self.rows("train"), self.frozen_engine(view)
        low, high = 0, len(rows)
        while low < high:  # the rows are computed in order
            middle = (low + high + 1) // 2
            done = self.builder.n_missing(engine, rows[:middle]) == 0
            low, high = (middle, high) if done else (low, middle - 1)
        return max(low, min(len(rows), 2 * self.n_classes)) / len(rows)

    def probabilities(self, answer: Answer, rows: NDArray[np.int64]) -> Probabilities:
        """Return an answer's probabilities for rows, (n, K): the mean over the views that it looks at."""
        if not len(rows):
            return np.zeros((0, self.n_classes), np.float32)
        return torch.softmax(self.logits(answer, rows), 2).mean(1).numpy()

    def logits(self, answer: Answer, rows: NDArray[np.int64]) -> Tensor:
        """Return an answer's logits for the views of rows that it looks at, (n, V, K) float32."""
        features = self.features(answer.engine, rows, mirrored=answer.mirrored)
        n_columns = answer.classifier.backbone.n_features
        with torch.inference_mode():
            return answer.classifier.head(torch.from_numpy(np.ascontiguousarray(features[:, :, -n_columns:])))


def view_cost(view: int) -> float:
    """Return what a picture costs at a view of so many pixels per side, as times that of one of 224 pixels."""
    return FIXED_COST + (1 - FIXED_COST) * (view / 224) ** 2


def nested(dataset: Dataset, split: str, seed: int) -> NDArray[np.int64]:
    """Return the rows of a split in an order whose every beginning holds all classes in their shares: (n,) int64.

    Copies and pictures of one group stay together only as the split keeps them; within one split they may be parted.
    """
    rows = dataset.indices(split)
    if not len(rows):
        return rows
    return rows[nested_order(dataset.labels[rows], rng.uniform(seed, "part", ids=dataset.ids[rows])[:, 0])]

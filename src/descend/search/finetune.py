"""The step that trains late stages: from the best head so far, on augmented pictures, for as many steps as the time allows."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from descend.augment import Pipeline
from descend.data import Batches
from descend.errors import DivergenceError
from descend.models import Classifier
from descend.optim import Rule, with_knobs
from descend.regularize import CrossEntropy
from descend.schedule import Schedule
from descend.search.steps import FineTuneStep
from descend.search.study import CROPS, DISTORT, FLIP, Answer, Study
from descend.technique import build
from descend.train.batch_sources import ImageSource
from descend.train.calibration import fit_temperature
from descend.train.inference import rgb
from descend.train.loop import Batch, BatchSource, Position, Task, train_loop
from descend.train.nonfinite import Rollback
from descend.train.task_builder import scheduled
from descend.transfer import FineTuning, Logistic, make_engine, quick_training

RULE = "adamw(weight_decay=0.01)"
SCHEDULE = "then(warmup(fraction=0.05), cosine())"
HEAD_SHARE = 0.2
"""Of the fitted head's weights, with which training starts. The whole head is as sure as it can be of the features as they are; a
network whose outputs are large hardly learns new ones (Chizat, Oyallon & Bach 2019, arXiv:1812.07956). What it brings is measured
in `benchmarks/training_starts.py`."""
SMOOTHING = 0.1
KEPT_EVERY = 50  # steps, where training may go back to a good state
LEAST_TRAINED_S = 1.0
MOST_TIMED, TIMED_S = 8, 0.5  # steps, and seconds of those after the first, that tell the pace


class Visits:
    """A batch source whose one epoch is a number of steps, over as many passes of another source as that takes."""

    def __init__(self, passes: BatchSource, n_steps: int) -> None:
        self._passes, self.n_steps = passes, n_steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches from step ``start`` on."""
        del epoch
        done, step = divmod(start, self._passes.n_steps)
        taken = start
        while taken < self.n_steps:
            for batch in self._passes.epoch(done, step):
                if taken == self.n_steps:
                    return
                yield replace(batch, step=taken)
                taken += 1
            done, step = done + 1, 0


@dataclass
class Pace:
    """A callback that tells the progress, and says when to stop: at a step that is given, or where time runs out.

    deadline: whether the time for training is over. stop_at: known beforehand in a replay. told: called with the step before
    which time ran out, so that it is written down before it is acted on.
    """

    n_steps: int
    stop_at: int | None
    deadline: Callable[[], bool]
    told: Callable[[int], None]
    update: Callable[[str, int, int], None]
    batch_size: int
    stopped: int | None = None
    keep: Callable[[Position], None] | None = None  # called with every good state that training may go back to

    def after_step(self, position: Position) -> None:
        """Tell the progress."""
        done = position.step
        self.update("fine-tuning", done * self.batch_size, self.n_steps * self.batch_size)
        if done == self.stop_at or (self.stop_at is None and done < self.n_steps and self.deadline()):
            self.stopped = done
            if self.stop_at is None:
                self.told(done)
        if not np.isfinite(float(position.loss_sum)):
            raise DivergenceError("fine-tuning", "the loss must be finite", got=float(position.loss_sum))
        if self.keep is not None and done % KEPT_EVERY == 0:
            self.keep(position)

    def after_epoch(self, position: Position, lr: float) -> bool:
        """End."""
        del position, lr
        return False


class Stopwatch:
    """A callback that times steps from the end of the first one on, whose memory the others reuse."""

    def __init__(self) -> None:
        self.taken_at: list[float] = []

    def after_step(self, position: Position) -> None:
        """Note when the step had been taken."""
        float(position.loss_sum)  # another device has computed it by then
        self.taken_at.append(time.perf_counter())

    def after_epoch(self, position: Position, lr: float) -> bool:
        """End."""
        del position, lr
        return False

    @property
    def step_s(self) -> float:
        """The median seconds of a step."""
        return float(np.median(np.diff(self.taken_at)))

    def enough(self) -> bool:
        """Whether the steps so far tell the pace: two, and more where they are quick."""
        return len(self.taken_at) > 2 and self.taken_at[-1] - self.taken_at[0] > TIMED_S


def fine_tuned(study: Study, step: FineTuneStep, start: Answer, *, after_s: float, told: Callable[[int], None]) -> Classifier:
    """Return a network whose late stages were trained from ``start``.

    after_s: seconds that must be left when training ends; where that is early, ``told`` learns the step before which it stopped.
    It takes ``LEAST_TRAINED_S`` all the same. The rate falls to zero over the planned steps; where they are cut short the weights
    stay as they are then. Raises DivergenceError.
    """
    earliest, needed = time.perf_counter() + LEAST_TRAINED_S, study.clock.needing(after_s)
    classifier, task = training_task(study, step, start)
    task.optimizer.nonfinite = "skip" if study.plan.on_nan == "skip" else "error"
    rollback = Rollback() if study.plan.on_nan == "rollback" else None
    study.watch.update("fine-tuning", 0, step.n_steps * step.batch_size)  # so that the first batch counts, and its time

    def late() -> bool:
        return time.perf_counter() > earliest and study.clock.left() < needed()

    pace = Pace(step.n_steps, step.stop_at, late, told, study.watch.update, step.batch_size)
    rate = study.training_rate(step)
    with study.watch.pacing(rate and rate * study.clock.slowdown):
        _train(task, pace, rollback)
    return classifier.to("cpu")


def _train(task: Task, pace: Pace, rollback: Rollback | None) -> None:
    """Run the task until its end, or until ``pace`` stops it; go back a few steps where losses or gradients are not finite."""
    position = Position()
    if rollback is not None:
        rollback.keep(position, task)
        pace.keep = lambda now: rollback.keep(now, task)
    while True:
        try:
            train_loop(task, position, pace, lambda: pace.stopped is not None)
        except DivergenceError:
            back = None if rollback is None else rollback.go_back(task)
            if back is None:
                raise
            position = back
        else:
            return


def answered(study: Study, step: FineTuneStep, classifier: Classifier) -> Answer:
    """Return the answer of a trained network: it looks at pictures in the size that it was trained in."""
    backbone = classifier.eval().backbone
    backbone.look(step.size, of=study.plan.size)
    engine = make_engine(study.engine_of_trained, backbone, size=study.plan.size, taps=backbone.taps)
    return Answer(classifier, engine, step.size, step.mirrored, share=1.0, frozen=False, saw_val=step.with_val)


def calibrated(answer: Answer, temperature: float) -> Answer:
    """Return the answer with its logits divided by a temperature; its first choices stay as they are."""
    scaled = copy.deepcopy(answer.classifier)
    _scale(scaled.head, 1 / temperature)
    return replace(answer, classifier=scaled, temperature=temperature, why=f"temperature {temperature:.2f}")


def _scale(head: nn.Module, factor: float) -> None:
    """Multiply a head's logits."""
    assert isinstance(head, nn.Linear)  # every step's head is one: its logits scale with its weights
    head.load_state_dict({name: value * factor for name, value in head.state_dict().items()})


def fitted_temperature(study: Study, answer: Answer) -> float:
    """Return the temperature that validation prefers for an answer.

    The prior counts: without it 37 pictures, all answered right, would have it as sure as it can be, 0.56 nats on the test
    pictures of ants and bees, where it loses 0.20 uncalibrated.
    """
    rows = study.rows("val")
    probabilities, labels = torch.softmax(study.logits(answer, rows), 2).numpy(), study.dataset.labels[rows]
    return fit_temperature(probabilities, labels, weights=study.val_counts())


def images_per_s(study: Study, step: FineTuneStep, start: Answer) -> float:
    """Return how many pictures per second training visits with this step's settings: a few steps, on a copy.

    They are whole ones: of hands in 96 px training visited 306 per second where an estimate from gradients alone said 261.
    """
    task = training_task(study, replace(step, n_steps=MOST_TIMED), start)[1]
    task.optimizer.nonfinite = "skip"  # whatever the loss is, its pace is told
    watch = Stopwatch()
    train_loop(task, Position(), watch, watch.enough)
    return step.batch_size / watch.step_s


def reading_means(study: Study, start: Answer) -> Classifier:
    """Return a copy of an answer's network whose head reads means of late stages only; the others stay at theirs of training.

    A network that goes on reading quarters and covariances while it trains ends worse: 260 steps at 128 px lose 0.471 nats on
    CIFAR-10 where they are left out, 0.484 with quarters and 0.505 with both, on blurred flowers 0.563, 0.574 and 0.590; from the
    last stage alone 0.491 and 0.590. What a training has made is of this form, too.
    """
    classifier = copy.deepcopy(start.classifier)
    backbone, head = classifier.backbone, classifier.head
    means = [tap for tap in backbone.taps if tap in backbone.stage_names]
    if len(means) == len(backbone.taps):
        return classifier
    assert isinstance(head, nn.Linear)  # as fitted
    n_columns, weight = backbone.n_features, head.weight.detach()
    backbone.tap(means)
    n_kept = backbone.n_features  # the last columns, as of all fewer taps
    left_out = torch.from_numpy(study.mean_features(start)[-n_columns:-n_kept]).float()
    bias = head.bias.detach() + weight[:, :-n_kept] @ left_out
    return Classifier(backbone, Logistic.filled(weight[:, -n_kept:].numpy(), bias.numpy())).eval()


def training_task(study: Study, step: FineTuneStep, start: Answer) -> tuple[Classifier, Task]:
    """Return a copy of the network that a step starts from, and the task that trains it.

    Both are on the plan's device; features are computed by engines on the processor. What the task trains shares the network's
    tensors, with norms that stand still made part of the convolutions.
    """
    classifier = reading_means(study, start)
    classifier.backbone.view = None  # training pictures are drawn in the size that they are read in
    plan, builder = study.plan, study.builder
    seed = plan.seed + 1_000_003 * step.draw
    _scale(classifier.head, HEAD_SHARE)
    tuning = FineTuning(classifier, freeze_to=step.freeze_to, norm="eval")
    tuning.thaw()
    classifier = classifier.to(builder.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stub)
    groups = builder.groups(classifier)
    optimizer = scheduled(groups, with_knobs(build(RULE, Rule), lr=step.lr))
    rows = study.training_rows(with_val=step.with_val)
    batches = Batches(study.decoded, rows, batch_size=min(step.batch_size, len(rows)), seed=seed)
    augment = [CROPS, *[FLIP] * step.mirrored, *[DISTORT] * step.distorted]
    mean, std = rgb(classifier.mean), rgb(classifier.std)
    pipeline = Pipeline(augment, seed=seed, size=step.size, mean=mean, std=std)
    images = ImageSource(batches, pipeline, study.n_classes, builder.device)
    quick = quick_training(classifier, builder.noise(step.size), getattr(torch, step.precision))
    loss = CrossEntropy(smoothing=SMOOTHING)
    return classifier, Task(quick, Visits(images, step.n_steps), optimizer, build(SCHEDULE, Schedule), loss, epochs=1)

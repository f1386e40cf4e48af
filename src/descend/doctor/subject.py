"""What is examined: a run prepared as ``fit`` prepares it, but of a handful of pictures, and nothing is written down.

Plan, network, optimizer, schedule and loss are those of all pictures; only what is decoded and fed is less.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from descend.augment import Normalize
from descend.data import Batches
from descend.doctor.sample import LEAST_PER_CLASS, MOST_FOR_CLASSES, few_of_each, handful
from descend.doctor.trial import MOST_STEPS, Trial, run_trial
from descend.models import Classifier
from descend.optim import Rule, knob_names, with_knobs
from descend.progress import Progress, Silent
from descend.regularize import CrossEntropy
from descend.schedule import Constant
from descend.train.loop import Batch, Task
from descend.train.modes import MODES
from descend.train.plan import Plan
from descend.train.prepare import Survey, built, decode, profile_of, stored_side, survey
from descend.train.recipe import Recipe
from descend.train.resolve import SEARCH_ONLY, resolve
from descend.train.run_log import RunLog
from descend.train.task_builder import ModeTask, TaskBuilder, class_weights
from descend.transfer import remembered

N_BATCHES = 2  # of the plan's size, that the handful fills
LARGE_INPUT, N_QUICK = 20_000, 8  # numbers per picture, and pictures that suffice then
FEW, FEW_PER_CLASS = 20, 4  # pictures to be learned by heart


@dataclass(frozen=True)
class Subject:
    """A prepared run.

    surveyed: all pictures, and the plan that is examined. asked: the recipe as given. notes: how the plan differs from what
    ``fit`` would do. builder: holds the handful, decoded. task: what the loop would train, fed with the handful.
    """

    surveyed: Survey
    asked: Recipe
    notes: tuple[str, ...]
    builder: TaskBuilder
    mode_task: ModeTask
    task: Task

    @property
    def plan(self) -> Plan:
        """The plan that is examined."""
        return self.builder.plan

    @property
    def classifier(self) -> Classifier:
        """The whole network."""
        return self.builder.classifier

    @property
    def module(self) -> nn.Module:
        """The part of the network that trains."""
        return self.task.module

    @property
    def n_classes(self) -> int:
        """K."""
        return self.builder.n_classes

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        n_train = len(self.surveyed.dataset.indices("train"))
        return self.plan.epochs * -(-n_train // self.plan.batch_size)

    @cached_property
    def trial(self) -> Trial:
        """A few steps of the training, taken once and measured for every check that asks; the subject stays as it was."""
        return run_trial(self.task, self.classifier, self.batches(MOST_STEPS))

    def batches(self, n: int) -> Iterator[tuple[int, Batch]]:
        """Yield the first ``n`` batches of the training with their epochs."""
        every = ((epoch, batch) for epoch in itertools.count() for batch in self.task.source.epoch(epoch))
        return itertools.islice(every, n)

    def quick_batches(self, n: int) -> Iterator[tuple[int, Batch]]:
        """Yield the first ``n`` batches, cut to a few pictures where a picture is large: for checks that need no statistics."""
        for epoch, batch in self.batches(n):
            few = N_QUICK if batch.inputs[0].numel() > LARGE_INPUT else len(batch.ids)
            yield epoch, Batch(batch.ids[:few], batch.inputs[:few], batch.targets[:few], batch.step)

    def bare_task(self) -> Task:
        """Return a task of its own: a few pictures in one batch, from the run's initial weights, by its rule at its peak rate.

        Nothing regularizes or varies: no penalty, no drop layer, no augmentation, no weight decay, no clipping.
        """
        plan = self.plan
        rows = few_of_each(
            self.builder.dataset, self.builder.train_rows, per_class=FEW_PER_CLASS, most=FEW, seed=plan.seed
        )  # fmt: skip
        kept = tuple(item for item in plan.augment if isinstance(item, Normalize))
        plan = replace(plan, augment=kept, regularize=(), gradients=(), views=0, batch_size=len(rows), optimizer=_bare(plan.rule))
        mode = MODES[plan.transfer].variant(plan.recipe())
        surveyed, log = replace(self.surveyed, plan=plan), RunLog(writes=False)
        plan, network, _ = built(surveyed, mode, log, Silent())
        builder = TaskBuilder(plan, self.builder.decoded, network, None, Silent())
        builder.train_rows = rows
        builder.batches = Batches(builder.decoded, rows, batch_size=len(rows), seed=plan.seed)
        task = mode.task(builder).task
        assert task is not None  # the mode of a subject trains step by step
        return replace(task, schedule=Constant())


def prepare_subject(recipe: Recipe, *, arrays: Any = None, progress: Progress) -> Subject:
    """Prepare the run of ``recipe`` with a handful of pictures; arrays: data that is no path, as for ``fit``.

    Raises what ``fit`` would raise: DataError, KnobError, SpecError, ModelError.
    """
    log = RunLog(writes=False)
    surveyed = survey(recipe, arrays=arrays, log=log, progress=progress, who="doctor")
    surveyed, notes = _step_by_step(surveyed, recipe)
    mode = MODES[surveyed.plan.transfer].variant(surveyed.plan.recipe())
    plan, network, _ = built(surveyed, mode, log, progress)
    dataset = surveyed.dataset.fitted(plan.fit)
    n = max(N_BATCHES * plan.batch_size, min(LEAST_PER_CLASS * len(dataset.classes), MOST_FOR_CLASSES))
    decoded = decode(handful(dataset, n, seed=plan.seed), plan, stored_side(plan, mode, network), log, progress)
    if plan.engine == "auto":
        known = remembered(network.backbone, size=plan.size, taps=mode.taps(network.backbone, plan))
        plan = plan.decided("engine", "torch" if known is None else known.engine.name, "measured before, or else torch's")
    builder = TaskBuilder(plan, decoded, network, None, progress)
    mode_task = mode.task(builder)
    assert mode_task.task is not None  # see _step_by_step
    task = replace(mode_task.task, loss=_loss(plan, surveyed, builder))
    return Subject(surveyed, recipe, notes, builder, mode_task, task)


def _loss(plan: Plan, surveyed: Survey, builder: TaskBuilder) -> Any:
    """Return the run's loss, with the class weights of all pictures: those of a handful are others."""
    loss, weights = plan.loss(), class_weights(plan, surveyed.dataset)
    if weights is None:
        return loss
    weights = weights.to(builder.device)

    def weighted(logits: Tensor, targets: Tensor) -> Tensor:
        return loss(logits, targets, weights=weights)

    return weighted


def plain_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy without smoothing, focus or class weights, a scalar in nats."""
    return CrossEntropy()(logits.float(), targets)


def _step_by_step(surveyed: Survey, recipe: Recipe) -> tuple[Survey, tuple[str, ...]]:
    """Return the survey with a plan that trains step by step, and what is different in it."""
    plan = surveyed.plan
    if plan.transfer == "auto":
        changes: dict[str, Any] = {"transfer": "finetune"} | dict.fromkeys(SEARCH_ONLY)
        note = "fit would search (transfer auto); examined is the fine-tuning of the whole backbone, with its defaults"
    elif plan.transfer == "features" and plan.head.name == "logistic":
        changes = {"head": "linear()"}
        note = "fit would fit the head to its optimum; examined is a linear head trained on the same features"
    else:
        return surveyed, ()
    asked = replace(recipe, backbone=str(plan.backbone), weights=plan.weights, download=None, **changes)
    other = resolve(asked, profile_of(surveyed.dataset))
    return replace(surveyed, plan=other), (note,)


def _bare(rule: Rule) -> Rule:
    return with_knobs(rule, weight_decay=0.0) if "weight_decay" in knob_names(rule) else rule

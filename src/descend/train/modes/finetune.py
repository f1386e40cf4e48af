"""``finetune``: the head first, on cached features; then the backbone too, its early stages gently, or frozen (``freeze_to``)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import torch
from torch import nn

from descend.errors import KnobError
from descend.models import Classifier
from descend.optim import parameter_groups
from descend.regularize import batch_norms
from descend.schedule import Schedule
from descend.technique import build
from descend.train.batch_sources import FeatureSource, ImageSource
from descend.train.callbacks import KeepBest
from descend.train.checkpoint import Best
from descend.train.evaluate import probabilities
from descend.train.loop import Position, Task, train_loop
from descend.train.metrics import score
from descend.train.modes.features import FrozenBackbone
from descend.train.modes.mode import Chosen, Default, random_crops
from descend.train.plan import DataProfile, Plan
from descend.train.task_builder import ModeTask, TaskBuilder, scheduled
from descend.transfer import FineTuning, fingerprint, fit_logistic, make_engine, quick_training, stage_of, trainable_stages

# Of the head alone, on cached features, before the backbone moves:
HEAD_FIRST_EPOCHS, HEAD_FIRST_RULE, HEAD_FIRST_SCHEDULE = 40, "adamw(lr=0.005)", "then(warmup(fraction=0.05), cosine())"
NORM = "eval"
LR, LR_STEPS = 0.002, 400  # the default rate, and the steps from which it is that: fewer have it by their root, as in a search
LAYER_DECAY = 0.7  # of the rate, from one stage to the one before


class FineTune(FrozenBackbone):
    """Early layers frozen, or slow; everything after them trains."""

    name = "finetune"
    settings = FrozenBackbone.settings | {"freeze_to", "norm", "layer_decay"}

    def default_size(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the pictures' own size, within what the backbone reads well."""
        native = chosen["backbone"].native_size or 224
        if chosen["backbone"].fixed_size:
            return Default(native, "the only size that the backbone reads")
        side = max(96, min(native, -(-data.side // 32) * 32))
        reason = f"the pictures are about {data.side} px: more pixels cost time and add nothing, {native} is the backbone's own"
        return Default(side, reason)

    def default_augment(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return wider crops than for a head: the backbone can learn to read them."""
        del chosen
        return random_crops(data, smallest=0.35)

    def default_optimizer(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return a small rate; a smaller one for few steps: they cannot repair what the first ones break.

        Of 600 photographs of hands, 1 epoch at the whole rate ended at a loss of 6.3, at 18% of it at 0.76, above its start.
        """
        n_steps = chosen["epochs"] * -(-data.n_train // chosen["batch_size"])
        lr = float(f"{LR * min(1.0, (n_steps / LR_STEPS) ** 0.5):.2g}")
        few = "" if lr == LR else f", and {n_steps} step{'s are' if n_steps > 1 else ' is'} few"
        return Default(f"adamw(lr={lr}, weight_decay=0.01)", f"gentle: the weights are already good{few}")

    def default_epochs(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return few."""
        del data, chosen
        return Default(10, "the head is trained beforehand; few passes suffice")

    def default_norm(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the pretrained statistics."""
        del data, chosen
        return Default(NORM, "small batches estimate statistics poorly; the pretrained ones stay")

    def default_layer_decay(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return a gentle slope."""
        del data, chosen
        return Default(LAYER_DECAY, "early stages hold general features: they move less")

    def check_network(self, network: Classifier, plan: Plan) -> None:
        """Refuse what is said of batch norms where none is trained, and of the rates of stages where one is."""
        *stages, _ = self.trained_modules(network, plan)
        if plan.norm != NORM and not any(True for stage in stages for _ in batch_norms(stage)):
            raise KnobError("norm", "has no effect: what is trained holds no batch norm", got=plan.norm, fix="Leave it out.")
        if plan.layer_decay != LAYER_DECAY and sum(any(True for _ in stage.parameters()) for stage in stages) < 2:
            must = "has no effect: fewer than two stages of the backbone are trained"
            raise KnobError("layer_decay", must, got=plan.layer_decay, fix="Leave it out, or freeze less.")

    def trained_modules(self, network: Classifier, plan: Plan) -> list[nn.Module]:
        """Return the stages after ``freeze_to``, and the head."""
        stages = network.backbone.stages
        n_moving = len(trainable_stages(network.backbone, plan.freeze_to))
        return [*stages[len(stages) - n_moving :], network.head]

    def task(self, builder: TaskBuilder) -> ModeTask:
        """Return the moving stages and the head, behind a frozen engine where stages stay frozen.

        The frozen engine's output is cached where nothing random stands before it.
        """
        plan, whole = builder.plan, builder.classifier
        tuning = FineTuning(whole, freeze_to=plan.freeze_to, norm=plan.norm)
        tuning.thaw()
        groups = builder.groups(whole, rates=tuning.rates(plan.layer_decay), stage_of=stage_of)
        if plan.freeze_to is None:
            module, prefix, inputs = whole, None, builder.image_inputs
        else:
            module = nn.Sequential(OrderedDict(stages=tuning.moving, head=whole.head))
            prefix = make_engine(plan.engine, whole.backbone, size=plan.size, stage=plan.freeze_to)
            inputs = builder.cached_inputs(prefix)
        if prefix is not None and not plan.augment:
            maps = builder.extract(prefix, builder.train_rows)
            source = FeatureSource(builder.batches, maps, builder.places(builder.train_rows), builder.device, builder.world)
        else:
            out = "float" if prefix is None else "uint8"
            pipeline = builder.pipeline(out=out)
            source = ImageSource(builder.batches, pipeline, builder.n_classes, builder.device, prefix=prefix, world=builder.world)
        task = builder.task(module, source, groups)
        if plan.norm == "eval" and not plan.regularize and type(whole.head) is nn.Linear:  # nothing random stands in the network
            example = builder.noise(plan.size)
            with torch.inference_mode():
                example = example if plan.freeze_to is None else tuning.frozen(example)
            quick = quick_training(module, example)
            task = task if quick is module else replace(task, quick=quick)
        return ModeTask(
            task.module, inputs, task, frozen=lambda: fingerprint(tuning.frozen),
            head_first=lambda: train_head_first(builder), engine=prefix,
        )  # fmt: skip


def train_head_first(builder: TaskBuilder) -> None:
    """Give the head its best weights for the backbone as it is, so that fine-tuning does not begin with noise.

    A linear head is fitted to its optimum on cached features of plain views, with classes counted as training counts them, for
    the fitted head may be what is kept; any other is trained on them. Several processes compute the features, and one trains.
    """
    head = builder.classifier.head
    engine = builder.backbone_engine()
    features = builder.extract(engine, builder.train_rows)
    rows = builder.dataset.indices("val")
    inputs = None if isinstance(head, nn.Linear) else builder.cached_inputs(engine)
    if not builder.world.leads:
        return
    if inputs is None:
        labels, units = builder.dataset.labels[builder.train_rows], builder.dataset.evidence(builder.train_rows)
        fit = fit_logistic(
            features, labels, builder.n_classes, units=units, seed=builder.plan.seed, class_weights=builder.fitted_weights()
        )
        head.load_state_dict({"weight": torch.from_numpy(fit.weight), "bias": torch.from_numpy(fit.bias)})
        return
    held_out, labels, copies = list(inputs(rows)), builder.dataset.labels[rows], builder.dataset.copies(rows)
    optimizer = scheduled(parameter_groups(head), HEAD_FIRST_RULE)
    source = FeatureSource(builder.batches, features, builder.places(builder.train_rows), builder.device)
    task = Task(head, source, optimizer, build(HEAD_FIRST_SCHEDULE, Schedule), builder.loss(), HEAD_FIRST_EPOCHS)
    best = Best()
    select = KeepBest(best, lambda: score(probabilities(head, held_out), labels, copies=copies), head, builder.plan.metric)
    train_loop(task, Position(), select, lambda: False)
    assert best.state is not None  # the loop ran to its end
    head.load_state_dict(best.state)

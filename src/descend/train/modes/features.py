"""``features``: the pretrained backbone computes each picture's features once, kept on disk; a head on them takes seconds.

The head is fitted to its optimum (``logistic``), unless something is named that only training has: an optimizer, a schedule,
epochs, a regularizer, another head.
"""

from __future__ import annotations

import torch
from torch import nn

from descend.augment import Augmentation
from descend.errors import KnobError
from descend.models import Backbone, Classifier
from descend.technique import build
from descend.train.batch_sources import FeatureSource
from descend.train.modes.mode import SMALL_SIDE, Chosen, Default, Mode, random_crops, varies_pictures
from descend.train.plan import DataProfile, Plan
from descend.train.recipe import Recipe, names_asked
from descend.train.record_types import HeadTrial
from descend.train.task_builder import FittedHead, ModeTask, TaskBuilder
from descend.train.world import ALONE
from descend.transfer import Engine, Head, Logistic, fingerprint, fit_stages, freeze, offered, out_of_fold

TRAINED_ONLY = frozenset(
    {
        "regularize",
        "optimizer",
        "gradients",
        "schedule",
        "epochs",
        "batch_size",
        "snapshots",
        "checkpoint_every",
        "metric",
        "on_nan",
    }
)
"""Settings of a head that is trained step by step; asking for one of them is asking for such a head."""


class FrozenBackbone(Mode):
    """What the modes share that train a head on a frozen backbone."""

    settings = Mode.settings | {"engine", "download", "weights"}

    def default_backbone(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the one whose weights are installed."""
        del data, chosen
        return Default("lite0", "EfficientNet-Lite0 with ImageNet weights, installed with descend")

    def default_size(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the backbone's own size."""
        del data
        return Default(chosen["backbone"].native_size or 224, "the size the backbone was trained for")

    def default_augment(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return crops that keep most of a picture, since the backbone cannot learn to read less."""
        del chosen
        return random_crops(data, smallest=0.6)

    def default_optimizer(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return a rule for a head."""
        del data, chosen
        return Default("adamw(lr=0.005, weight_decay=0.01)", "the default for a head")

    def default_norm(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the inference form."""
        del data, chosen
        return Default("eval", "a frozen backbone runs in inference form")

    def trained_modules(self, network: Classifier, plan: Plan) -> list[nn.Module]:
        """Return the head."""
        del plan
        return [network.head]


class Features(FrozenBackbone):
    """Feature vectors extracted once, then a head that is trained on them."""

    name = "features"
    settings = FrozenBackbone.settings | {"views", "feature_stages", "folds"}

    def variant(self, asked: Recipe) -> Mode:
        """Return the fitted form where its head is asked for, or where no head and nothing that only training has is."""
        if asked.head is not None:
            trains = [] if isinstance(build(asked.head, Head), Logistic) else ["head"]
        else:
            trains = [name for name in names_asked(asked) if name in TRAINED_ONLY]
        if trains and asked.folds is not None:
            raise KnobError("folds", f"needs a head that is fitted to its optimum, and {trains[0]} asks for one that is trained "
                            "step by step", got=asked.folds, fix=f"Leave {trains[0]} or folds out.")  # fmt: skip
        return self if trains else FITTED

    def default_feature_stages(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the usual features."""
        del data, chosen
        return Default("last", "the outputs that the backbone's own classifier reads")

    def taps(self, backbone: Backbone, plan: Plan) -> tuple[str, ...]:
        """Return all, whichever of them will be used: they cost nothing beside the last stage, and serve later runs."""
        del plan
        return backbone.every_tap

    def suits(self, data: DataProfile, asked: Recipe) -> str | None:
        """Return the reason for photographs, unless they are to be augmented without views."""
        if data.side < SMALL_SIDE or (varies_pictures(asked) and asked.views is None):
            return None
        return "a pretrained backbone computes each picture's features once; a head trains on them in seconds"

    def default_views(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return none beside the plain view."""
        del data, chosen
        return Default(0, "plain views only: seconds instead of minutes")

    def default_augment(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return what makes the augmented views, where there are any."""
        return super().default_augment(data, chosen) if chosen["views"] else Default((), "plain views need none")

    def augment_by_size(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return a policy for the augmented views, where there are any."""
        return super().augment_by_size(data, chosen) if chosen["views"] else Default((), "plain views need none")

    def default_epochs(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return many: they cost little."""
        del data, chosen
        return Default(60, "an epoch on cached features takes milliseconds")

    def check_head(self, head: Head, chosen: Chosen) -> None:
        """Take any head."""

    def batch_size_for(self, data: DataProfile) -> int:
        """Return 64: a step on vectors is too short for less."""
        del data
        return 64

    def check_augment(self, augment: tuple[Augmentation, ...], chosen: Chosen) -> None:
        """Refuse augmentation without views, views without augmentation, and mixing."""
        super().check_augment(augment, chosen)
        moving = [item for item in augment if not item.batch_wide]
        texts = [str(item) for item in augment]
        if chosen["views"] == 0 and moving:
            raise KnobError("augment", "has no effect with transfer='features' and views=0", got=texts,
                            fix="Add --views 4, or use --transfer head.")  # fmt: skip
        if chosen["views"] > 0 and not moving:
            raise KnobError("views", "has no effect without an augmentation", got=chosen["views"],
                            fix="Add --augment flip, for example.")  # fmt: skip
        if any("mix" in item.stages for item in augment):
            raise KnobError("augment", "cannot mix pictures whose features are computed one by one", got=texts,
                            fix="Leave mixing out, or use --transfer head.")  # fmt: skip

    def task(self, builder: TaskBuilder) -> ModeTask:
        """Return the head on cached features of every view."""
        classifier, plan = builder.classifier, builder.plan
        freeze(classifier.backbone)
        engine = builder.backbone_engine(classifier.backbone.every_tap)
        n_columns = classifier.backbone.n_features
        features = builder.extract(engine, builder.train_rows, n_views=1 + plan.views)[:, :, -n_columns:]
        source = FeatureSource(builder.batches, features, builder.places(builder.train_rows), builder.device, builder.world)
        task = builder.task(classifier.head, source)
        inputs = builder.cached_inputs(engine, n_columns)
        return ModeTask(task.module, inputs, task, frozen=lambda: fingerprint(classifier.backbone), engine=engine)


class FittedFeatures(Features):
    """Feature vectors extracted once, then a linear head fitted to its optimum."""

    settings = Features.settings - TRAINED_ONLY
    instead = "Use --head linear, or leave it out."

    def described(self) -> str:
        """Return the setting that chose this form."""
        return "head='logistic()'"

    def variant(self, asked: Recipe) -> Mode:
        """Return itself: it is one."""
        del asked
        return self

    def default_head(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the head that needs no learning rate."""
        del data, chosen
        return Default("logistic()", "fitted to its optimum in seconds, the penalty chosen by cross-validation")

    def default_feature_stages(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the choice by measurement."""
        del data, chosen
        return Default("auto", "cross-validation decides what of late stages helps beside the last")

    def task(self, builder: TaskBuilder) -> ModeTask:
        """Return the head, to be fitted to cached features of every view."""
        backbone = builder.classifier.backbone
        freeze(backbone)
        engine = builder.backbone_engine(backbone.every_tap)
        builder.extract(engine, builder.train_rows, n_views=1 + builder.plan.views)  # what the fit reads lies in the cache then
        builder.device = torch.device("cpu")  # the head is fitted there, and asked there
        inputs = builder.cached_inputs(engine, backbone.n_features)
        builder.world = ALONE  # the fit reads what lies in the cache now: one process does it
        head = builder.classifier.head
        return ModeTask(
            head, inputs, fit=lambda: fit_head(builder, engine), frozen=lambda: fingerprint(backbone.stages), engine=engine
        )


FITTED = FittedFeatures()


def fit_head(builder: TaskBuilder, engine: Engine) -> FittedHead:
    """Fit the head on the features that the plan names, or where it leaves them open on each set of them; keep the best.

    The classifier is changed to what was chosen: its backbone's taps, and its head with the fitted weights.
    """
    plan, classifier, rows = builder.plan, builder.classifier, builder.train_rows
    head, backbone = plan.head, classifier.backbone
    assert isinstance(head, Logistic)  # what this form of the mode is for
    features = builder.extract(engine, rows, n_views=1 + plan.views)
    labels, units = builder.dataset.labels[rows], builder.dataset.evidence(rows)
    sets = offered(backbone, len(rows)) if plan.feature_stages == "auto" else {plan.feature_stages: feature_set(backbone, plan)}
    columns = {name: backbone.n_columns(taps) for name, taps in sets.items()}
    best = fit_stages(
        features, labels, builder.n_classes, columns, units=units, strength=head.strength, n_folds=head.folds,
        n_judged=1, seed=plan.seed,
    )  # fmt: skip
    held_out = None
    if plan.folds is not None:
        held_out = out_of_fold(
            features, labels, builder.n_classes, units=units, n_folds=plan.folds, strength=head.strength, columns=columns,
            n_inner=head.folds, seed=plan.seed, progress=lambda done, total: builder.progress.update("folds", done, total),
        )  # fmt: skip
    backbone.tap(sets[best.stages])
    classifier.head = head.filled(best.fit.weight, best.fit.bias)
    trials = [
        HeadTrial(
            feature_stages=name, strength=trial.strength, accuracy=trial.accuracy, loss=trial.loss, se=trial.se,
            chosen=name == best.stages and trial.strength == best.fit.strength,
        )
        for name, tried in best.trials.items()
        for trial in tried
    ]  # fmt: skip
    return FittedHead(classifier.head, builder.cached_inputs(engine, backbone.n_features), best.stages, trials, held_out)


def feature_set(backbone: Backbone, plan: Plan) -> tuple[str, ...]:
    """Return the taps that join the features where a plan names which. Raises KnobError where the backbone has no such stages."""
    stages, sets = plan.feature_stages, backbone.feature_sets
    if stages == "auto":  # a head that is fitted chooses
        return ()
    if stages not in sets:
        must = f"{backbone.name} must have such stages: it has {', '.join(sets)}"
        raise KnobError("feature_stages", must, got=stages, fix="Leave it out: cross-validation chooses.")
    return sets[stages]

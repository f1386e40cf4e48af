"""``features``: the pretrained backbone computes each picture's features once, kept on disk; a head trains on them in seconds."""

from __future__ import annotations

from torch import nn

from descend.augment import Augmentation, Normalize
from descend.errors import KnobError
from descend.models import Classifier
from descend.train.batch_sources import FeatureSource
from descend.train.modes.mode import SMALL_SIDE, Chosen, Default, Mode, random_crops
from descend.train.plan import DataProfile, Plan
from descend.train.task_builder import ModeTask, TaskBuilder
from descend.transfer import fingerprint, freeze


class FrozenBackbone(Mode):
    """What the modes share that train a head on a frozen backbone."""

    settings = Mode.settings | {"engine"}

    def default_backbone(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the one whose weights are installed."""
        del data, chosen
        return Default("lite0", "EfficientNet-Lite0 with ImageNet weights, installed with descend")

    def default_size(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the backbone's own size."""
        del data, chosen
        return Default(224, "the size the backbone was trained for")

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
    """Feature vectors extracted once, then a head."""

    name = "features"
    settings = FrozenBackbone.settings | {"views"}

    def suits(self, data: DataProfile) -> str | None:
        """Return the reason for photographs."""
        if data.side < SMALL_SIDE:
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

    def batch_size_for(self, data: DataProfile) -> int:
        """Return 64: a step on vectors is too short for less."""
        del data
        return 64

    def check_augment(self, augment: tuple[Augmentation, ...], chosen: Chosen) -> None:
        """Refuse augmentation without views, views without augmentation, and mixing."""
        super().check_augment(augment, chosen)
        moving = [item for item in augment if not isinstance(item, Normalize)]
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
        backbone = builder.classifier.backbone
        freeze(backbone)
        engine = builder.backbone_engine()
        features = builder.extract(engine, builder.train_rows, n_views=1 + builder.plan.views)
        source = FeatureSource(builder.batches, features, builder.places(builder.train_rows), builder.device)
        task = builder.task(builder.classifier.head, source)
        return ModeTask(task, builder.cached_inputs(engine), lambda: fingerprint(backbone), engine=engine)

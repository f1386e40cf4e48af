"""``head``: the frozen backbone runs on freshly augmented pictures in every epoch; only the head trains."""

from __future__ import annotations

from descend.train.batch_sources import ImageSource
from descend.train.modes.features import FrozenBackbone
from descend.train.modes.mode import SMALL_SIDE, Chosen, Default, varies_pictures
from descend.train.plan import DataProfile
from descend.train.recipe import Recipe
from descend.train.task_builder import ModeTask, TaskBuilder
from descend.transfer import fingerprint, freeze


class HeadOnly(FrozenBackbone):
    """A frozen backbone with a head of one's own."""

    name = "head"

    def suits(self, data: DataProfile, asked: Recipe) -> str | None:
        """Return the reason for photographs that are to be augmented."""
        if data.side < SMALL_SIDE or not varies_pictures(asked):
            return None
        return "augmentation was asked for: the head sees freshly augmented pictures; --views 4 is quicker where nothing is mixed"

    def default_epochs(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return few: each costs a pass of the backbone."""
        del data, chosen
        return Default(15, "each epoch runs the frozen backbone on freshly augmented pictures")

    def task(self, builder: TaskBuilder) -> ModeTask:
        """Return the head behind the frozen engine."""
        backbone = builder.classifier.backbone
        freeze(backbone)
        engine = builder.backbone_engine()
        pipeline = builder.pipeline(out="uint8")
        source = ImageSource(builder.batches, pipeline, builder.n_classes, builder.device, prefix=engine, world=builder.world)
        task = builder.task(builder.classifier.head, source)
        return ModeTask(task.module, builder.cached_inputs(engine), task, frozen=lambda: fingerprint(backbone), engine=engine)

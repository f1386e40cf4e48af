"""``scratch``: a network from random weights, all of it trained on augmented pictures."""

from __future__ import annotations

from torch import nn

from descend.errors import KnobError
from descend.models import Architecture, Classifier
from descend.technique import parse
from descend.train.batch_sources import ImageSource
from descend.train.modes.mode import SMALL_SIDE, Chosen, Default, Mode, mirroring, with_pretrained
from descend.train.plan import DataProfile, Plan
from descend.train.recipe import Recipe
from descend.train.task_builder import ModeTask, TaskBuilder


class Scratch(Mode):
    """No transfer at all."""

    name = "scratch"

    def suits(self, data: DataProfile, asked: Recipe) -> str | None:
        """Return the reason for small pictures."""
        del asked
        if data.side >= SMALL_SIDE:
            return None
        return f"the pictures are {data.side} px: too small for a backbone pretrained on photographs"

    def default_backbone(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return a network that fits the pictures' size."""
        del chosen
        if data.side <= 28:
            return Default("smallcnn", f"a small network for {data.side} px pictures")
        if data.side <= 96:
            return Default("resnet9(width=24)", f"nine layers, quick on {data.side} px pictures")
        return Default("lite0(pretrained=False)", "a mobile network: affordable on photographs without an accelerator")

    def default_size(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the pictures' own size where it is affordable."""
        del chosen
        if data.side <= 96:
            return Default(max(8, data.side), "the pictures' own size")
        return Default(128, "from scratch, larger pictures cost more time than they bring")

    def default_augment(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return small shifts."""
        mirror, why = mirroring(data)
        return Default((f"pad_crop(padding={max(1, chosen['size'] // 8)})", *mirror), f"small shifts; {why}")

    def default_optimizer(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return a rule with a decay for weights that nothing else holds."""
        del data, chosen
        return Default("adamw(lr=0.005, weight_decay=0.05)", "the default for training from scratch")

    def default_epochs(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return as many as make about 50,000 pictures, 12 to 40."""
        del chosen
        n = max(12, min(40, round(50_000 / max(1, data.n_train))))
        return Default(n, f"about {n * data.n_train:,} pictures seen in all")

    def default_norm(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return statistics of the batches."""
        del data, chosen
        return Default("train", "nothing is pretrained")

    def batch_size_for(self, data: DataProfile) -> int:
        """Return 64, or 128 for a large data set."""
        return 128 if data.n_train >= 4000 else 64

    def prepared(self, architecture: Architecture, asked: Recipe) -> Architecture:
        """Return the architecture with random weights; asking for pretrained ones is refused."""
        text = asked.backbone
        if text is not None and "(" in text and parse(text).settings.get("pretrained") is True:  # timm names may hold dots
            raise KnobError("backbone", "must begin from random weights with transfer='scratch'", got=text,
                            fix="Leave pretrained out, or use --transfer finetune.")  # fmt: skip
        return with_pretrained(architecture, False)

    def trained_modules(self, network: Classifier, plan: Plan) -> list[nn.Module]:
        """Return everything."""
        del plan
        return [network]

    def crop_margin(self, network: Classifier) -> float:
        """Return 1: a picture is seen whole."""
        del network
        return 1.0

    def task(self, builder: TaskBuilder) -> ModeTask:
        """Return the whole network on augmented images."""
        source = ImageSource(builder.batches, builder.pipeline(), builder.n_classes, builder.device, world=builder.world)
        task = builder.task(builder.classifier, source)
        return ModeTask(task.module, builder.image_inputs, task)

"""Fine-tuning: which stages stay frozen, how fast the others may move, and when they are let go.

Early stages hold edges and textures that serve any picture, late stages what was special to the old task; so early ones
are frozen or move slowly, and nothing moves before the new head has stopped sending noise backwards.
"""

from __future__ import annotations

from torch import nn

from descend.errors import KnobError
from descend.models.stages import Backbone, Classifier
from descend.regularize.norm import NormPolicy
from descend.transfer.freezing import freeze, thaw

CLASSIFIER = "classifier"  # the stage of the head's own parameters, beside the backbone's stages


def trainable_stages(backbone: Backbone, freeze_to: str | None) -> tuple[str, ...]:
    """Return the stages after ``freeze_to``; all of them for None. Raises ModelError for a stage it does not have."""
    if freeze_to is None:
        return backbone.stage_names
    frozen = len(backbone.prefix(freeze_to))
    return backbone.stage_names[frozen:]


def stage_rates(stage_names: tuple[str, ...], decay: float) -> dict[str, float]:
    """Return each stage's learning rate relative to the run's: the last 1, each earlier one ``decay`` times the next.

        rate(stage i of n) = decay ** (n - 1 - i)

    decay: in (0, 1]; 1 moves all alike. Raises KnobError.
    Source: discriminative fine-tuning, Howard & Ruder 2018, arXiv:1801.06146, section 3.2 (their decay: 1/2.6).
    """
    if not 0 < decay <= 1:
        raise KnobError("stage_rates", "decay must be in (0, 1]", got=decay)
    last = len(stage_names) - 1
    return {name: decay ** (last - i) for i, name in enumerate(stage_names)}


def stage_of(parameter: str) -> str:
    """Return the stage of a parameter of a ``Classifier`` by its name: ``backbone.stages.block3.0.weight`` -> ``block3``."""
    return parameter.split(".")[2] if parameter.startswith("backbone.stages.") else CLASSIFIER


class FineTuning:
    """The frozen and the moving part of one classifier.

    freeze_to: the last frozen stage; None freezes nothing for good.
    norm: what the batch norms of the moving stages do (those of frozen stages are constant).

    Everything but the head is frozen at first; ``thaw`` lets the moving stages go.
    """

    def __init__(self, classifier: Classifier, *, freeze_to: str | None, norm: NormPolicy) -> None:
        self.classifier, self.freeze_to = classifier, freeze_to
        self.norm: NormPolicy = norm
        self.stages = trainable_stages(classifier.backbone, freeze_to)
        for stage in classifier.backbone.stages:  # not the chain as a whole: a thawed stage must not hang below a held one
            freeze(stage)

    @property
    def frozen(self) -> nn.Sequential:
        """The stages that stay frozen for good; empty if there are none."""
        stages = self.classifier.backbone.stages
        return stages[: len(stages) - len(self.stages)]

    @property
    def moving(self) -> nn.Sequential:
        """The stages of the backbone that ``thaw`` lets go."""
        stages = self.classifier.backbone.stages
        return stages[len(stages) - len(self.stages) :]

    def thaw(self) -> None:
        """Let the moving stages go; build the optimizer's groups after this."""
        thaw(self.moving, self.norm)

    def rates(self, decay: float) -> dict[str, float]:
        """Return ``stage_rates`` of the moving stages that have something to train, the head's with them at 1."""
        backbone = self.classifier.backbone
        names = tuple(
            name for name in self.stages if any(p.requires_grad for p in backbone.stages.get_submodule(name).parameters())
        )
        return {**stage_rates(names, decay), CLASSIFIER: 1.0}

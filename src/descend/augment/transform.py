"""What every augmentation is: knobs, and a function from a random stream and factors to factors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from descend.augment.factors import Draws
from descend.augment.random_stream import RandomStream
from descend.augment.selection import selected
from descend.technique import Technique

Stage = Literal["neighborhood", "geometry", "tone", "color", "erase", "mix", "normalize"]


class Augmentation(Technique, family="augmentation"):
    """One transform: its knobs say how strong it is, its ``draw`` appends what it drew to the factors of the batch.

    Stages run in a fixed order whatever the order of the list: neighborhood, geometry, tone, color (one clamp), erase, mix,
    normalize. Within a stage the order of the list holds. A transform has the knob ``p``, the probability with which an image is
    transformed at all, unless it sets the size or the constants of the whole batch.
    """

    stage: ClassVar[Stage]
    batch_wide: ClassVar[bool] = False  # whether it holds for the whole batch, so that images cannot differ in it
    neutral: ClassVar[Mapping[str, Any] | str]  # knobs that leave every image as it is, to the bit; or why there are none

    @property
    def stages(self) -> frozenset[Stage]:
        """The stages that the transform has a part in."""
        return frozenset({self.stage})

    @abstractmethod
    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Return ``draws`` with this transform's factors appended for every image, and its parameters noted."""

    def draw_stage(self, stage: Stage, stream: RandomStream, draws: Draws) -> Draws:
        """Return ``draws`` with what the transform does in ``stage``, for the images that its ``p`` picks; else as they are."""
        if stage != self.stage:
            return draws
        p = getattr(self, "p", 1.0)
        drawn = self.draw(stream, draws)
        return drawn if p == 1 else selected(draws, [(drawn, stream.coin(p))])

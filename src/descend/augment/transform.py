"""What every augmentation is: knobs, and a function from a random stream and factors to factors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from descend.augment.factors import Draws, RandomStream
from descend.technique import Technique

Stage = Literal["neighborhood", "geometry", "tone", "color", "erase", "mix", "normalize"]


class Augmentation(Technique, family="augmentation"):
    """One transform: its knobs say how strong it is, its ``draw`` appends what it drew to the factors of the batch.

    Stages run in a fixed order whatever the order of the list: neighborhood, geometry, tone, color (one clamp), erase, mix,
    normalize. Within a stage the order of the list holds.
    """

    stage: ClassVar[Stage]
    neutral: ClassVar[Mapping[str, Any] | str]  # knobs that leave every image as it is, to the bit; or why there are none

    @abstractmethod
    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Return ``draws`` with this transform's factors appended and its parameters noted."""

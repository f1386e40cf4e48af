"""What a backbone is before it is built: a technique with knobs."""

from __future__ import annotations

from abc import abstractmethod

from descend.models.stages import Backbone
from descend.technique import Technique


class Architecture(Technique, family="backbone"):
    """A network that turns pictures into feature vectors; ``build`` makes one with its weights."""

    @abstractmethod
    def build(self, seed: int) -> Backbone:
        """Return a new backbone; random weights are a function of ``seed``. Raises ModelError."""

    @property
    def native_size(self) -> int | None:
        """The side, in pixels, of the pictures that its pretrained weights were trained for; None where there are none."""
        return None

    @property
    def fixed_size(self) -> bool:
        """Whether it reads pictures of ``native_size`` only, as vision transformers do."""
        return False

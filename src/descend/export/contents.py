"""What an exported file holds, whatever its format: the network up to its probabilities, and what must be known beside."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend.data.decode import decode_resized
from descend.errors import ModelError
from descend.models.ensemble import Ensemble
from descend.models.stages import Classifier, to_input
from descend.pixels import PixelPolicy


class Probabilities(nn.Module):
    """The classifier between the crop and the answer: levels (B, 3, S, S) float32 -> probabilities (B, K) float32."""

    def __init__(self, classifier: Classifier | Ensemble, temperature: float) -> None:
        super().__init__()
        self.classifier, self.temperature = copy.deepcopy(classifier).cpu().eval(), temperature

    def forward(self, levels: Tensor) -> Tensor:
        """Normalize, classify, divide by the temperature, take the softmax."""
        network = self.classifier
        logits = network(to_input(levels.permute(0, 2, 3, 1), network.mean, network.std))
        return (logits / self.temperature).softmax(1)


@dataclass(frozen=True)
class Contents:
    """What is exported. size: S, pixels of the network's input. resolution: R >= S, the side of the square before the crop."""

    network: Probabilities
    size: int
    resolution: int
    classes: Sequence[str]
    policy: PixelPolicy

    def __post_init__(self) -> None:
        """Refuse a crop larger than its square."""
        if self.resolution < self.size:
            raise ModelError("export", f"resolution must be at least the size of {self.size} px", got=self.resolution)

    def square(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize a picture (H, W, 3) as the decode policy does: (R, R, 3) uint8."""
        return decode_resized(picture, self.resolution, policy=self.policy)

    def levels(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the center of squares (B, R, R, 3) as the network reads it: (B, 3, S, S)."""
        margin = (squares.shape[1] - self.size) // 2
        centre = slice(margin, margin + self.size)
        return np.ascontiguousarray(squares[:, centre, centre].transpose(0, 3, 1, 2)).astype(np.float32)

    def metadata(self) -> dict[str, str]:
        """Return what stands beside the graph in every format, as text; see ``docs/how-to/export.md``."""
        policy = self.policy
        return {
            "classes": json.dumps(list(self.classes)), "made_by": "descend", "scale": json.dumps(policy.scale),
            "background": policy.background, "fit": policy.fit,
        }  # fmt: skip

    def answers(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer squares (B, R, R, 3) uint8 as the network does: (B, K) probabilities."""
        with torch.inference_mode():
            return self.network(torch.from_numpy(self.levels(images))).numpy()

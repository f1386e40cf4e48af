"""What a trained network answers, whatever computed it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class InferenceResult:
    """The answers to n pictures: probabilities (n, K) float32, and, where each was asked more than once, two entropies.

    entropy: (n,) float32, nats, of the averaged probabilities: all the doubt there is. mutual_information: (n,) float32, nats:
    the part of it that comes from the passes (views, masks) disagreeing. Both are None after a single pass.
    """

    probabilities: Floats
    entropy: Floats | None = None
    mutual_information: Floats | None = None

    @classmethod
    def joined(cls, parts: list[InferenceResult]) -> InferenceResult:
        """Return the answers of several batches as one."""
        rows = np.concatenate([part.probabilities for part in parts])
        entropies = [part.entropy for part in parts if part.entropy is not None]
        shared = [part.mutual_information for part in parts if part.mutual_information is not None]
        return cls(rows, np.concatenate(entropies), np.concatenate(shared)) if entropies else cls(rows)

"""The engine that is always there: torch itself, with batch norms folded, channels last and small chunks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from descend.transfer.engine import Compute, Engine
from descend.transfer.folding import folded


class TorchEngine(Engine):
    """torch eager, in inference form. Slower than the others; prefer it where bits must match across machines' runs."""

    name = "torch"

    @classmethod
    def version(cls) -> str:
        """Return torch's version."""
        return torch.__version__

    @property
    def key(self) -> str:
        """Like every engine's, with the thread count: torch splits its sums by threads."""
        return f"{super().key}-t{self.threads}"

    def _start(self) -> Compute:
        size = self.prefix.size
        # written as numbers, not zeros: a norm folded wrongly must show
        example = (torch.arange(size * size * 3) % 251).to(torch.uint8).reshape(1, size, size, 3)
        module = folded(self.prefix, example)
        module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stub)

        def compute(chunks: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
            with torch.inference_mode():
                return [module(torch.from_numpy(chunk)).contiguous().numpy() for chunk in chunks]

        return compute

"""An engine computes the frozen part of a network: uint8 pictures in, float32 features out, the same way every time.

Whatever runs underneath, the contract is one: pictures are computed in chunks of one fixed size (the last one is padded),
because libraries pick other kernels for other batch sizes and the last bits differ. With the chunk fixed, what a picture
gets depends neither on its companions nor on its place among them.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend.errors import ModelError
from descend.files import CacheFolder
from descend.models.stages import Backbone, fingerprint, run_stages, seen, to_input

Compute = Callable[[Sequence[NDArray[np.uint8]]], Sequence[NDArray[np.float32]]]


class FrozenPrefix(nn.Module):
    """The first stages of a backbone, copied and fixed, with the normalization of pixels in front.

    ``forward``: images (B, S, S, 3) uint8 -> pooled features (B, D) or, cut earlier, a map (B, C, H, W), float32.
    size: S, pixels. stage: the last stage inside; None means all of them. taps: stages whose pooled outputs stand before the
    pooled features (``run_stages``); only where all stages are inside. Raises ModelError.
    """

    def __init__(self, backbone: Backbone, *, size: int, stage: str | None = None, taps: Sequence[str] = ()) -> None:
        super().__init__()
        backbone.check_size(size)
        self.stage = stage or backbone.stage_names[-1]
        self.backbone, self.size, self.taps = backbone.name, size, tuple(taps)
        self.mean, self.std = backbone.mean, backbone.std
        self.view: Tensor | None
        self.register_buffer("view", backbone.view, persistent=False)
        self.stages = copy.deepcopy(backbone.prefix(self.stage)).cpu().eval().requires_grad_(False)
        self.weights_id = fingerprint(self.stages)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features: images (B, S, S, 3) uint8 -> (B, D) or (B, C, H, W) float32."""
        return run_stages(self.stages, seen(to_input(images, self.mean, self.std), self.view), self.taps)

    @property
    def seen_size(self) -> int:
        """The side of the pictures that the first stage reads, pixels."""
        return self.size if self.view is None else len(self.view)

    @property
    def key(self) -> str:
        """What decides the features, apart from the engine: network, cut, size, weights, and the package that its code is of."""
        taps = "+".join((*self.taps, self.stage))
        size = self.size if self.view is None else f"{self.seen_size} of {self.size}, by bands"
        return f"{self.backbone}|{taps}|{size}|{self.mean}|{self.std}|{self.weights_id}|timm {version('timm')}"


@dataclass(frozen=True)
class Chunk:
    """How many pictures are computed at once; small, so that what passes between layers stays in the processor's cache.

    Measured with Lite0 at 224 px on 2 cores, folded torch: 63 pictures/s by ones, 90 by fours, 72 by sixteens, 54 by 32s.
    Runtimes that read a graph lose nothing by ones (OpenVINO by ones, twos, fours: 178, 182, 168; in bfloat16 394, 391, 382;
    ONNX Runtime 91, 108, 82), and a picture alone is answered in 8 ms there instead of 53, since nothing is padded.
    """

    area: int = 4 * 224 * 224
    most: int = 64

    def at(self, size: int) -> int:
        """Return the number of pictures of ``size`` x ``size`` pixels in one chunk."""
        return max(1, min(self.most, self.area // (size * size)))


class Engine(ABC):
    """A frozen prefix on one runtime: call it with pictures. Starting the runtime waits for the first call.

    cache: the folder for what it keeps on disk (exported graphs); None for the user's.

    It uses as many threads as torch does in this process (``torch.set_num_threads``) when it is made.
    """

    name: ClassVar[str]
    precision: ClassVar[str] = "f32"  # of its sums and maps
    chunks: ClassVar[Chunk] = Chunk()

    def __init__(self, prefix: FrozenPrefix, cache: CacheFolder | None = None) -> None:
        self.prefix = prefix
        self.cache = cache or CacheFolder()
        self.threads = torch.get_num_threads()
        self.chunk = self.chunks.at(prefix.seen_size)
        self.images_per_s: float | None = None  # set by ``choose``, which measures
        self._compute: Compute | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_compute": None}  # a runtime that has started cannot be pickled: it starts anew

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the version of the runtime; raises MissingExtra if it is not installed."""

    @abstractmethod
    def _start(self) -> Compute:
        """Start the runtime and return what maps chunks (chunk, S, S, 3) uint8 to their features, in order."""

    @property
    def key(self) -> str:
        """What decides the last bits of the features, apart from the prefix: runtime, version, precision, chunk."""
        return f"{self.name}-{self.version()}-{self.precision}-c{self.chunk}"

    @property
    def started(self) -> bool:
        """Whether the first call waits for nothing."""
        return self._compute is not None

    def start(self) -> None:
        """Start the runtime now, to keep the first call from paying for it."""
        if self._compute is None:
            self._compute = self._start()

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features: images (B, S, S, 3) uint8 -> (B, D) or (B, C, H, W) float32, B >= 1. Raises ModelError."""
        size = self.prefix.size
        if images.ndim != 4 or images.shape[1:] != (size, size, 3) or images.dtype != np.uint8 or not len(images):
            raise ModelError(f"engine {self.name}", f"images must be (B, {size}, {size}, 3) uint8 with B >= 1",
                             got=(images.shape, str(images.dtype)))  # fmt: skip
        self.start()
        assert self._compute is not None  # start() sets it
        return np.concatenate(self._compute(self._chunks(images)))[: len(images)]

    def _chunks(self, images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        chunks = [np.ascontiguousarray(images[i : i + self.chunk]) for i in range(0, len(images), self.chunk)]
        missing = self.chunk - len(chunks[-1])
        if missing:
            chunks[-1] = np.concatenate([chunks[-1], np.zeros((missing, *images.shape[1:]), np.uint8)])
        return chunks

"""A program of torch (``torch.export``, .pt2): squares of pixels in, probabilities out; torch alone loads it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from descend.errors import ModelError
from descend.export.agreement import Answers
from descend.export.contents import Contents, Probabilities


class _OfSquares(nn.Module):
    """Squares (B, R, R, 3) uint8 -> the center -> probabilities (B, K) float32."""

    def __init__(self, network: Probabilities, size: int, resolution: int) -> None:
        super().__init__()
        self.network, self.size, self.margin = network, size, (resolution - size) // 2

    def forward(self, images: Tensor) -> Tensor:
        centre = slice(self.margin, self.margin + self.size)
        return self.network(images[:, centre, centre].permute(0, 3, 1, 2).float())


def write(contents: Contents, path: Path) -> None:
    """Write the program for any number of squares, with the metadata as extra files. Raises ModelError."""
    side = contents.resolution
    module = _OfSquares(contents.network, contents.size, side).eval()
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    metadata = contents.metadata() | {"resolution": str(side), "size": str(contents.size)}
    try:
        with torch.no_grad():
            program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        with _quiet():
            torch.export.save(program, path, extra_files=metadata)
    except OSError:
        raise
    except Exception as error:
        raise ModelError(contents.network.classifier.name, f"torch must be able to export it ({type(error).__name__})",
                         fix="Use --format onnx.") from error  # fmt: skip


def answers(path: Path) -> Answers:
    """Return what the program answers to squares (B, R, R, 3) uint8."""
    with _quiet():
        module = torch.export.load(path).module()
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own warnings on weights that share storage: the file is checked by its answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield

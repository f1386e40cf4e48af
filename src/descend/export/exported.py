"""A file that anybody can run takes its name when it has answered as the network does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import tee
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from descend.errors import ModelError
from descend.export import onnx_file, openvino_file, torch_file
from descend.export.agreement import AgreementReport, Answers, compared
from descend.export.contents import Contents, Probabilities
from descend.files import replacing
from descend.models.ensemble import Ensemble
from descend.models.stages import Classifier
from descend.pixels import USUAL, PixelPolicy

Format = Literal["onnx", "torch", "openvino"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2", "openvino": ".xml"}


def export_file(classifier: Classifier | Ensemble, path: Path, *, size: int, resolution: int, classes: Sequence[str],
                check_images: Iterable[NDArray[np.uint8]], policy: PixelPolicy = USUAL, temperature: float = 1.0,
                format: Format = "onnx") -> AgreementReport:  # fmt: skip
    """Write ``classifier`` to ``path``, softmax included, and return how well the file agrees.

    It maps ``images`` (B, H, W, 3) uint8, RGB, any H and W, to ``probabilities`` (B, K) float32; its metadata hold
    the class names as JSON. A program of torch takes squares of R pixels alone: it does not resize. size: S, pixels of the
    network's input; resolution: R >= S, the side of the square before the crop. check_images: real pictures, each (H, W, 3) uint8
    in its own size. policy: how pixels became those levels, for the metadata (``scale``, ``background``), because whoever shows
    the file deep or transparent pictures must do the same; and how a picture becomes square (``fit``), which the file does
    itself. temperature: that logits are divided by, in the file too. format: openvino writes a second file, .bin, beside it.
    Raises ModelError, and writes nothing, where the file would not agree with torch (see ``agreement``) or cannot be made.
    """
    contents = Contents(Probabilities(classifier, temperature), size, resolution, classes, policy)
    with writing(path), _written(contents, path, format) as file:
        pictures, again = tee(check_images)  # one at a time: a validation split need not fit into memory
        resized = map(contents.square, again)
        report = compared(pictures, resized, file=file, network=contents.answers, resizes=format != "torch")
        if not report.agrees:
            raise ModelError("export", f"the file must agree with torch ({report})", fix="Please report this backbone.")
    return report


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file, and tell in words what the disk does not take."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ModelError("export", f"{path} must be writable ({error.strerror or error})",
                         fix="Free some space or choose another --out.") from error  # fmt: skip


@contextmanager
def _written(contents: Contents, path: Path, format: Format) -> Iterator[Answers]:
    """Write the file under a hidden name, yield what it answers, and let it take its name when the block ends well."""
    with replacing(path) as unchecked:
        if format == "openvino":
            with replacing(path.with_suffix(".bin")) as weights:
                openvino_file.write(contents, unchecked, weights)
                yield openvino_file.answers(unchecked, weights)
        else:
            writer = torch_file if format == "torch" else onnx_file
            writer.write(contents, unchecked)
            yield writer.answers(unchecked)

"""An ONNX file whose convolutions and matrix products compute in whole numbers of 8 bits, and what that costs in accuracy.

    q = round(x / scale) + zero,   scale and zero from the smallest and the largest x of each tensor, of weights of each channel

The ranges of what passes between layers are those of training pictures (calibration). Preprocessing and softmax stay in float32.

Source: Jacob et al. 2018, arXiv:1712.05877, sections 2 and 3; through ``onnxruntime.quantization``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from descend.errors import DataError, ModelError
from descend.export.contents import Contents, Probabilities
from descend.export.exported import writing
from descend.export.onnx_file import LEVELS, answers, network_graph, with_preprocessing
from descend.files import replacing
from descend.models.ensemble import Ensemble
from descend.models.stages import Classifier
from descend.pixels import USUAL, PixelPolicy
from descend.quantities import size_in_words
from descend.stats import Difference, difference

MAX_LOSS = 0.01  # share of the pictures
N_CALIBRATION = 200  # pictures: ranges are extremes, which more pictures hardly move
ROUNDING = 1e-9  # of a share, far below one picture's
QUANTIZED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class QuantizedReport:
    """What 8 bits cost on labeled pictures. before, after: (n,) bool, which answers are right; n_changed: other answers.

    learned: whether the model has learned from these pictures, of which it then knows more than of new ones.
    """

    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    n_changed: int
    n_bytes: int
    n_bytes_before: int
    learned: bool = False

    @property
    def loss(self) -> float:
        """The loss of accuracy, a share of the pictures."""
        return (int(self.before.sum()) - int(self.after.sum())) / len(self.before)

    @cached_property
    def known(self) -> Difference:
        """The loss with its 95% interval over further pictures (McNemar, two networks on the same pictures)."""
        return difference(self.before[None].astype(float), self.after[None].astype(float))

    def __str__(self) -> str:
        low, high = (100 * end for end in (self.known.interval.low, self.known.interval.high))
        points, what = 100 * self.loss, "lost"
        if self.loss < 0:
            points, low, high, what = -points, -high, -low, "gained"
        whose = "pictures that the model has learned from, so new ones may lose more" if self.learned else "validation pictures"
        return (
            f"INT8: accuracy {self.before.mean():.2%} -> {self.after.mean():.2%} of {len(self.before):,} {whose}: "
            f"{points:.2f} points {what} (95% interval {low:.1f} to {high:.1f}), {self.n_changed} answers changed; "
            f"{size_in_words(self.n_bytes_before)} -> {size_in_words(self.n_bytes)}"
        )


def export_int8(
    classifier: Classifier | Ensemble, path: Path, *, size: int, resolution: int, classes: Sequence[str],
    calibration: Iterable[NDArray[np.uint8]], pictures: Iterable[tuple[NDArray[np.uint8], int]], policy: PixelPolicy = USUAL,
    temperature: float = 1.0, max_loss: float = MAX_LOSS, learned: bool = False,
) -> QuantizedReport:  # fmt: skip
    """Write ``classifier`` as an ONNX file that computes in 8 bits, and return what that costs.

    calibration: training pictures, (H, W, 3) uint8 each. pictures: those that the loss is measured on, each with the column of
    its class; learned: whether the model has learned from them. max_loss: the largest loss of accuracy at which the file is
    written, a share of the pictures. The rest as in ``export_file``. Raises ModelError, and writes nothing, above it; DataError
    without pictures.
    """
    contents = Contents(Probabilities(classifier, temperature), size, resolution, classes, policy)
    with writing(path), replacing(path) as unchecked:
        core = network_graph(contents)
        n_bytes_before = core.ByteSize()
        whole = with_preprocessing(_quantized(core, map(contents.square, calibration), contents), contents)
        onnx.helper.set_model_props(whole, contents.metadata() | {"quantized": "int8"})
        onnx.save(whole, unchecked)
        report = dataclasses.replace(_measured(contents, unchecked, pictures, n_bytes_before), learned=learned)
        if report.loss > max_loss + ROUNDING:
            raise ModelError("export", f"INT8 may cost {100 * max_loss:g} points of accuracy at most ({report})",
                             fix=f"Accept it with --max-loss {report.loss + 0.0005:.3f}, or leave --int8 out.")  # fmt: skip
    return report


def _measured(
    contents: Contents, path: Path, pictures: Iterable[tuple[NDArray[np.uint8], int]], n_bytes_before: int
) -> QuantizedReport:
    """Ask the network, and the file, which resizes by itself, about every picture."""
    now = answers(path)
    rows = [
        (label, contents.answers(contents.square(picture)[None])[0].argmax(), now(picture[None])[0].argmax())
        for picture, label in pictures
    ]
    if not rows:
        raise DataError("export", "needs labeled pictures to measure on what INT8 costs")
    labels, before, after = (np.array(column) for column in zip(*rows, strict=True))
    return QuantizedReport(before == labels, after == labels, int((before != after).sum()), path.stat().st_size, n_bytes_before)


def _quantized(core: onnx.ModelProto, squares: Iterable[NDArray[np.uint8]], contents: Contents) -> onnx.ModelProto:
    """Return the graph of the network with weights and inputs of its products in 8 bits, by the ranges on squares."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        """Hands over one picture after another."""

        def __init__(self) -> None:
            self._squares = iter(squares)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:  # pyright: ignore[reportIncompatibleMethodOverride] (None ends it)
            """Return the next input, or None after the last."""
            square = next(self._squares, None)
            return None if square is None else {LEVELS: contents.levels(square[None])}

    with TemporaryDirectory() as folder, _quiet():
        place = Path(folder) / "int8.onnx"
        quantize_static(
            core, place, Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=[*QUANTIZED], per_channel=True
        )  # fmt: skip
        quantized = onnx.load(place)
    own = [item for item in quantized.opset_import if item.domain == ""]
    del quantized.opset_import[:]
    quantized.opset_import.extend(own)  # it names a domain of onnxruntime's that QDQ has no use for
    return quantized


@contextmanager
def _quiet() -> Iterator[None]:
    """Without advice of onnxruntime to prepare the graph: batch norms are folded into convolutions already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

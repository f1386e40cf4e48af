"""One file that anybody can run: pixels in, probabilities out, the class names inside."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from itertools import tee
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend.data.decode import decode_resized
from descend.errors import ModelError
from descend.export.agreement import AgreementReport, Answers, compared
from descend.export.preprocessing import CROPPED, IMAGES, preprocessing
from descend.files import replacing
from descend.models.ensemble import Ensemble
from descend.models.stages import Classifier, to_input
from descend.pixels import USUAL, PixelPolicy
from descend.transfer.graph import exported

LEVELS, PROBABILITIES = "levels", "probabilities"


class _Probabilities(nn.Module):
    """The classifier between the crop and the answer: levels (B, 3, S, S) float32 -> probabilities (B, K) float32."""

    def __init__(self, classifier: Classifier | Ensemble, temperature: float) -> None:
        super().__init__()
        self.classifier, self.temperature = copy.deepcopy(classifier).cpu().eval(), temperature

    def forward(self, levels: Tensor) -> Tensor:
        network = self.classifier
        logits = network(to_input(levels.permute(0, 2, 3, 1), network.mean, network.std))
        return (logits / self.temperature).softmax(1)


def export_onnx(classifier: Classifier | Ensemble, path: Path, *, size: int, resolution: int, classes: Sequence[str],
                check_images: Iterable[NDArray[np.uint8]], policy: PixelPolicy = USUAL, temperature: float = 1.0
                ) -> AgreementReport:  # fmt: skip
    """Write ``classifier`` to ``path`` as ONNX, preprocessing and softmax included, and return how well it agrees.

    The file maps ``images`` (B, H, W, 3) uint8, RGB, any H and W, to ``probabilities`` (B, K) float32; its metadata hold
    the class names as JSON. size: S, pixels of the network's input; resolution: R >= S, the side of the square before the crop.
    check_images: real pictures, each (H, W, 3) uint8 in its own size. policy: how pixels became those levels, for the metadata
    (``scale``, ``background``), because whoever shows the file deep or transparent pictures must do the same; and how a picture
    becomes square (``fit``), which the file does itself. temperature: that logits are divided by, in the file too.
    Raises ModelError, and writes nothing, where the file would not agree with torch (see ``agreement``) or cannot be made.
    """
    if resolution < size:
        raise ModelError("export", f"resolution must be at least the size of {size} px", got=resolution)
    network = _Probabilities(classifier, temperature)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unchecked:
            _write(network, unchecked, size=size, resolution=resolution, classes=classes, policy=policy)
            pictures, again = tee(check_images)  # one at a time: a validation split need not fit into memory
            resized = (decode_resized(picture, resolution, policy=policy) for picture in again)
            report = compared(pictures, resized, file=_file_answers(unchecked), network=_network_answers(network, size))
            if not report.agrees:
                raise ModelError("export", f"the file must agree with torch ({report})", fix="Please report this backbone.")
    except OSError as error:
        raise ModelError("export", f"{path} must be writable ({error.strerror or error})",
                         fix="Free some space or choose another --out.") from error  # fmt: skip
    return report


def _write(
    network: _Probabilities, path: Path, *, size: int, resolution: int, classes: Sequence[str], policy: PixelPolicy
) -> None:
    example = torch.zeros(2, 3, size, size)
    graph = exported(network, example, inputs=LEVELS, output=PROBABILITIES, who=network.classifier.name, free_batch=True)
    core = onnx.load_from_string(graph)
    opset = next(item.version for item in core.opset_import if item.domain == "")
    before = preprocessing(resolution=resolution, size=size, policy=policy, opset=opset, ir_version=core.ir_version)
    whole = onnx.compose.merge_models(before, core, io_map=[(CROPPED, LEVELS)], prefix1="pre/")
    _rename(whole, f"pre/{IMAGES}", IMAGES)
    pixels = {"scale": json.dumps(policy.scale), "background": policy.background, "fit": policy.fit}
    onnx.helper.set_model_props(whole, {"classes": json.dumps(list(classes)), "made_by": "descend", **pixels})
    onnx.checker.check_model(whole)
    onnx.save(whole, path)


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Give an input of the graph another name, wherever it is read."""
    for value in model.graph.input:
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _file_answers(path: Path) -> Answers:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([PROBABILITIES], {IMAGES: images})[0])


def _network_answers(network: _Probabilities, size: int) -> Answers:
    def answers(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        margin = (images.shape[1] - size) // 2
        cropped = images[:, margin : margin + size, margin : margin + size]
        with torch.inference_mode():
            return network(torch.from_numpy(cropped.transpose(0, 3, 1, 2).astype(np.float32))).numpy()

    return answers

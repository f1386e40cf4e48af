"""One ONNX file that anybody can run: pixels in, probabilities out, the class names inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
from torch import nn

from descend.export.agreement import Answers
from descend.export.contents import Contents
from descend.export.preprocessing import CROPPED, IMAGES, preprocessing
from descend.transfer.graph import whole_graph

LEVELS, PROBABILITIES = "levels", "probabilities"


def write(contents: Contents, path: Path) -> None:
    """Write the file: preprocessing and softmax in the graph, all sizes of its input free."""
    onnx.save(with_preprocessing(network_graph(contents), contents), path)


def network_graph(contents: Contents) -> onnx.ModelProto:
    """Return the graph from ``levels`` (B, 3, S, S) float32 to ``probabilities`` (B, K) float32."""
    network = contents.network
    with _out_of_place(network):
        graph = whole_graph(network, size=contents.size, inputs=LEVELS, output=PROBABILITIES, who=network.classifier.name)
    return onnx.load_from_string(graph)


@contextmanager
def _out_of_place(network: nn.Module) -> Iterator[None]:
    """Let activations write where they do not read: the graph is the same, and is made in less time.

    torch takes what works in place apart into its smallest pieces, with a proof for each that its free size fits.
    """
    in_place = [module for module in network.modules() if getattr(module, "inplace", False) is True]
    for module in in_place:
        vars(module)["inplace"] = False
    try:
        yield
    finally:
        for module in in_place:
            vars(module)["inplace"] = True


def with_preprocessing(core: onnx.ModelProto, contents: Contents) -> onnx.ModelProto:
    """Return a graph of the network with that of resize and crop before it, and the metadata."""
    opset = next(item.version for item in core.opset_import if item.domain == "")
    before = preprocessing(
        resolution=contents.resolution, size=contents.size, policy=contents.policy, opset=opset, ir_version=core.ir_version
    )
    whole = onnx.compose.merge_models(before, core, io_map=[(CROPPED, LEVELS)], prefix1="pre/")
    _rename(whole, f"pre/{IMAGES}", IMAGES)
    onnx.helper.set_model_props(whole, contents.metadata())
    onnx.checker.check_model(whole)
    return whole


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Give an input of the graph another name, wherever it is read."""
    for value in model.graph.input:
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def answers(path: Path) -> Answers:
    """Return what the file answers to pixels (B, H, W, 3) uint8."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([PROBABILITIES], {IMAGES: images})[0])

"""The graphs that quick answers are made from, written when a run is judged and held to torch on some of its pictures.

The graph of each network up to its head is kept with its batch size free, so that ``descend predict`` needs neither torch nor the
network to answer. Engines that read a graph have left it in the cache; for others it is written here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from descend.models import Classifier, Ensemble
from descend.train.evaluate import probabilities
from descend.train.graph_inference import KIND, SEALED, GraphInference, session_of
from descend.train.inference import as_trained
from descend.train.record import RunRecord
from descend.train.record_types import GraphPart
from descend.transfer import Engine
from descend.transfer.graph import quick_graph

AGREEMENT = 1e-4  # largest difference of a probability from torch's
N_CHECKED = 3  # pictures


@dataclass(frozen=True)
class Network:
    """A network of a run. head: the name of its head among the tensors of the run's model. weight: of its probabilities."""

    classifier: Classifier
    engine: Engine
    head: str
    mirrored: bool = False
    weight: float = 1.0


def keep_graphs(record: RunRecord, networks: Sequence[Network], whole: Classifier | Ensemble, images: NDArray[np.uint8]) -> None:
    """Write the graphs of a run's networks into the cache and their names into its record, where they answer as torch does.

    whole: the network that the run saves. images: (n, R, R, 3) uint8, some of its stored pictures; the first few are asked about.
    Nothing is written where a network's graph cannot be written in a moment, or its head is not one linear layer.
    """
    record.graph_parts = []
    if not len(images) or not all(map(_is_simple, networks)):
        return
    graphs = [quick_graph(network.engine) for network in networks]
    written = [graph for graph in graphs if graph is not None]
    if len(written) < len(networks):
        return
    contents = [_free_batch(graph, network.engine.chunk) for graph, network in zip(written, networks, strict=True)]
    keys = [hashlib.blake2b(content, digest_size=16).hexdigest() for content in contents]
    parts = [
        GraphPart(graph=key, head=network.head, n_columns=network.classifier.backbone.n_features, mirrored=network.mirrored,
                  weight=network.weight)
        for key, network in zip(keys, networks, strict=True)
    ]  # fmt: skip
    heads = [_weights(network.classifier.head) for network in networks]
    if not _agree(record, parts, heads, contents, whole, images[:N_CHECKED]):
        return
    for network, key, content in zip(networks, keys, contents, strict=True):
        cache = network.engine.cache
        cache.store(cache.entry_path(KIND, key, SEALED), content)
    record.graph_parts = parts


def _is_simple(network: Network) -> bool:
    prefix, backbone = network.engine.prefix, network.classifier.backbone
    is_whole = prefix.stage == backbone.stage_names[-1]
    return is_whole and type(network.classifier.head) is nn.Linear


def _weights(head: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    assert isinstance(head, nn.Linear)  # _is_simple has looked
    return head.weight.detach().numpy(force=True), head.bias.detach().numpy(force=True)


def _agree(
    record: RunRecord,
    parts: Sequence[GraphPart],
    heads: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    contents: Sequence[bytes],
    whole: Classifier | Ensemble,
    images: NDArray[np.uint8],
) -> bool:
    """Return whether graphs answer as torch does about pictures (n, R, R, 3), and always alike, alone or not."""
    try:
        quick = GraphInference(record, parts, heads, [session_of(content) for content in contents])
        answers = quick(images).probabilities
    except Exception:  # a graph whose batch size cannot be freed; torch answers then, as it did before there were graphs
        return False
    inputs: Tensor = as_trained(record)(images, ids=np.arange(len(images)), epoch=0)
    inputs = inputs.to(next(whole.parameters()).device)  # where it has been trained
    expected = record.calibrated(probabilities(whole, [inputs], alone=True))  # a padded chunk of small pictures is 64
    return bool(np.abs(answers - expected).max() <= AGREEMENT)


def _free_batch(content: bytes, chunk: int) -> bytes:
    """Return a graph that was exported for chunks of one size with its batch size free."""
    import onnx

    model = onnx.load_from_string(content)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in [*model.graph.node]:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = constants[node.input[1]]
        sides = onnx.numpy_helper.to_array(shape)
        if sides.size > 1 and sides[0] == chunk:
            shape.CopyFrom(onnx.numpy_helper.from_array(np.array([-1, *sides[1:]], np.int64), shape.name))
            for needless in _flattening(makers, constants, node.input[0]):
                node.input[0] = needless.input[0]
                model.graph.node.remove(needless)
    return model.SerializeToString()


def _flattening(makers: dict[str, Any], constants: dict[str, Any], name: str) -> list[Any]:
    """Return the nodes before a reshape that flatten by places, as the exporter writes the end of a pooled network, or none.

    One makes a row of all values, the other gathers each from its own place.
    """
    import onnx

    gather = makers.get(name)
    if gather is None or gather.op_type != "Gather" or gather.input[1] not in constants:
        return []
    places, row = onnx.numpy_helper.to_array(constants[gather.input[1]]), makers.get(gather.input[0])
    if row is None or row.op_type != "Reshape" or (places.ravel() != np.arange(places.size)).any():
        return []
    return [gather, row]

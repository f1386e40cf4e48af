"""Answers without torch: the graphs that were exported for the frozen part of a run, on ONNX Runtime, and the head in NumPy.

Importing torch and building the network takes seconds; this starts in a fraction of one, and a picture alone is computed alone,
where the engines of training pad it to a chunk. Answers agree with torch's as was checked when the run was judged
(``train.graph_parts``); they are not those of the training to the last bit.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from descend.files import CacheFolder
from descend.train import folder
from descend.train.calibration import calibrated
from descend.train.inference_result import InferenceResult
from descend.train.record import RunRecord
from descend.train.record_types import GraphPart

KIND, SEALED = "graphs", ".sealed"
Floats = NDArray[np.float32]


class GraphInference:
    """Asks graphs about stored pictures, as the record of the run says they must be prepared.

    parts: one for each network, at the same place as its head. heads: (weight (K, D), bias (K,)). sessions: of ONNX Runtime.
    """

    def __init__(
        self, record: RunRecord, parts: Sequence[GraphPart], heads: Sequence[tuple[Floats, Floats]], sessions: Sequence[Any]
    ) -> None:
        prepared = record.preparation()
        self.margin, self.size = (prepared["resolution"] - prepared["size"]) // 2, prepared["size"]
        self.parts, self.heads, self.sessions = parts, heads, sessions
        self.temperature = record.temperature

    def __call__(self, images: NDArray[np.uint8]) -> InferenceResult:
        """Answer: images (B, R, R, 3) uint8, stored as in training. Each is computed alone, so its answer has no companions."""
        crop = slice(self.margin, self.margin + self.size)
        views = [np.ascontiguousarray(image[None, crop, crop]) for image in images]
        return InferenceResult(calibrated(np.stack([self._one(view) for view in views]), self.temperature))

    def _one(self, view: NDArray[np.uint8]) -> Floats:
        """Return the probabilities (K,) of one picture (1, S, S, 3): the weighted mean over networks and mirror images."""
        total = 0.0
        for part, head, session in zip(self.parts, self.heads, self.sessions, strict=True):
            looks = [view, np.ascontiguousarray(view[:, :, ::-1])] if part["mirrored"] else [view]
            answers = [_softmax(_features(session, look, part["n_columns"]) @ head[0].T + head[1]) for look in looks]
            total = total + part["weight"] * np.mean(answers, 0)
        return np.asarray(total, np.float32)[0]


def opened(run: Path, record: RunRecord, fix: str) -> GraphInference | None:
    """Return what answers for a run, or None where it has no graphs, the cache has lost them, or ONNX Runtime is not there.

    fix: what to do where the model is damaged. Raises RunError then.
    """
    if not record.graph_parts or importlib.util.find_spec("onnxruntime") is None:
        return None
    cache = CacheFolder()
    graphs = [cache.load(cache.entry_path(KIND, part["graph"], SEALED)) for part in record.graph_parts]
    whole = [graph for graph in graphs if graph is not None]
    if len(whole) < len(graphs):
        return None
    folder.verify(run / folder.MODEL, fix)
    try:
        heads = heads_of(run / folder.MODEL, record.graph_parts)
        return GraphInference(record, record.graph_parts, heads, [session_of(graph) for graph in whole])
    except (SafetensorError, OSError, RuntimeError):  # another version of the runtime may refuse a graph: torch answers
        return None


def heads_of(model: Path, parts: Sequence[GraphPart]) -> list[tuple[Floats, Floats]]:
    """Return weight and bias of each part's head from a run's model."""
    with safe_open(model, framework="numpy") as file:
        return [(file.get_tensor(f"{part['head']}.weight"), file.get_tensor(f"{part['head']}.bias")) for part in parts]


def session_of(graph: bytes) -> Any:
    """Return a session for a graph whose batch size is free."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; a warning about the machine is no answer
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _features(session: Any, view: NDArray[np.uint8], n_columns: int) -> Floats:
    (features,) = session.run(None, {session.get_inputs()[0].name: view})
    return np.asarray(features)[:, -n_columns:]


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)

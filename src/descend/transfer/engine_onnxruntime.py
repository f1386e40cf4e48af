"""ONNX Runtime: the fastest engine of the core install; it fuses activations into convolutions laid out in blocks."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from descend.errors import MissingExtra
from descend.transfer.engine import Compute, Engine
from descend.transfer.graph import INPUT, ONE_PICTURE, graph, starting


def available() -> bool:
    """Return whether onnxruntime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


class OnnxRuntimeEngine(Engine):
    """The exported graph on ONNX Runtime's CPU provider, in float32."""

    name = "onnxruntime"
    chunks = ONE_PICTURE

    @classmethod
    def version(cls) -> str:
        """Return onnxruntime's version; raises MissingExtra."""
        if not available():
            raise MissingExtra("engine onnxruntime", "onnxruntime must be installed", fix="Run pip install onnxruntime.")
        return importlib.metadata.version("onnxruntime")

    def _start(self) -> Compute:
        with starting(self):
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch's threads want the cores too
            session = onnxruntime.InferenceSession(graph(self), options, providers=["CPUExecutionProvider"])

        def compute(chunks: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
            return [np.asarray(session.run(None, {INPUT: chunk})[0]) for chunk in chunks]

        return compute

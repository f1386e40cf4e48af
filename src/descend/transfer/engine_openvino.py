"""OpenVINO: the fastest engine measured on x86; it comes with the extra ``[fast]``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from descend.errors import MissingExtra
from descend.transfer.engine import Compute, Engine
from descend.transfer.graph import graph


def available() -> bool:
    """Return whether openvino is installed."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoEngine(Engine):
    """The exported graph on OpenVINO's CPU plugin, in float32 (left alone it picks bfloat16 where the processor has it)."""

    name = "openvino"

    @classmethod
    def version(cls) -> str:
        """Return openvino's version; raises MissingExtra."""
        if not available():
            raise MissingExtra("engine openvino", "openvino must be installed",
                               fix='Run pip install "descend[fast]", or use --engine onnxruntime.')  # fmt: skip
        return importlib.metadata.version("openvino")

    def _start(self) -> Compute:
        import openvino

        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32",
                    "INFERENCE_NUM_THREADS": self.threads}  # fmt: skip
        core = openvino.Core()
        model = core.compile_model(core.read_model(graph(self)), "CPU", settings)
        queue = openvino.AsyncInferQueue(model)  # one chunk on each thread at a time

        def compute(chunks: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
            done: dict[int, NDArray[np.float32]] = {}

            def keep(request: openvino.InferRequest, position: int) -> None:
                done[position] = request.get_output_tensor(0).data.copy()

            queue.set_callback(keep)
            for position, chunk in enumerate(chunks):
                queue.start_async({0: chunk}, position)
            queue.wait_all()
            return [done[position] for position in range(len(chunks))]

        return compute

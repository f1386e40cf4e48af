"""OpenVINO: the fastest engine measured on x86, in float32 and in bfloat16; it comes with the extra ``[fast]``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from descend.errors import MissingExtra, ModelError, first_line
from descend.transfer.engine import Compute, Engine
from descend.transfer.graph import ONE_PICTURE, graph, starting
from descend.transfer.signal_stack import kept_signal_stack

if TYPE_CHECKING:
    import openvino

_TELEMETRY = "openvino_telemetry"


def available() -> bool:
    """Return whether openvino is installed."""
    return importlib.util.find_spec("openvino") is not None


@cache
def load() -> None:
    """Import openvino without its telemetry, to be called before ``import openvino``.

    By itself that import forks this process, threads and all, to tell a server of its makers; Ctrl-C and SIGTERM meet the child
    too, which ends in a traceback on this terminal. Where the package that sends is absent, openvino takes a stub in its place.
    """
    modules = cast("dict[str, Any]", sys.modules)
    before = {name: modules.pop(name) for name in [*modules] if name.partition(".")[0] == _TELEMETRY}
    modules[_TELEMETRY] = None  # an import of it fails
    try:
        import openvino  # noqa: F401
    finally:
        del modules[_TELEMETRY]
        modules.update(before)


@cache
def core() -> openvino.Core:
    """Return the OpenVINO of this process with its CPU plugin loaded, which leaves the handling of signals as it was."""
    load()
    import openvino

    with kept_signal_stack():
        found = openvino.Core()
        found.get_versions("CPU")  # loads the plugin
    return found


@cache
def computes_in_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 numbers in hardware (AMX, AVX-512 BF16)."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine(Engine):
    """The exported graph on OpenVINO's CPU plugin, in float32."""

    name = "openvino"
    chunks = ONE_PICTURE

    @classmethod
    def version(cls) -> str:
        """Return openvino's version; raises MissingExtra."""
        if not available():
            raise MissingExtra("engine openvino", "openvino must be installed",
                               fix='Run pip install "descend[fast]", or use --engine onnxruntime.')  # fmt: skip
        return importlib.metadata.version("openvino")

    def _start(self) -> Compute:
        with starting(self):
            load()
            import openvino

            settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": self.precision,
                        "INFERENCE_NUM_THREADS": self.threads}  # fmt: skip
            model = core().compile_model(core().read_model(graph(self)), "CPU", settings)
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


class OpenVinoBfloat16Engine(OpenVinoEngine):
    """The same in bfloat16, where the processor computes in it: twice as fast, with features rounded to eight bits.

    A head does not notice: on 1,000 pictures of hands the held-out loss is 0.086 nats where float32 has 0.089, and the head that
    was fitted to these features is as good on those of the float32 network (97.6 and 97.4% of 618 others).
    """

    name = "openvino-bf16"
    precision = "bf16"

    @classmethod
    def version(cls) -> str:
        """Return openvino's version; raises MissingExtra, and ModelError where it cannot load or use bfloat16 here."""
        version = super().version()
        try:
            computes = computes_in_bfloat16()
        except Exception as error:  # of an installation that is broken: whatever its libraries raise
            raise ModelError(f"engine {cls.name}", f"openvino must be able to start ({first_line(error)})",
                             fix="Use --engine torch.") from error  # fmt: skip
        if not computes:
            raise ModelError(f"engine {cls.name}", "the processor must compute in bfloat16 (AMX or AVX-512 BF16)",
                             fix="Use --engine openvino.")  # fmt: skip
        return version

"""OpenVINO's own format: a graph (.xml) and its weights (.bin) beside it, with everything that the ONNX file does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from descend.errors import MissingExtra
from descend.export import onnx_file
from descend.export.agreement import Answers
from descend.export.contents import Contents
from descend.transfer.engine_openvino import available, core, load

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}  # by itself OpenVINO computes in bfloat16 where the processor can


def check_available() -> None:
    """Raise MissingExtra where openvino is not installed."""
    if not available():
        raise MissingExtra("export --format openvino", "openvino must be installed", fix='Run pip install "descend[fast]".')


def write(contents: Contents, path: Path, weights: Path) -> None:
    """Write the graph and its weights, in float32."""
    check_available()
    load()
    import openvino

    as_onnx = path.with_suffix(".onnx")
    try:
        onnx_file.write(contents, as_onnx)
        model = core().read_model(as_onnx)
        for name, value in contents.metadata().items():
            model.set_rt_info(value, ["descend", name])
        openvino.save_model(model, path, compress_to_fp16=False)
        path.with_suffix(".bin").replace(weights)
    finally:
        as_onnx.unlink(missing_ok=True)


def answers(path: Path, weights: Path) -> Answers:
    """Return what the pair answers to pixels (B, H, W, 3) uint8."""
    model = core().compile_model(core().read_model(path, weights), "CPU", EXACT)
    return lambda images: np.asarray(model(images)[0])

"""The frozen prefix as an ONNX graph: exported once for its weights, kept in the cache folder, read by two engines."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from descend.errors import ModelError
from descend.transfer.engine import Engine

INPUT, OUTPUT = "images", "features"


def graph(engine: Engine) -> bytes:
    """Return the graph of the engine's prefix for its chunk size, as ONNX, exporting it unless the cache holds it whole."""
    import onnx
    import onnxscript

    versions = f"torch {torch.__version__}, onnx {onnx.__version__}, onnxscript {onnxscript.__version__}"
    key = hashlib.blake2b(f"{engine.prefix.key}|{engine.chunk}|{versions}".encode(), digest_size=16).hexdigest()
    path = engine.cache.entry_path("graphs", key, ".sealed")
    content = engine.cache.load(path)
    if content is None:
        size, prefix = engine.prefix.size, engine.prefix
        example = torch.zeros(engine.chunk, size, size, 3, dtype=torch.uint8)
        content = exported(prefix, example, inputs=INPUT, output=OUTPUT, who=prefix.backbone)
        engine.cache.store(path, content)
    return content


def exported(module: nn.Module, example: torch.Tensor, *, inputs: str, output: str, who: str, free_batch: bool = False) -> bytes:
    """Return ``module`` as ONNX for inputs shaped like ``example``, whose first size may be left free. Raises ModelError.

    The exporter folds batch norms and paddings into the convolutions; without that the runtimes gain little over torch.
    """
    shapes = ({0: torch.export.Dim("batch")},) if free_batch else None
    try:
        with torch.no_grad():
            program = torch.onnx.export(module.eval(), (example,), dynamo=True, verbose=False, external_data=False,
                                        input_names=[inputs], output_names=[output], dynamic_shapes=shapes)  # fmt: skip
        assert program is not None  # the exporter of dynamo returns one
        return program.model_proto.SerializeToString()
    except Exception as error:
        raise ModelError(who, f"torch must be able to export it to ONNX ({type(error).__name__})",
                         fix="Use --engine torch.") from error  # fmt: skip

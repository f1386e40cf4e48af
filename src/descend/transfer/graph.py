"""The frozen prefix as an ONNX graph: exported once for its weights, kept in the cache folder, read by two engines."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from descend.errors import ModelError
from descend.transfer.engine import Engine

INPUT, OUTPUT = "images", "features"


def graph_file(engine: Engine) -> Path:
    """Return the file with the graph of the engine's prefix for its chunk size, exporting it if it is not there yet."""
    import onnx
    import onnxscript

    versions = f"torch {torch.__version__}, onnx {onnx.__version__}, onnxscript {onnxscript.__version__}"
    key = hashlib.blake2b(f"{engine.prefix.key}|{engine.chunk}|{versions}".encode(), digest_size=16).hexdigest()
    path = engine.cache.entry_path("graphs", key, ".onnx")
    if not path.exists():
        size, prefix = engine.prefix.size, engine.prefix
        example = torch.zeros(engine.chunk, size, size, 3, dtype=torch.uint8)
        with engine.cache.writing(path) as made:
            write_graph(prefix, example, made, inputs=INPUT, output=OUTPUT, who=prefix.backbone)
    engine.cache.touch(path)
    return path


def write_graph(module: nn.Module, example: torch.Tensor, path: Path, *, inputs: str, output: str, who: str,
                free_batch: bool = False) -> None:  # fmt: skip
    """Export ``module`` for inputs shaped like ``example``, whose first size may be left free, to ``path``. Raises ModelError.

    The exporter folds batch norms and paddings into the convolutions; without that the runtimes gain little over torch.
    """
    shapes = ({0: torch.export.Dim("batch")},) if free_batch else None
    try:
        with torch.no_grad():
            torch.onnx.export(module.eval(), (example,), path, dynamo=True, verbose=False, external_data=False,
                              input_names=[inputs], output_names=[output], dynamic_shapes=shapes)  # fmt: skip
    except OSError:  # the disk, not the network
        raise
    except Exception as error:
        raise ModelError(who, f"torch must be able to export it to ONNX ({type(error).__name__})",
                         fix="Use --engine torch.") from error  # fmt: skip

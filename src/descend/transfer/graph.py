"""The frozen prefix as an ONNX graph: written once for its weights, kept in the cache folder, read by several engines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from descend.errors import DescendError, ModelError, first_line
from descend.transfer.engine import Chunk, Engine
from descend.transfer.folding import agrees, folded
from descend.transfer.onnx_recorder import for_any_batch, recorded

INPUT, OUTPUT = "images", "features"
WRITTEN_BY = "recorder 2"  # another number where the recorder writes other graphs
ONE_PICTURE = Chunk(area=224 * 224)  # what runtimes that read a graph compute at once


def graph(engine: Engine) -> bytes:
    """Return the graph of the engine's prefix for its chunk size, as ONNX, writing it unless the cache holds it whole."""
    content = quick_graph(engine)
    if content is None:
        content = exported(engine.prefix, _example(engine), inputs=INPUT, output=OUTPUT, who=engine.prefix.backbone)
        engine.cache.store(_place(engine), content)
    return content


def quick_graph(engine: Engine) -> bytes | None:
    """Return the graph of the engine's prefix for its chunk size, or None where writing it would take torch's exporter.

    That takes seconds: too many for what only makes answers quicker.
    """
    path = _place(engine)
    content = engine.cache.load(path)
    if content is None:
        content = _recorded(engine.prefix, _example(engine))
        if content is not None:
            engine.cache.store(path, content)
    return content


def _place(engine: Engine) -> Path:
    """Return where the cache holds the graph."""
    versions = f"torch {torch.__version__}, onnx {version('onnx')}, {WRITTEN_BY}"
    key = hashlib.blake2b(f"{engine.prefix.key}|{engine.chunk}|{versions}".encode(), digest_size=16).hexdigest()
    return engine.cache.entry_path("graphs", key, ".sealed")


def _example(engine: Engine) -> torch.Tensor:
    size = engine.prefix.size
    return (torch.arange(engine.chunk * size * size * 3) % 251).to(torch.uint8).reshape(engine.chunk, size, size, 3)


def _recorded(prefix: nn.Module, example: torch.Tensor) -> bytes | None:
    """Return the graph as the recorder writes it, or None where it cannot or where what it wrote computes something else."""
    try:
        content = recorded(folded(prefix, example[:1]), example, inputs=INPUT, output=OUTPUT)
        return content if _computes_the_same(content, prefix, example) else None
    except MemoryError:
        raise
    except Exception:  # Unsupported; an operation called with other arguments than its row takes; a runtime that refuses it
        return None


def _computes_the_same(content: bytes, module: nn.Module, *examples: torch.Tensor) -> bool:
    """Return whether a graph computes what the module does on every example, but for rounding."""
    import onnxruntime

    silent = onnxruntime.SessionOptions()
    silent.log_severity_level = 4  # what it refuses is exported by torch
    session = onnxruntime.InferenceSession(content, silent, providers=["CPUExecutionProvider"])
    [read] = session.get_inputs()
    with torch.inference_mode():
        found = [torch.from_numpy(np.asarray(session.run(None, {read.name: example.numpy()})[0])) for example in examples]
        return all(agrees(one, module(example)) for one, example in zip(found, examples, strict=True))


@contextmanager
def starting(engine: Engine) -> Iterator[None]:
    """Turn whatever a runtime raises when it starts, anything in practice, into a ModelError; a full memory is none of its."""
    try:
        yield
    except (DescendError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"engine {engine.name}", f"must be able to run {engine.prefix.backbone} ({first_line(error)})",
                         fix="Use --engine torch.") from error  # fmt: skip


def whole_graph(module: nn.Module, *, size: int, inputs: str, output: str, who: str) -> bytes:
    """Return ``module`` in inference form as ONNX for any number of inputs (B, 3, S, S) float32, levels of pixels.

    It is recorded, and held to the module on one input and on four; where it cannot be, torch's exporter writes it, which takes
    several seconds. Raises ModelError.
    """
    example = (torch.arange(4 * 3 * size * size) % 251).float().reshape(4, 3, size, size)
    try:
        content = for_any_batch(folded(module, example[:1]), example, inputs=inputs, output=output)
        if _computes_the_same(content, module, example[:1], example):
            return content
    except MemoryError:
        raise
    except Exception:  # as of a prefix
        pass
    return exported(module, example[:2], inputs=inputs, output=output, who=who, free_batch=True)


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

"""A nested state (dictionaries, lists, numbers, texts, tensors) as one safetensors file: no code, nothing but data.

Tensors are numbered in the order in which they are met; everything else stands as JSON under one name in the file's header.
Numbers keep every bit, dictionaries their order and keys that are no text, tensors their memory layout: a state that was read
continues a training bit for bit. Source of the format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load as tensors_of
from safetensors.torch import save as serialized
from torch import Tensor

HEADER = "descend"  # the name under which the JSON stands


def dump(state: Any) -> bytes:
    """Return the content of the file that holds ``state``. Raises TypeError where it holds anything but data."""
    tensors: list[Tensor] = []
    plain = json.dumps(_plain(state, tensors, set()), allow_nan=False)
    return serialized({str(number): tensor for number, tensor in enumerate(tensors)}, {HEADER: plain})


def read(path: Path) -> Any:
    """Return the state in a file, its tensors on the CPU.

    Raises OSError, SafetensorError, or ValueError, KeyError, TypeError, IndexError where it is another file's content.
    """
    with safe_open(path, framework="pt") as file:
        plain = json.loads((file.metadata() or {})[HEADER])
    named = tensors_of(path.read_bytes())  # in memory: the file may be replaced while they are in use
    return _restored(plain, [named[str(number)] for number in range(len(named))])


def _plain(value: Any, tensors: list[Tensor], taken: set[int]) -> Any:
    """Return a value as JSON has it; what JSON does not know is a list that begins with the name of its kind.

    taken: where the memory of the tensors lies that the file has already.
    """
    if isinstance(value, Tensor):
        order = _by_stride(value)
        tensors.append(_stored(value.detach().permute(order), taken))
        return ["tensor", len(tensors) - 1, order]
    if isinstance(value, dict):
        return ["dict", *([_plain(key, tensors, taken), _plain(inner, tensors, taken)] for key, inner in value.items())]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(_plain(inner, tensors, taken) for inner in value)]
    if isinstance(value, float) and not math.isfinite(value):
        return ["float", str(value)]
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TypeError(f"a state holds data only, got {type(value).__name__}")


def _restored(plain: Any, tensors: list[Tensor]) -> Any:
    if not isinstance(plain, list):
        return plain
    kind, *rest = plain
    if kind == "tensor":
        number, order = rest
        return tensors[number].permute([order.index(axis) for axis in range(len(order))])
    if kind == "dict":
        return {_restored(key, tensors): _restored(inner, tensors) for key, inner in rest}
    if kind == "float":
        return float(rest[0])
    return {"list": list, "tuple": tuple}[kind](_restored(inner, tensors) for inner in rest)


def _by_stride(value: Tensor) -> list[int]:
    """Return the axes from the one with the largest steps in memory to that with the smallest."""
    return sorted(range(value.ndim), key=lambda axis: -value.stride(axis))


def _stored(value: Tensor, taken: set[int]) -> Tensor:
    """Return a tensor as the file takes it: on the CPU, whole, and with memory of its own (weights may be tied)."""
    value = value.to("cpu").contiguous()
    if value.untyped_storage().data_ptr() in taken:
        value = value.clone(memory_format=torch.contiguous_format)
    taken.add(value.untyped_storage().data_ptr())
    return value

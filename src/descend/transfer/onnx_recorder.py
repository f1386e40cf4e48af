"""A forward pass written down as an ONNX graph, operation by operation, as torch carries it out on one example.

torch's own exporter understands more (loops over data, free sizes) and takes several times as long: seconds that a first answer
waits for. Here every size is the example's but the first, which ``for_any_batch`` frees; an operation that stands in no row of
the table below is refused: then the exporter does the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode  # documented in torch's notes on extending it

from descend.untraced import without_import

Row = Callable[..., str]  # (recorder, result, first argument (a tensor's name), the other arguments ...) -> name of the output
OPSET, OPSET_OF_FILES = 18, 20  # what is written means the same in both; of files it is as torch's exporter writes them
aten = torch.ops.aten


class Unsupported(Exception):
    """An operation that the table below does not translate."""


def recorded(module: nn.Module, example: Tensor, *, inputs: str, output: str) -> bytes:
    """Return ``module`` in inference form as an ONNX model for inputs of the example's shape. Raises Unsupported."""
    return _recorded(module, example, _TABLE, inputs, output).SerializeToString()


def _recorded(module: nn.Module, example: Tensor, table: dict[str, Row], inputs: str, output: str) -> Any:
    import onnx

    with torch.inference_mode(False), torch.no_grad():  # inference mode hides what operations are made of
        example = example.clone()  # a tensor of inference mode would bring it along
        recorder = _Recorder(inputs, example, table)
        with recorder:
            result = module(example)
    recorder.node("Identity", recorder.name(result), out=output)
    types = onnx.helper.np_dtype_to_tensor_dtype
    ends = [
        onnx.helper.make_tensor_value_info(name, types(np.dtype(str(tensor.dtype).removeprefix("torch."))), list(tensor.shape))
        for name, tensor in ((inputs, example), (output, result))
    ]
    graph = onnx.helper.make_graph(recorder.nodes, "recorded", [ends[0]], [ends[1]], recorder.constants)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)


def for_any_batch(module: nn.Module, example: Tensor, *, inputs: str, output: str) -> bytes:
    """Return ``module`` as an ONNX model for any number of inputs, recorded on two and on three: what differs is that number.

    example: three inputs or more. Raises Unsupported where the number decides more than shapes.
    """
    import onnx

    one, other = (_recorded(module, example[:n], _WHOLE, inputs, output) for n in (2, 3))
    if [(node.op_type, *node.input) for node in one.graph.node] != [(node.op_type, *node.input) for node in other.graph.node]:
        raise Unsupported("operations that the batch size decides")
    for value in (*one.graph.input, *one.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    read_by = {name: node.op_type for node in one.graph.node for name in node.input}
    for constant, of_other in zip(one.graph.initializer, other.graph.initializer, strict=True):
        if constant.data_type == onnx.TensorProto.INT64 or constant.dims != of_other.dims:
            for_two, for_three = onnx.numpy_helper.to_array(constant), onnx.numpy_helper.to_array(of_other)
            free = _free(for_two, for_three, read_by[constant.name])
            constant.CopyFrom(onnx.numpy_helper.from_array(free, constant.name))
    one.opset_import[0].version, one.ir_version = OPSET_OF_FILES, 10
    return one.SerializeToString()


def _free(one: NDArray[Any], other: NDArray[Any], read_by: str) -> NDArray[Any]:
    """Return a constant of a graph for any batch size, from those for two sizes. Raises Unsupported."""
    if np.array_equal(one, other):
        return one
    if one.dtype != np.int64 and read_by == "MatMul" and (one == one[:1]).all():
        return one[:1]  # one matrix, repeated for every picture
    if one.shape != other.shape or read_by not in _FREE_SIZE:
        raise Unsupported(f"{read_by} by the batch size")
    return np.where(one == other, one, _FREE_SIZE[read_by])


_FREE_SIZE = {"Reshape": -1, "Expand": 1}  # what follows from the other sizes; what stays as it is


class _Recorder(TorchDispatchMode):
    """Writes a node for every operation that runs within it."""

    def __init__(self, inputs: str, example: Tensor, table: dict[str, Row]) -> None:
        super().__init__()
        self._table = table
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._names: dict[int, str] = {id(example): inputs}
        self._varying = {id(example)}  # with the input
        self._held: list[Any] = [example]  # so that no address is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Carry an operation out and write it down."""
        del types
        kwargs = kwargs or {}
        name = func._overloadpacket.__name__
        if not any(id(tensor) in self._varying for tensor in _tensors(args)):
            return func(*args, **kwargs)  # of constants alone: a constant
        translate = self._table.get(name.removesuffix("_"))
        if translate is None:
            raise Unsupported(str(func))
        first = [self.name(arg) if isinstance(arg, Tensor) else arg for arg in args[:1]]  # before it is changed in place
        result = func(*args, **kwargs)
        output = result[0] if isinstance(result, tuple) else result
        self._names[id(output)] = translate(self, output, *first, *args[1:], **kwargs)
        self._varying.add(id(output))
        self._held.append(output)
        return result

    def name(self, value: Any) -> str:
        """Return the name of a tensor, or of a number as a constant."""
        if not isinstance(value, Tensor):
            return self.constant(np.asarray(value, np.float32))
        if id(value) not in self._names:
            self._names[id(value)] = self.constant(value.detach().contiguous().numpy())
            self._held.append(value)
        return self._names[id(value)]

    def constant(self, value: Any) -> str:
        """Return the name of a new constant."""
        import onnx

        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Write a node with one output; return the output's name."""
        import onnx

        name = out or f"v{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [name], **attributes))
        return name


_Recorder.__torch_dispatch__ = without_import(_Recorder.__torch_dispatch__)  # torch has wrapped it


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    flat = [item for arg in args for item in (arg if isinstance(arg, (list, tuple)) else [arg])]
    return [item for item in flat if isinstance(item, Tensor)]


# ------------------------------------------------------------------------------------------ what torch does -> what ONNX calls it
def _unary(op: str) -> Row:
    return lambda r, _, x, **__: r.node(op, x)


def _binary(op: str) -> Row:
    def row(r: _Recorder, result: Tensor, x: str, y: Any, *, alpha: float = 1) -> str:
        if alpha != 1 or result.dtype != torch.float32:
            raise Unsupported(f"{op} of {result.dtype} with alpha {alpha}")
        return r.node(op, x, r.name(y))

    return row


def _convolution(
    r: _Recorder, _: Tensor, x: str, w: Tensor, b: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, __: Any, groups: int,
) -> str:  # fmt: skip
    if transposed:
        raise Unsupported("transposed convolution")
    inputs = [x, r.name(w)] + ([] if b is None else [r.name(b)])
    return r.node("Conv", *inputs, strides=list(stride), pads=[*padding, *padding], dilations=list(dilation), group=groups)


def _clamp(r: _Recorder, _: Tensor, x: str, low: float | None = None, high: float | None = None) -> str:
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return r.node("Clip", x, r.name(low), r.name(high))


def _hardtanh(r: _Recorder, result: Tensor, x: str, low: float = -1.0, high: float = 1.0) -> str:
    return _clamp(r, result, x, low, high)


def _mean(r: _Recorder, _: Tensor, x: str, axes: Sequence[int], keepdim: bool = False, **__: Any) -> str:
    return r.node("ReduceMean", x, r.constant(np.array(axes, np.int64)), keepdims=int(keepdim))


def _largest(r: _Recorder, _: Tensor, x: str, axes: Sequence[int], keepdim: bool = False) -> str:
    return r.node("ReduceMax", x, r.constant(np.array(axes, np.int64)), keepdims=int(keepdim))


def _batch_norm(
    r: _Recorder, _: Tensor, x: str, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, training: bool, __: float, eps: float
) -> str:
    if training:
        raise Unsupported("a batch norm that learns")
    return r.node("BatchNormalization", x, *(r.name(value) for value in (gamma, beta, mean, var)), epsilon=eps)


def _layer_norm(r: _Recorder, _: Tensor, x: str, shape: Sequence[int], gamma: Tensor, beta: Tensor, eps: float) -> str:
    return r.node("LayerNormalization", x, r.name(gamma), r.name(beta), axis=-len(shape), epsilon=eps)


def _pooled(r: _Recorder, result: Tensor, x: str, *_: Any) -> str:
    if result.shape[-2:] != (1, 1):
        raise Unsupported("adaptive pooling to more than one cell")
    return r.node("GlobalAveragePool", x)


def _concatenated(r: _Recorder, _: Tensor, parts: Sequence[Tensor], axis: int = 0) -> str:
    return r.node("Concat", *(r.name(part) for part in parts), axis=axis)


def _shaped(r: _Recorder, result: Tensor, x: str, *_: Any, **__: Any) -> str:
    """The same numbers in the same order in another shape."""
    return r.node("Reshape", x, r.constant(np.array(result.shape, np.int64)))


def _restrided(r: _Recorder, result: Tensor, x: str, size: Sequence[int], stride: Sequence[int], *_: Any) -> str:
    """The layout in memory of a pooled map, which no ONNX tensor has."""
    del r, stride
    if result.numel() != math.prod(size):
        raise Unsupported("a view of a part")
    return x


def _expanded(r: _Recorder, result: Tensor, x: str, *_: Any, **__: Any) -> str:
    return r.node("Expand", x, r.constant(np.array(result.shape, np.int64)))


def _permuted(r: _Recorder, _: Tensor, x: str, axes: Sequence[int]) -> str:
    return r.node("Transpose", x, perm=list(axes))


def _transposed(r: _Recorder, result: Tensor, x: str, first: int = 0, second: int = 1) -> str:
    axes = list(range(result.ndim))
    axes[first], axes[second] = axes[second], axes[first]
    return r.node("Transpose", x, perm=axes)


def _sliced(
    r: _Recorder, _: Tensor, x: str, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> str:
    last = np.iinfo(np.int64).max if end is None else end
    return r.node("Slice", x, *(r.constant(np.array([value], np.int64)) for value in (start or 0, last, axis, step)))


def _padded(r: _Recorder, result: Tensor, x: str, pads: Sequence[int], value: float = 0.0) -> str:
    before, after = [0] * result.ndim, [0] * result.ndim
    for i in range(len(pads) // 2):  # torch counts from the last axis
        before[-1 - i], after[-1 - i] = pads[2 * i], pads[2 * i + 1]
    return r.node("Pad", x, r.constant(np.array([*before, *after], np.int64)), r.name(value))


def _mirrored(r: _Recorder, _: Tensor, x: str, axes: Sequence[int]) -> str:
    back, first = np.full(len(axes), -1), np.full(len(axes), np.iinfo(np.int64).min)
    return r.node("Slice", x, *(r.constant(np.asarray(value, np.int64)) for value in (back, first, axes, back)))


def _stacked(r: _Recorder, _: Tensor, parts: Sequence[Tensor], axis: int = 0) -> str:
    place = r.constant(np.array([axis], np.int64))
    return r.node("Concat", *(r.node("Unsqueeze", r.name(part), place) for part in parts), axis=axis)


def _log_sum(r: _Recorder, _: Tensor, x: str, axes: Sequence[int], keepdim: bool = False) -> str:
    return r.node("ReduceLogSumExp", x, r.constant(np.array(axes, np.int64)), keepdims=int(keepdim))


def _log_of_both(r: _Recorder, _: Tensor, x: str, y: Tensor) -> str:
    place = r.constant(np.array([0], np.int64))
    both = r.node("Concat", r.node("Unsqueeze", x, place), r.node("Unsqueeze", r.name(y), place), axis=0)
    return r.node("ReduceLogSumExp", both, place, keepdims=0)


def _of_axis(op: str) -> Row:
    def row(r: _Recorder, _: Tensor, x: str, axis: int, half_to_float: bool = False) -> str:
        if half_to_float:
            raise Unsupported(f"{op} in half precision")
        return r.node(op, x, axis=axis)

    return row


def _picked(r: _Recorder, _: Tensor, x: str, axis: int, places: Tensor) -> str:
    return r.node("Gather", x, r.name(places), axis=axis)


def _cast(r: _Recorder, result: Tensor, x: str, **_: Any) -> str:
    if result.dtype != torch.float32:
        raise Unsupported(f"a cast to {result.dtype}")
    return r.node("Cast", x, to=1)  # TensorProto.FLOAT


def _affine(r: _Recorder, _: Tensor, b: str, x: Tensor, w: Tensor, *, beta: float = 1, alpha: float = 1) -> str:
    return r.node("Gemm", r.name(x), r.name(w), b, alpha=float(alpha), beta=float(beta))


def _product(r: _Recorder, _: Tensor, x: str, y: Tensor) -> str:
    return r.node("MatMul", x, r.name(y))


def _hardsigmoid(r: _Recorder, _: Tensor, x: str) -> str:
    return r.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _gelu(r: _Recorder, _: Tensor, x: str, *, approximate: str = "none") -> str:
    if approximate != "none":
        raise Unsupported(f"gelu with {approximate}")
    normal = r.node("Add", r.node("Erf", r.node("Mul", x, r.name(math.sqrt(0.5)))), r.name(1.0))
    return r.node("Mul", r.node("Mul", x, r.name(0.5)), normal)


def _silu(r: _Recorder, _: Tensor, x: str) -> str:
    return r.node("Mul", x, r.node("Sigmoid", x))


def _max_pooled(
    r: _Recorder, _: Tensor, x: str, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1), ceil_mode: bool = False,
) -> str:  # fmt: skip
    pads = [*padding, *padding]
    return r.node("MaxPool", x, kernel_shape=list(kernel), strides=list(stride or kernel), pads=pads, dilations=list(dilation),
                  ceil_mode=int(ceil_mode))  # fmt: skip


_SAME = _unary("Identity")
_TABLE: dict[str, Row] = {
    "convolution": _convolution, "addmm": _affine, "mm": _product, "bmm": _product,
    "native_batch_norm": _batch_norm, "native_layer_norm": _layer_norm,
    "add": _binary("Add"), "sub": _binary("Sub"), "mul": _binary("Mul"), "div": _binary("Div"),
    "hardtanh": _hardtanh, "clamp": _clamp, "relu": _unary("Relu"), "sigmoid": _unary("Sigmoid"), "silu": _silu,
    "hardswish": _unary("HardSwish"), "hardsigmoid": _hardsigmoid, "gelu": _gelu,
    "mean": _mean, "amax": _largest, "_adaptive_avg_pool2d": _pooled, "max_pool2d_with_indices": _max_pooled,
    "view": _shaped, "_unsafe_view": _shaped, "unsqueeze": _shaped, "squeeze": _shaped, "expand": _expanded,
    "permute": _permuted, "transpose": _transposed, "t": _transposed, "slice": _sliced, "as_strided": _restrided,
    "index_select": _picked, "cat": _concatenated, "constant_pad_nd": _padded,
    "_to_copy": _cast, "clone": _SAME, "alias": _SAME, "detach": _SAME,
}  # fmt: skip
_WHOLE: dict[str, Row] = _TABLE | {
    "flip": _mirrored, "stack": _stacked, "_softmax": _of_axis("Softmax"), "_log_softmax": _of_axis("LogSoftmax"),
    "logsumexp": _log_sum, "logaddexp": _log_of_both,
}  # fmt: skip
"""With what makes answers of features. A prefix that needs such a row is exported as ever: the last bits of its features stay."""

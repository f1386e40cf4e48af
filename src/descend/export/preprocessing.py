"""The decode policy's resize, crop and bars as ONNX operations, so that whoever runs the file need not know them.

    (B, H, W, 3) uint8 -> bicubic with antialiasing -> R x R by the policy's fit -> center S x S -> (B, 3, S, S) float32

The operations follow Pillow's: a = -0.5, half-pixel centers, weights that fall outside the picture left out, one pass along each
side, in its order, rounded to whole levels. Its weights have 22 bits, so about a pixel in a thousand differs by a level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

from descend.pixels import GROUND_LEVEL, USUAL, Fit, PixelPolicy

IMAGES, CROPPED = "images", "cropped"


class _Graph:
    """A growing list of nodes; ``add`` returns the name of the node's output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: ArrayLike, dtype: type = np.int64) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operation: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [output], **attributes))
        return output


def preprocessing(*, resolution: int, size: int, opset: int, ir_version: int, policy: PixelPolicy = USUAL) -> onnx.ModelProto:
    """Return the graph from ``images`` (B, H, W, 3) uint8, all sizes free, to ``cropped`` (B, 3, S, S) float32 levels.

    resolution: R, pixels per side of the square; size: S <= R. opset >= 18, where Resize learned antialiasing. policy: its fit
    makes the square, its background is the color of bars.
    """
    graph = _Graph()
    planes = graph.add("Transpose", graph.add("Cast", IMAGES, to=onnx.TensorProto.FLOAT), perm=[0, 3, 1, 2])
    sides = graph.add("Slice", graph.add("Shape", IMAGES), graph.constant([1]), graph.constant([3]))
    wanted = _resized(graph, sides, resolution, policy.fit)
    levels = _levels(graph, _levels(graph, planes, _between(graph, sides, wanted)), wanted)
    inset = graph.constant([(resolution - size) // 2] * 2)
    start = inset
    if policy.fit == "crop":
        start = graph.add("Add", _half(graph, graph.add("Sub", wanted, graph.constant([resolution]))), inset)
    elif policy.fit == "pad":
        levels = _on_bars(graph, levels, graph.add("Sub", graph.constant([resolution]), wanted), GROUND_LEVEL[policy.background])
    end = graph.add("Add", start, graph.constant([size]))
    graph.add("Slice", levels, start, end, graph.constant([2, 3]), output=CROPPED)
    graph_proto = helper.make_graph(
        graph.nodes,
        "preprocessing",
        [helper.make_tensor_value_info(IMAGES, onnx.TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info(CROPPED, onnx.TensorProto.FLOAT, ["batch", 3, size, size])],
        graph.constants,
    )
    return helper.make_model(graph_proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def _between(graph: _Graph, sides: str, wanted: str) -> str:
    """Return the (height, width) after the first of two passes, (2,) int64. sides, wanted: before the first, after the second.

    The width is first, but where the height shrinks by more than twice what the width does: ``horizontal_first`` in Pillow's
    ``Resample.c``, of Pillow 13.0; older ones begin with the width more often.
    """
    shrinks = graph.add("Sub", sides, wanted)
    height, width = (graph.add("Slice", shrinks, graph.constant([at]), graph.constant([at + 1])) for at in (0, 1))
    least = graph.add("Max", graph.add("Mul", width, graph.constant([2])), graph.constant([0]))
    height_first = graph.add("Greater", height, least)
    return graph.add("Where", graph.add("Concat", height_first, graph.add("Not", height_first), axis=0), wanted, sides)


def _levels(graph: _Graph, planes: str, sides: str) -> str:
    """Resize planes (B, 3, H, W) along one side, or none, to whole levels. sides: the new (height, width), (2,) int64."""
    others = graph.add("Slice", graph.add("Shape", planes), graph.constant([0]), graph.constant([2]))
    whole = graph.add("Concat", others, sides, axis=0)  # onnxruntime moves a transposition through it, and needs all sizes there
    resized = graph.add("Resize", planes, "", "", whole, mode="cubic", cubic_coeff_a=-0.5, antialias=1,
                        exclude_outside=1, coordinate_transformation_mode="half_pixel")  # fmt: skip
    return graph.add("Clip", graph.add("Round", resized), graph.constant(0, np.float32), graph.constant(255, np.float32))


def _resized(graph: _Graph, sides: str, resolution: int, fit: Fit) -> str:
    """Return the (height, width) of the resized picture, (2,) int64, rounded as in the decode policy."""
    if fit == "squash":
        return graph.constant([resolution] * 2)
    if fit == "crop":  # the longer side is rounded down
        return graph.add("Div", graph.add("Mul", sides, graph.constant([resolution])), graph.add("ReduceMin", sides, keepdims=1))
    exact = graph.add("Cast", sides, to=onnx.TensorProto.DOUBLE)
    share = graph.add("Div", exact, graph.add("ReduceMax", exact, keepdims=1))
    rounded = graph.add("Round", graph.add("Mul", share, graph.constant(resolution, np.float64)))
    return graph.add("Max", graph.add("Cast", rounded, to=onnx.TensorProto.INT64), graph.constant([1]))


def _on_bars(graph: _Graph, levels: str, margin: str, level: int) -> str:
    """Lay levels (B, 3, h, w) on the middle of a plain square. margin: (2,) int64, what is lacking in height and width."""
    before = _half(graph, margin)
    others = graph.constant([0, 0])
    pads = graph.add("Concat", others, before, others, graph.add("Sub", margin, before), axis=0)  # all sides: as for Resize
    return graph.add("Pad", levels, pads, graph.constant(level, np.float32))


def _half(graph: _Graph, margin: str) -> str:
    """Halve whole numbers, a half going to the even neighbor: as Python's ``round`` does in the decode policy."""
    exact = graph.add("Mul", graph.add("Cast", margin, to=onnx.TensorProto.FLOAT), graph.constant(0.5, np.float32))
    return graph.add("Cast", graph.add("Round", exact), to=onnx.TensorProto.INT64)

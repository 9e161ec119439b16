"""Writes small ONNX graphs, node by node."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.core.target import Scheme

__all__ = ["OPSET", "GraphBuilder"]

OPSET = 20
"""The first that knows Gelu."""
_SCALE = 0.05
"""Of every activation: what is computed does not matter, only how."""


class GraphBuilder:
    """Nodes one after the other, in float32 or with Q/DQ between them, as edgec places them for onnxruntime.

    Args:
        scheme: An int8 scheme rounds behind every operator that is applied.
    """

    def __init__(self, scheme: Scheme) -> None:
        self.int8 = scheme.is_int8
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        if self.int8:
            unsigned = scheme is Scheme.U8S8
            self.constant(np.array(_SCALE, np.float32), name="scale")
            self.constant(np.array(128, np.uint8) if unsigned else np.array(0, np.int8), name="zero")

    def graph(self, shape: tuple[int, ...], output: str) -> onnx.ModelProto:
        """The graph from the input `x` of this shape to a tensor; a single image may be any number of them."""
        batch = "n" if shape[0] == 1 else shape[0]
        graph = helper.make_graph(
            [*self._nodes, helper.make_node("Identity", [output], ["y"])],
            "probe",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape[1:]])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def constant(self, values: np.ndarray, *, name: str | None = None) -> str:
        """A tensor that is known before anything runs."""
        name = name or f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def append(self, op_type: str, *inputs: str, outputs: int = 1, **settings: Any) -> list[str]:
        """One more operator; its results, as they leave it."""
        names = [f"t{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op_type, inputs, names, **settings))
        return names

    def apply(self, op_type: str, *inputs: str, **settings: Any) -> str:
        """One more operator, and Q/DQ behind it."""
        return self.rounded(self.append(op_type, *inputs, **settings)[0])

    def rounded(self, tensor: str) -> str:
        """The tensor behind Q/DQ, where the graph is one of integers."""
        if not self.int8:
            return tensor
        (quantised,) = self.append("QuantizeLinear", tensor, "scale", "zero")
        return self.append("DequantizeLinear", quantised, "scale", "zero")[0]

    def relu(self, tensor: str) -> str:
        """A ReLU of what was rounded; there the rounding does it, to a range that starts at zero."""
        return tensor if self.int8 else self.append("Relu", tensor)[0]

    def gemm(self, tensor: str, inward: int, outward: int) -> str:
        """A matrix product, with weights of its own."""
        return self.apply("Gemm", tensor, self._weight((inward, outward), axis=1))

    def matmul(self, tensor: str, inward: int, outward: int) -> str:
        """A product of vectors and a matrix, and a bias, which is added to floats."""
        product = self.apply("MatMul", tensor, self._weight((inward, outward), axis=1))
        return self.append("Add", product, self.constant(np.zeros(outward, np.float32)))[0]

    def conv(self, tensor: str, inward: int, outward: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        """A convolution, with weights of its own, that keeps the size but for the stride."""
        weight = self._weight((outward, inward // groups, kernel, kernel), axis=0)
        settings = {"pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": groups}
        return self.apply("Conv", tensor, weight, **settings)

    def _weight(self, shape: tuple[int, ...], *, axis: int) -> str:
        fan_in = math.prod(shape) // shape[axis]
        values = np.random.default_rng(len(self._nodes)).standard_normal(shape, np.float32)
        if not self.int8:
            return self.constant(values / np.float32(math.sqrt(fan_in)))
        inputs = (
            self.constant(np.clip(np.rint(values * 20), -63, 63).astype(np.int8)),
            self.constant(np.full(shape[axis], _SCALE / math.sqrt(fan_in), np.float32)),
            self.constant(np.zeros(shape[axis], np.int8)),
        )
        return self.append("DequantizeLinear", *inputs, axis=axis)[0]

"""A quantised graph as the linter asks about it: what is constant, what passes through int8."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from edgec.graph.view import WEIGHTED, Graph

__all__ = ["QuantizedGraph"]


class QuantizedGraph(Graph):
    """Questions about a graph with Q/DQ.

    Attributes:
        model: The whole.
        nodes: Its nodes, in order.
    """

    def __init__(self, model: ModelProto) -> None:
        super().__init__(model.graph)
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)

    def constant(self, name: str) -> TensorProto | None:
        """A tensor that is known before anything runs."""
        return self._tensors_known.get(name)

    def value(self, name: str) -> np.ndarray | None:
        """The numbers of a constant."""
        found = self._tensors_known.get(name)
        return None if found is None else numpy_helper.to_array(found)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a constant, or one behind a cast, a transposition or Q/DQ: whether it is a weight."""
        if name in self._tensors_known:
            return True
        maker = self.maker(name)
        moves = {"QuantizeLinear", "DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity"}
        return maker is not None and maker.op_type in moves and self.is_constant(maker.input[0])

    def dequantizer(self, name: str) -> NodeProto | None:
        """The DequantizeLinear that makes a tensor, or that a Cast or Transpose of weights hides."""
        maker = self.maker(name)
        if maker is not None and maker.op_type in ("Cast", "Transpose") and self.is_constant(maker.input[0]):
            return self.dequantizer(maker.input[0])
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None

    def origin(self, name: str) -> str:
        """The tensor before its Q/DQ, if it has one."""
        dequantizer = self.dequantizer(name)
        quantizer = dequantizer and self.maker(dequantizer.input[0])
        return quantizer.input[0] if quantizer is not None and quantizer.op_type == "QuantizeLinear" else name

    def comes_straight_from(self, name: str, *types: str) -> bool:
        """Whether a node of these types makes the tensor, for one reader."""
        maker = self.maker(name)
        return maker is not None and maker.op_type in types and len(self.readers(name)) == 1

    def weighted(self) -> list[NodeProto]:
        """Convolutions and matrix products with a constant weight."""
        return [node for node in self.of_type(*WEIGHTED) if self.is_constant(node.input[1])]

    def title(self, node: NodeProto) -> str:
        """A node's name, or its output's where it has none."""
        return node.name or f"the {node.op_type} that makes {node.output[0]}"

    @cached_property
    def _tensors_known(self) -> dict[str, TensorProto]:
        found = {tensor.name: tensor for tensor in self.proto.initializer}
        for node in self.of_type("Constant"):
            found.update((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
        return found

"""An ONNX graph as every part reads it: who makes a tensor and who takes it, shapes, types, what is known ahead."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING

from edgec.core.errors import UnsupportedError

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["BYTE", "HALF", "SINGLE", "VIEWS", "WEIGHTED", "Graph", "attribute", "producers", "readers"]

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply with a matrix of weights; of attention's products both sides are activations."""
VIEWS = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""What moves nothing."""

SINGLE = frozenset({1, 11})
"""ONNX's numbers of float and double."""
HALF = frozenset({10, 16})
"""Of float16 and bfloat16."""
BYTE = frozenset({3, 2})
"""Of int8 and uint8."""


class Graph:
    """Questions about a graph; it must not change meanwhile.

    Attributes:
        proto: The graph.
    """

    def __init__(self, proto: GraphProto) -> None:
        self.proto = proto

    def of_type(self, *types: str) -> list[NodeProto]:
        """Nodes of these types, in order."""
        return [node for node in self.proto.node if node.op_type in types]

    def maker(self, name: str) -> NodeProto | None:
        """The node that makes a tensor; None for inputs, initialisers and the empty name."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[NodeProto]:
        """The nodes that take a tensor, once per input that takes it."""
        return self._readers.get(name, [])

    def size(self, name: str) -> int:
        """Elements of a tensor."""
        return math.prod(self.shape(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape.

        Raises:
            UnsupportedError: It depends on more than the batch.
        """
        shape = self._tensors[name][1] if name in self._tensors else None
        if shape is None:
            raise UnsupportedError(
                f"tensor '{name}': its shape is not fixed by the graph",
                hint="export the model with a dynamic batch only",
            )
        return shape

    def has_shape(self, name: str) -> bool:
        """Whether a tensor's shape is known."""
        return name in self._tensors and self._tensors[name][1] is not None

    def element_type(self, name: str) -> int:
        """ONNX's number for what a tensor holds; 0 where the graph does not tell."""
        return self._tensors[name][0] if name in self._tensors else 0

    def holds_numbers(self, name: str) -> bool:
        """Whether a tensor depends on the image and holds what a network computes with, not shapes or indices."""
        return name not in self.constants and self.element_type(name) in SINGLE | HALF | BYTE

    def source(self, name: str, *, past: frozenset[str] = VIEWS) -> NodeProto | None:
        """The node that made a tensor, seen through nodes of some types; None for an input of the graph."""
        producer = self.maker(name)
        while producer and producer.op_type in past:
            producer = self.maker(producer.input[0])
        return producer

    def only_reader(self, name: str) -> NodeProto | None:
        """The node that reads a tensor, where there is one and no more."""
        taken = self.readers(name)
        return taken[0] if len(taken) == 1 else None

    @cached_property
    def _tensors(self) -> dict[str, tuple[int, tuple[int, ...] | None]]:
        """Element type and shape of each tensor; the shape is None where a dimension is not known."""
        tensors: dict[str, tuple[int, tuple[int, ...] | None]] = {}
        for value in (*self.proto.input, *self.proto.value_info, *self.proto.output):
            tensor = value.type.tensor_type
            known = tensor.HasField("shape") and all(dimension.HasField("dim_value") for dimension in tensor.shape.dim)
            shape = tuple(dimension.dim_value for dimension in tensor.shape.dim) if known else None
            tensors[value.name] = tensor.elem_type, shape
        tensors |= {value.name: (value.data_type, tuple(value.dims)) for value in self.proto.initializer}
        return tensors

    @cached_property
    def constants(self) -> set[str]:
        """Tensors that do not depend on the graph's inputs; the empty name of an omitted input among them."""
        constants = {"", *(value.name for value in self.proto.initializer)}
        for node in self.proto.node:
            if constants.issuperset(node.input):
                constants.update(node.output)
        return constants

    @cached_property
    def _makers(self) -> dict[str, NodeProto]:
        return producers(self.proto)

    @cached_property
    def _readers(self) -> dict[str, list[NodeProto]]:
        return readers(self.proto)


def producers(graph: GraphProto) -> dict[str, NodeProto]:
    """The node that makes each tensor."""
    return {output: node for node in graph.node for output in node.output}


def readers(graph: GraphProto) -> defaultdict[str, list[NodeProto]]:
    """The nodes that take each tensor, once per input that takes it."""
    taken: defaultdict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            taken[name].append(node)
    return taken


def attribute(node: NodeProto, name: str, default: int) -> int:
    """A whole number that a node carries."""
    return next((each.i for each in node.attribute if each.name == name), default)

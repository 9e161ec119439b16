"""How the tensors of an ONNX graph hang together: shapes, element types, who makes them and who reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import onnx

from edgec.core.errors import UnsupportedError
from edgec.graph.view import producers, readers

__all__ = ["BYTE", "HALF", "SINGLE", "VIEWS", "Wiring"]

VIEWS = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""What moves nothing."""

SINGLE = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})
HALF = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
BYTE = frozenset({onnx.TensorProto.INT8, onnx.TensorProto.UINT8})


@dataclass(frozen=True)
class Wiring:
    """A graph whose tensors have shapes, with the ways back and forth between them."""

    proto: onnx.GraphProto

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
        return self._tensors[name][0] if name in self._tensors else onnx.TensorProto.UNDEFINED

    def holds_numbers(self, name: str) -> bool:
        """Whether a tensor depends on the image and holds what a network computes with, not shapes or indices."""
        return name not in self.constants and self.element_type(name) in SINGLE | HALF | BYTE

    def source(self, name: str, *, past: frozenset[str] = VIEWS) -> onnx.NodeProto | None:
        """The node that made a tensor, seen through nodes of some types; None for an input of the graph."""
        producer = self.producers.get(name)
        while producer and producer.op_type in past:
            producer = self.producers.get(producer.input[0])
        return producer

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that reads a tensor, where there is one and no more."""
        consumers = self.consumers[name]
        return consumers[0] if len(consumers) == 1 else None

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
    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that makes each tensor."""
        return producers(self.proto)

    @cached_property
    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read each tensor."""
        return readers(self.proto)

"""What a classifier's ONNX graph asks of a device: operator by operator, multiplications and bytes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

import onnx
import onnx.shape_inference
from google.protobuf.message import DecodeError

from edgec.core.errors import DataError, UnsupportedError

__all__ = ["OperatorClass", "Traffic", "Work", "read_workload"]

_VIEWS = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_ACTIVATIONS = frozenset({"Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid", "Tanh"})
_FOLDED = _VIEWS | _ACTIVATIONS | {"BatchNormalization"}
"""What moves nothing, and what TensorRT and onnxruntime compute inside the operator before it."""

_UNCOUNTED = frozenset(
    {"Attention", "ConvInteger", "DynamicQuantizeLinear", "Einsum", "GRU", "If", "LSTM", "Loop", "MatMulInteger"}
    | {"QLinearConv", "QLinearMatMul", "RNN", "Scan"}
)
"""Operators that do real work of which this module cannot count the multiplications."""

_MATRIX = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SINGLE = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})
_HALF = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
_BYTE = frozenset({onnx.TensorProto.INT8, onnx.TensorProto.UINT8})


class OperatorClass(str, Enum):
    """Kinds of operator that reach a like share of a device's peak; `core.target.Efficiency` has a field for each."""

    DENSE = "dense"
    POINTWISE = "pointwise"
    DEPTHWISE = "depthwise"
    ELEMENTWISE = "elementwise"


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Tensor elements that go through memory, by how the graph stores them: 8, 16 or 32 bits."""

    byte: int = 0
    half: int = 0
    single: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(byte=self.byte + other.byte, half=self.half + other.half, single=self.single + other.single)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One operator that a device has to launch, or an addition that the convolution before it takes along.

    Attributes:
        name: The node's name, or that of its first output.
        op_type: ONNX operator.
        macs: Multiply-accumulates; 0 for elementwise operators.
        elements: Elements of the largest tensor it reads or writes.
        traffic: What it reads and writes.
        quantized: Whether it multiplies 8-bit numbers: both factors come out of a DequantizeLinear.
        half: Whether the graph gives it 16-bit floating point.
        fused: Whether it costs no launch of its own.
    """

    name: str
    op_type: str
    kind: OperatorClass
    macs: int
    elements: int
    traffic: Traffic
    quantized: bool
    half: bool
    fused: bool


def read_workload(model: Path, *, batch: int) -> tuple[Work, ...]:
    """The operators of an ONNX file in the graph's order, for a batch of this many images.

    Free, and so left out: Q and DQ, views, arithmetic on shapes and constants, activations and normalisation (both
    runtimes compute them inside the operator before). An Add with nothing between it and the convolution or matrix
    product that feeds it is taken along by that one, and costs the reading of its other operand.

    Raises:
        DataError: Not an ONNX file, or not a valid graph.
        UnsupportedError: A dimension other than the batch is not fixed, the batch is fixed at another number, or the
            graph holds an operator whose work cannot be counted.
    """
    try:
        proto = onnx.load(model, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise DataError(f"'{model}' is not a readable ONNX file: {error}", hint="check the path") from error
    if not proto.graph.node:
        raise DataError(f"'{model}' holds no operators", hint="export the model again")
    for node in proto.graph.node:
        _check_countable(node)
    return tuple(_Graph(_with_shapes(proto, model, batch=batch)).work())


def _check_countable(node: onnx.NodeProto) -> None:
    if node.domain not in ("", "ai.onnx") or node.op_type in _UNCOUNTED:
        name = f"{node.domain}.{node.op_type}".lstrip(".")
        raise UnsupportedError(
            f"operator '{name}' (node '{node.name}'): its work cannot be counted",
            hint="give an ONNX graph of standard operators, quantised by Q and DQ",
        )


def _with_shapes(proto: onnx.ModelProto, model: Path, *, batch: int) -> onnx.GraphProto:
    """The graph with the shapes of all its tensors, as far as they follow from the inputs' at this batch."""
    for tensor in proto.graph.input:
        _bind_batch_(tensor, batch)
    # Shapes that the exporter noted speak of a symbolic batch: let them be inferred afresh.
    del proto.graph.value_info[:]
    for tensor in proto.graph.output:
        tensor.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        message = " ".join(str(error).split())
        raise DataError(f"'{model}' is not a valid ONNX graph: {message}", hint="export the model again") from error


def _bind_batch_(tensor: onnx.ValueInfoProto, batch: int) -> None:
    """Fixes the first dimension of a graph input."""
    dimensions = tensor.type.tensor_type.shape.dim
    loose = [axis for axis, dimension in enumerate(dimensions) if axis and not dimension.HasField("dim_value")]
    if loose:
        raise UnsupportedError(
            f"input '{tensor.name}': dimension {loose[0]} is not fixed, expected a fixed size of image",
            hint="export the model with a dynamic batch only",
        )
    if dimensions and dimensions[0].HasField("dim_value") and dimensions[0].dim_value != batch:
        raise UnsupportedError(
            f"input '{tensor.name}': fixed to a batch of {dimensions[0].dim_value}, got {batch}",
            hint="export the model with a dynamic batch",
        )
    if dimensions:
        dimensions[0].dim_value = batch


@dataclass(frozen=True)
class _Graph:
    """A graph whose tensors have shapes, with the ways back and forth between them."""

    proto: onnx.GraphProto

    def work(self) -> Iterator[Work]:
        """The operators that a device has to launch."""
        for node in self.proto.node:
            if not self._is_free(node):
                yield self._work_of(node)

    def _is_free(self, node: onnx.NodeProto) -> bool:
        """Whether no device spends time on this node."""
        if node.op_type in _FOLDED or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return True
        return node.output[0] in self._constants or self._element_type(node.output[0]) not in _SINGLE | _HALF | _BYTE

    def _work_of(self, node: onnx.NodeProto) -> Work:
        read = [name for name in node.input if name]
        reads = sum((self._read(name) for name in read if name != self._absorber(node)), Traffic())
        fused = self._absorber(node) is not None
        return Work(
            name=node.name or node.output[0],
            op_type=node.op_type,
            kind=self._kind(node),
            macs=self._macs(node),
            elements=max(self._size(name) for name in (*read, *node.output) if name not in self._constants),
            traffic=reads if fused else reads + self._written(node.output[0]),
            quantized=node.op_type in _MATRIX and all(self._is_dequantized(name) for name in read[:2]),
            half=self._element_type(node.output[0]) in _HALF,
            fused=fused,
        )

    def _absorber(self, node: onnx.NodeProto) -> str | None:
        """The operand of an Add whose producer takes the addition along, if there is one."""
        if node.op_type != "Add":
            return None
        for name in node.input:
            producer = self._producers.get(name)
            if producer and producer.op_type in _MATRIX and len(self._consumers[name]) == 1:
                return name
        return None

    def _kind(self, node: onnx.NodeProto) -> OperatorClass:
        if node.op_type not in _MATRIX:
            return OperatorClass.ELEMENTWISE
        if node.op_type in ("Gemm", "MatMul"):
            return OperatorClass.POINTWISE
        channels, *kernel = self._shape(node.input[1])[1:]
        groups = _attribute(node, "group", 1)
        if groups > 1 and channels == 1:
            return OperatorClass.DEPTHWISE
        return OperatorClass.POINTWISE if groups == 1 and math.prod(kernel) == 1 else OperatorClass.DENSE

    def _macs(self, node: onnx.NodeProto) -> int:
        match node.op_type:
            case "Conv":
                return self._size(node.output[0]) * math.prod(self._shape(node.input[1])[1:])
            case "ConvTranspose":
                return self._size(node.input[0]) * math.prod(self._shape(node.input[1])[1:])
            case "Gemm":
                return self._size(node.output[0]) * self._shape(node.input[0])[_attribute(node, "transA", 0) - 1]
            case "MatMul":
                return self._size(node.output[0]) * self._shape(node.input[0])[-1]
            case _:
                return 0

    def _read(self, name: str) -> Traffic:
        """What reading an operand moves: 8 bits an element where a DequantizeLinear hands it on."""
        if self._is_dequantized(name):
            return Traffic(byte=self._size(name))
        return self._plain(name)

    def _written(self, name: str) -> Traffic:
        """What writing a result moves: 8 bits an element where everything that follows quantises it first."""
        if self._is_quantized_next(name):
            return Traffic(byte=self._size(name))
        return self._plain(name)

    def _plain(self, name: str) -> Traffic:
        kind = self._element_type(name)
        if kind not in _SINGLE | _HALF | _BYTE:
            return Traffic()
        size = self._size(name)
        return Traffic(byte=size * (kind in _BYTE), half=size * (kind in _HALF), single=size * (kind in _SINGLE))

    def _is_dequantized(self, name: str) -> bool:
        producer = self._producers.get(name)
        while producer and producer.op_type in _FOLDED:
            producer = self._producers.get(producer.input[0])
        return bool(
            producer and producer.op_type == "DequantizeLinear" and self._element_type(producer.input[0]) in _BYTE
        )

    def _is_quantized_next(self, name: str) -> bool:
        consumers = self._consumers[name]
        return bool(consumers) and all(
            self._element_type(node.output[0]) in _BYTE
            if node.op_type == "QuantizeLinear"
            else (node.op_type in _FOLDED or self._absorber(node) == name) and self._is_quantized_next(node.output[0])
            for node in consumers
        )

    def _size(self, name: str) -> int:
        return math.prod(self._shape(name))

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self._tensors[name][1] if name in self._tensors else None
        if shape is None:
            raise UnsupportedError(
                f"tensor '{name}': its shape is not fixed by the graph",
                hint="export the model with a dynamic batch only",
            )
        return shape

    def _element_type(self, name: str) -> int:
        return self._tensors[name][0] if name in self._tensors else onnx.TensorProto.UNDEFINED

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
    def _constants(self) -> set[str]:
        """Tensors that do not depend on the graph's inputs; the empty name of an omitted input among them."""
        constants = {"", *(value.name for value in self.proto.initializer)}
        for node in self.proto.node:
            if constants.issuperset(node.input):
                constants.update(node.output)
        return constants

    @cached_property
    def _producers(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.proto.node for name in node.output}

    @cached_property
    def _consumers(self) -> dict[str, list[onnx.NodeProto]]:
        consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.proto.node:
            for name in node.input:
                consumers[name].append(node)
        return consumers


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)

"""What a classifier's ONNX graph asks of a device: operator by operator, multiplications and bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import onnx
import onnx.shape_inference
from google.protobuf.message import DecodeError

from edgec.core.errors import DataError, UnsupportedError
from edgec.graph.deck import is_deck, members_alone
from edgec.graph.view import BYTE, HALF, SINGLE, VIEWS, WEIGHTED, Graph, attribute
from edgec.latency.folding import fold_shapes_
from edgec.latency.fusion import ACTIVATIONS, OnnxruntimeFusion, TensorrtFusion

__all__ = ["LANES", "OperatorClass", "Traffic", "Work", "kind_of_groups", "read_workload"]

_FOLDED = VIEWS | ACTIVATIONS | {"BatchNormalization", "Cast"}

_UNCOUNTED = frozenset(
    {"Attention", "ConvInteger", "DynamicQuantizeLinear", "Einsum", "GRU", "If", "LSTM", "Loop", "MatMulInteger"}
    | {"QLinearConv", "QLinearMatMul", "RNN", "Scan"}
)
"""Operators that do real work of which this module cannot count the multiplications."""

_EFFORT = {"Erf": 8, "Gelu": 8, "HardSwish": 4, "LayerNormalization": 6, "Sigmoid": 4, "Softmax": 8, "Tanh": 4}
"""Arithmetic operations on an element, estimated; an operator that is not here needs one, a pooling half its window."""
LANES = 16
"""Bytes that a vector register of SSE or NEON holds: MLAS has other code for other multiples."""
_IMAGE_CHANNELS = 4


class OperatorClass(str, Enum):
    """Kinds of operator that reach a like share of a device's peak; `core.compute.Efficiency` has a field for each."""

    @property
    def is_depthwise(self) -> bool:
        """Whether each value is of one channel alone."""
        return self in (OperatorClass.DEPTHWISE, OperatorClass.RAGGED)

    DENSE = "dense"
    WINOGRAD = "winograd"
    POINTWISE = "pointwise"
    MATMUL = "matmul"
    DEPTHWISE = "depthwise"
    RAGGED = "ragged"
    GROUPED = "grouped"
    NARROW = "narrow"
    STEM = "stem"
    ELEMENTWISE = "elementwise"


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Tensor elements that go through memory, by how the graph stores them: 8, 16 or 32 bits."""

    byte: int = 0
    half: int = 0
    single: int = 0

    @property
    def stored_bytes(self) -> int:
        """As the graph stores them; a device may compute in other formats."""
        return self.byte + 2 * self.half + 4 * self.single

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(byte=self.byte + other.byte, half=self.half + other.half, single=self.single + other.single)

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(byte=self.byte - other.byte, half=self.half - other.half, single=self.single - other.single)

    def __mul__(self, share: float) -> Traffic:
        """To whole elements."""
        return Traffic(byte=round(self.byte * share), half=round(self.half * share), single=round(self.single * share))


@dataclass(frozen=True, kw_only=True)
class Work:
    """One operator that a device has to launch, or one that the operator before it takes along.

    A convolution, like any matrix product, computes `rows` times `outputs` values, each a sum of `channels` times
    `window` products. All four are 0 for other operators.

    Attributes:
        name: The node's name, or that of its first output.
        op_type: ONNX operator.
        rows: Pixels or vectors, of all images and all groups of channels.
        outputs: Output channels of a group.
        channels: Input channels of a group.
        window: Pixels that a value looks at.
        effort: Arithmetic operations of an elementwise operator.
        traffic: What it reads and writes.
        weights: The part of it that does not depend on the image.
        taken: The part of it that is read and does.
        quantized: Whether it multiplies 8-bit numbers: both factors come out of a DequantizeLinear.
        half: Whether the graph gives it 16-bit floating point.
        fused: Whether it costs no launch of its own.
    """

    name: str
    op_type: str
    kind: OperatorClass
    rows: int = 0
    outputs: int = 0
    channels: int = 0
    window: int = 0
    effort: int = 0
    traffic: Traffic
    weights: Traffic = field(default_factory=Traffic)
    taken: Traffic = field(default_factory=Traffic)
    quantized: bool
    half: bool
    fused: bool

    @property
    def macs(self) -> int:
        """Multiply-accumulates; 0 for elementwise operators."""
        return self.rows * self.outputs * self.channels * self.window

    @property
    def runs_on_bytes(self) -> bool:
        """Whether it computes with 8-bit integers: a product of quantised factors, or what moves only such."""
        whole = self.traffic.byte > 0 and self.traffic.half == self.traffic.single == 0
        return self.quantized or (self.kind is OperatorClass.ELEMENTWISE and whole)


def read_workload(model: Path, *, batch: int, engine: str = "tensorrt") -> tuple[Work, ...]:
    """The operators of an ONNX file in the graph's order, for a batch of this many images.

    Of a deck, those of the gate and of the member with the most multiplications.

    Free, and so left out: views, arithmetic on shapes and constants, and what the runtime computes inside another
    operator (`fusion`). An operator that is taken along costs the reading of its other operands: an Add with nothing
    between it and the convolution or matrix product that feeds it.

    Args:
        model: The file; weights may lie outside of it.
        batch: Images at once; a dynamic batch dimension is bound to it.
        engine: The runtime, `tensorrt` or any other, which is taken to fuse as onnxruntime does.

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
    if is_deck(proto):
        return max((_work_of(each, model, batch, engine) for each in members_alone(proto)), key=_macs)
    return _work_of(proto, model, batch, engine)


def _macs(works: tuple[Work, ...]) -> int:
    return sum(work.macs for work in works)


def _work_of(proto: onnx.ModelProto, model: Path, batch: int, engine: str) -> tuple[Work, ...]:
    for node in proto.graph.node:
        _check_countable(node)
    graph = Graph(_with_shapes(proto, model, batch=batch))
    fusion = TensorrtFusion(graph) if engine == "tensorrt" else OnnxruntimeFusion(graph)
    return tuple(_Operators(graph, fusion).work())


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
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        while _lacks_shapes(inferred.graph) and fold_shapes_(inferred):
            inferred = onnx.shape_inference.infer_shapes(inferred, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        message = " ".join(str(error).split())
        raise DataError(f"'{model}' is not a valid ONNX graph: {message}", hint="export the model again") from error
    return inferred.graph


def _lacks_shapes(graph: onnx.GraphProto) -> bool:
    """Whether a tensor of numbers has a dimension that is not known."""
    read = Graph(graph)
    return not all(read.has_shape(name) for node in graph.node for name in node.output if read.holds_numbers(name))


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
class _Operators:
    """What the nodes of a graph ask of a device."""

    graph: Graph
    fusion: TensorrtFusion | OnnxruntimeFusion

    def work(self) -> Iterator[Work]:
        """The operators that a device has to launch."""
        for node in self.graph.proto.node:
            if not self._is_free(node):
                yield self._work_of(node)

    def _is_free(self, node: onnx.NodeProto) -> bool:
        """Whether no device spends time on this node."""
        return node.op_type in VIEWS or not self.graph.holds_numbers(node.output[0]) or self.fusion.is_free(node)

    def _work_of(self, node: onnx.NodeProto) -> Work:
        read = [name for name in node.input if name]
        joined = self.fusion.joined(node)
        constants = self.graph.constants
        taken = sum((self._read(name) for name in read if name != joined and name not in constants), Traffic())
        weights = sum((self._read(name) for name in read if name in constants), Traffic())
        reads, product = taken + weights, self._product(node)
        return Work(
            name=node.name or node.output[0],
            op_type=node.op_type,
            kind=self._kind(node),
            **product,
            effort=0 if product else self._effort(node),
            traffic=reads if joined else reads + self._written(node.output[0]),
            weights=weights,
            taken=taken,
            quantized=node.op_type in WEIGHTED and all(self._is_dequantized(name) for name in read[:2]),
            half=self.graph.element_type(node.output[0]) in HALF,
            fused=joined is not None,
        )

    def _kind(self, node: onnx.NodeProto) -> OperatorClass:
        if node.op_type not in WEIGHTED:
            return OperatorClass.ELEMENTWISE
        if node.op_type in ("Gemm", "MatMul"):
            return OperatorClass.MATMUL
        channels, *kernel = self.graph.shape(node.input[1])[1:]
        groups = attribute(node, "group", 1)
        if groups > 1:
            return kind_of_groups(groups, channels)
        if math.prod(kernel) == 1:
            return OperatorClass.POINTWISE
        if channels <= _IMAGE_CHANNELS:
            return OperatorClass.STEM
        return OperatorClass.WINOGRAD if self._suits_winograd(node, kernel) else OperatorClass.DENSE

    @staticmethod
    def _suits_winograd(node: onnx.NodeProto, kernel: list[int]) -> bool:
        steps = [step for a in node.attribute if a.name in ("strides", "dilations") for step in a.ints]
        return node.op_type == "Conv" and kernel == [3, 3] and all(step == 1 for step in steps)

    def _product(self, node: onnx.NodeProto) -> dict[str, int]:
        """`rows`, `outputs`, `channels` and `window` of a convolution or matrix product; empty for what is neither."""
        if node.op_type not in WEIGHTED:
            return {}
        size, shape = self.graph.size, self.graph.shape
        made = size(node.output[0])
        if node.op_type in ("Gemm", "MatMul"):
            transposed = node.op_type == "Gemm" and attribute(node, "transA", 0)
            depth = shape(node.input[0])[0 if transposed else -1]
            outputs = shape(node.output[0])[-1]
            return {"rows": made // outputs, "outputs": outputs, "channels": depth, "window": 1}
        groups, weight = attribute(node, "group", 1), shape(node.input[1])
        window = math.prod(weight[2:])
        if node.op_type == "ConvTranspose":
            channels = weight[0] // groups
            rows = size(node.input[0]) // channels
            return {"rows": rows, "outputs": weight[1] * window, "channels": channels, "window": 1}
        outputs = weight[0] // groups
        return {"rows": made // outputs, "outputs": outputs, "channels": weight[1], "window": window}

    def _effort(self, node: onnx.NodeProto) -> int:
        if node.op_type in ("AveragePool", "MaxPool"):
            window = next((math.prod(a.ints) for a in node.attribute if a.name == "kernel_shape"), 1)
            return self.graph.size(node.output[0]) * max(1, window // 2)
        tensors = [name for name in (*node.input, *node.output) if name not in self.graph.constants]
        return max(map(self.graph.size, tensors)) * _EFFORT.get(node.op_type, 1)

    def _read(self, name: str) -> Traffic:
        """What reading an operand moves: 8 bits an element where a DequantizeLinear hands it on."""
        if self._is_dequantized(name):
            return Traffic(byte=self.graph.size(name))
        return self._plain(name)

    def _written(self, name: str) -> Traffic:
        """What writing a result moves: 8 bits an element where everything that follows quantises it first."""
        if self._is_quantized_next(name):
            return Traffic(byte=self.graph.size(name))
        return self._plain(name)

    def _plain(self, name: str) -> Traffic:
        kind = self.graph.element_type(name)
        if kind not in SINGLE | HALF | BYTE:
            return Traffic()
        size = self.graph.size(name)
        return Traffic(byte=size * (kind in BYTE), half=size * (kind in HALF), single=size * (kind in SINGLE))

    def _is_dequantized(self, name: str) -> bool:
        source = self.graph.source(name, past=_FOLDED)
        return bool(
            source and source.op_type == "DequantizeLinear" and self.graph.element_type(source.input[0]) in BYTE
        )

    def _is_quantized_next(self, name: str) -> bool:
        consumers = self.graph.readers(name)
        return bool(consumers) and all(
            self.graph.element_type(node.output[0]) in BYTE
            if node.op_type == "QuantizeLinear"
            else (node.op_type in _FOLDED or self.fusion.joined(node) == name)
            and self._is_quantized_next(node.output[0])
            for node in consumers
        )


def kind_of_groups(groups: int, channels: int) -> OperatorClass:
    """The class of a convolution in so many groups of so many channels."""
    if channels == 1:
        return OperatorClass.RAGGED if groups % LANES else OperatorClass.DEPTHWISE
    return OperatorClass.NARROW if channels % LANES else OperatorClass.GROUPED

"""Which operators of a graph a runtime computes inside their neighbours, so that they cost no launch of their own.

TensorRT: activations go with any neighbour, chains of pointwise operators become one kernel, copies into a Concat are
written in place, transpositions go into the matrix products around them (NVIDIA's TensorRT guide, "Types of fusions").

onnxruntime: activations go with the convolution or matrix product before them where nothing else reads that one, GELU
and SiLU are one operator each, Q and DQ vanish around operators with integer kernels (optimisations at level `all`).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edgec.core.graph import WEIGHTED
from edgec.evaluate.wiring import BYTE, HALF, SINGLE, VIEWS, Wiring

__all__ = ["ACTIVATIONS", "OnnxruntimeFusion", "TensorrtFusion"]

_ONNXRUNTIME_ACTIVATIONS = frozenset({"Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})
ACTIVATIONS = _ONNXRUNTIME_ACTIVATIONS | {"Elu", "HardSwish", "PRelu"}
_POINTWISE = frozenset(
    {
        *("Abs", "Add", "BatchNormalization", "Div", "Erf", "Exp", "Gelu", "Max", "Min", "Mul", "Neg", "Pow"),
        *("Reciprocal", "Sqrt", "Sub", "Where"),
    }
)
_FOLDED = VIEWS | ACTIVATIONS | {"BatchNormalization"}
_INTEGER = WEIGHTED | {
    *("Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul", "Resize", "Sigmoid"),
    "Transpose",
}
"""Operators of which onnxruntime's CPU provider has integer kernels."""


@dataclass(frozen=True)
class _Fusion:
    """What both runtimes do."""

    wiring: Wiring

    def absorber(self, node: onnx.NodeProto) -> str | None:
        """The operand of an Add whose producer takes the addition along, if there is one."""
        if node.op_type != "Add":
            return None
        for name in node.input:
            producer = self.wiring.producers.get(name)
            if producer and producer.op_type in WEIGHTED and self.wiring.only_reader(name):
                return name
        return None

    def is_folded_scale(self, node: onnx.NodeProto) -> bool:
        """Whether a normalisation becomes part of the weights before it."""
        producer = self.wiring.producers.get(node.input[0])
        return (
            producer is not None and producer.op_type in WEIGHTED and self.wiring.only_reader(node.input[0]) is not None
        )


class TensorrtFusion(_Fusion):
    """TensorRT's."""

    def is_free(self, node: onnx.NodeProto) -> bool:
        """Whether no time is spent on a node."""
        if node.op_type == "BatchNormalization":
            return self.is_folded_scale(node)
        if node.op_type == "Cast":
            return self.wiring.element_type(node.input[0]) in SINGLE | HALF
        if node.op_type == "Concat":
            return all(self.wiring.only_reader(name) and self.wiring.source(name) for name in node.input)
        return node.op_type in ACTIVATIONS | {"DequantizeLinear", "QuantizeLinear", "Transpose"}

    def joined(self, node: onnx.NodeProto) -> str | None:
        """The operand whose producer takes the node along, if there is one."""
        absorber = self.absorber(node)
        if absorber or node.op_type not in _POINTWISE:
            return absorber
        for name in node.input:
            producer = self.wiring.source(name, past=ACTIVATIONS)
            if producer and producer.op_type in _POINTWISE and self.wiring.only_reader(name):
                return name
        return None


class OnnxruntimeFusion(_Fusion):
    """onnxruntime's on a CPU."""

    def is_free(self, node: onnx.NodeProto) -> bool:
        """Whether no time is spent on a node."""
        match node.op_type:
            case "BatchNormalization":
                return self.is_folded_scale(node)
            case "QuantizeLinear":
                source = self.wiring.source(node.input[0], past=VIEWS | ACTIVATIONS)
                return source is not None and self._is_integer(source)
            case "DequantizeLinear":
                constant = node.input[0] in self.wiring.constants
                return constant or self._is_read_as_integers(node.output[0])
            case op if op in ACTIVATIONS:
                return self._is_clamp(node) or (op in _ONNXRUNTIME_ACTIVATIONS and self._follows_product(node))
            case _:
                return self._is_in_gelu(node) or self._is_in_silu(node)

    def joined(self, node: onnx.NodeProto) -> str | None:
        """The operand whose producer takes the node along, if there is one."""
        return self.absorber(node)

    def _is_integer(self, node: onnx.NodeProto) -> bool:
        """Whether a node runs on integers: all that it reads was quantised, and all that it makes will be."""
        if node.op_type in VIEWS:
            return self._is_read_as_integers(node.output[0])
        if node.op_type not in _INTEGER:
            return False
        read = [name for name in node.input[:2] if name not in self.wiring.constants]
        return all(self._is_dequantized(name) for name in read)

    def _is_read_as_integers(self, name: str) -> bool:
        readers = self.wiring.consumers[name]
        return bool(readers) and all(map(self._is_integer, readers))

    def _is_dequantized(self, name: str) -> bool:
        source = self.wiring.source(name, past=_FOLDED)
        return source is not None and source.op_type == "DequantizeLinear" and self._is_byte(source.input[0])

    def _is_byte(self, name: str) -> bool:
        return self.wiring.element_type(name) in BYTE

    def _is_clamp(self, node: onnx.NodeProto) -> bool:
        """Whether rounding to a range that starts at zero does the same."""
        readers = self.wiring.consumers[node.output[0]]
        return (
            node.op_type in ("Relu", "Clip") and bool(readers) and all(r.op_type == "QuantizeLinear" for r in readers)
        )

    def _follows_product(self, node: onnx.NodeProto) -> bool:
        name = node.input[0]
        while self.wiring.only_reader(name):
            producer = self.wiring.producers.get(name)
            if producer is None:
                return False
            if producer.op_type in WEIGHTED or self.absorber(producer):
                return True
            if producer.op_type not in _FOLDED:
                return False
            name = producer.input[0]
        return False

    def _is_in_silu(self, node: onnx.NodeProto) -> bool:
        """Whether a node is the product in x * sigmoid(x), in floating point; the Sigmoid stands for both."""
        if node.op_type != "Mul":
            return False
        for gate, other in (node.input, reversed(node.input)):
            producer = self.wiring.producers.get(gate)
            if producer and producer.op_type == "Sigmoid" and producer.input[0] == other:
                return True
        return False

    def _is_in_gelu(self, node: onnx.NodeProto) -> bool:
        """Whether a node is part of x * (1 + erf(x / sqrt 2)) / 2, but for the Erf, which stands for all of it."""
        reader = self.wiring.only_reader(node.output[0])
        if node.op_type in ("Div", "Mul") and reader is not None and reader.op_type == "Erf":
            return True
        steps = 0
        while node.op_type in ("Add", "Mul") and steps < 3:
            producers = [self.wiring.producers.get(name) for name in node.input]
            if any(producer and producer.op_type == "Erf" for producer in producers):
                return True
            behind = [
                p for p in producers if p and p.op_type in ("Add", "Mul") and self.wiring.only_reader(p.output[0])
            ]
            if len(behind) != 1:
                return False
            node, steps = behind[0], steps + 1
        return False

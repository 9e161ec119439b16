"""Which operators of a graph a runtime computes inside their neighbours, so that they cost no launch of their own.

TensorRT: activations go with any neighbour, chains of pointwise operators become one kernel, copies into a Concat are
written in place, transpositions go into the matrix products around them (NVIDIA's TensorRT guide, "Types of fusions").

onnxruntime: activations go with the convolution or matrix product before them where nothing else reads that one, an
addition with a convolution, a scale with a product of activations; GELU, with a bias before it, and SiLU are one
operator each; Q and DQ vanish around what has an integer kernel or moves integers as well (optimisations at level
`all`; `tests/unit/evaluate/test_fusion.py` compares with the graphs that it runs).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import onnx

from edgec.graph.kernels import CLAMPS, INTEGER
from edgec.graph.view import BYTE, HALF, SINGLE, VIEWS, WEIGHTED, Graph

__all__ = ["ACTIVATIONS", "OnnxruntimeFusion", "TensorrtFusion"]

_ONNXRUNTIME_ACTIVATIONS = frozenset({"Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})
ACTIVATIONS = _ONNXRUNTIME_ACTIVATIONS | {"Elu", "PRelu"}
_POINTWISE = frozenset(
    {
        *("Abs", "Add", "BatchNormalization", "Div", "Erf", "Exp", "Gelu", "Max", "Min", "Mul", "Neg", "Pow"),
        *("Reciprocal", "Sqrt", "Sub", "Where"),
    }
)
_FOLDED = VIEWS | ACTIVATIONS | {"BatchNormalization"}


@dataclass(frozen=True)
class _Fusion:
    """What both runtimes do."""

    graph: Graph

    def joins_product(self, node: onnx.NodeProto, products: frozenset[str]) -> str | None:
        """The operand of an Add whose producer, of these types, takes the addition along, if there is one."""
        if node.op_type != "Add":
            return None
        for name in node.input:
            producer = self.graph.maker(name)
            if producer and producer.op_type in products and self.graph.only_reader(name):
                return name
        return None

    def is_folded_scale(self, node: onnx.NodeProto) -> bool:
        """Whether a normalisation becomes part of the weights before it."""
        producer = self.graph.maker(node.input[0])
        return (
            producer is not None and producer.op_type in WEIGHTED and self.graph.only_reader(node.input[0]) is not None
        )


class TensorrtFusion(_Fusion):
    """TensorRT's."""

    def is_free(self, node: onnx.NodeProto) -> bool:
        """Whether no time is spent on a node."""
        if node.op_type == "BatchNormalization":
            return self.is_folded_scale(node)
        if node.op_type == "Cast":
            return self.graph.element_type(node.input[0]) in SINGLE | HALF
        if node.op_type == "Concat":
            return all(self.graph.only_reader(name) and self.graph.source(name) for name in node.input)
        return node.op_type in ACTIVATIONS | {"DequantizeLinear", "QuantizeLinear", "Transpose"}

    def joined(self, node: onnx.NodeProto) -> str | None:
        """The operand whose producer takes the node along, if there is one."""
        absorber = self.joins_product(node, WEIGHTED)
        if absorber or node.op_type not in _POINTWISE:
            return absorber
        for name in node.input:
            producer = self.graph.source(name, past=ACTIVATIONS)
            if producer and producer.op_type in _POINTWISE and self.graph.only_reader(name):
                return name
        return None


class OnnxruntimeFusion(_Fusion):
    """onnxruntime's on a CPU."""

    def is_free(self, node: onnx.NodeProto) -> bool:
        """Whether no time is spent on a node."""
        match node.op_type:
            case "BatchNormalization":
                free = self.is_folded_scale(node)
            case "QuantizeLinear":
                source = self.graph.source(node.input[0], past=CLAMPS)
                free = source is not None and self._is_integer(source)
            case "DequantizeLinear":
                readers = self.graph.readers(node.output[0])
                free = node.input[0] in self.graph.constants or (bool(readers) and all(map(self._is_integer, readers)))
            case "Add":
                free = self._is_bias_of_gelu(node) or node.output[0] in self._in_gelu
            case "Mul":
                free = self._is_scale_of_product(node) or node.output[0] in self._in_gelu or self._is_in_silu(node)
            case "Div":
                free = self._is_scale_of_product(node) or node.output[0] in self._in_gelu
            case op if op in ACTIVATIONS and not self._is_integer(node):
                free = self._is_clamp(node) or (op in _ONNXRUNTIME_ACTIVATIONS and self._follows_product(node))
            case _:
                free = False
        return free

    def joined(self, node: onnx.NodeProto) -> str | None:
        """The operand whose producer takes the node along, if there is one."""
        return self.joins_product(node, frozenset({"Conv"}))

    def _is_integer(self, node: onnx.NodeProto) -> bool:
        """Whether a node runs on integers: all that it reads was quantised, and all that it makes will be.

        A matrix product may leave integers behind: the classifier's logits are not rounded.
        """
        factors = {"Add": 2, "Concat": len(node.input), "Mul": 2} | dict.fromkeys(WEIGHTED, 2)
        read = node.input[: factors.get(node.op_type, 1)]
        if node.op_type not in INTEGER | VIEWS or not all(map(self._is_dequantized, read)):
            return False
        return node.op_type in ("Gemm", "MatMul") or all(map(self._is_rounded_next, node.output))

    def _is_dequantized(self, name: str) -> bool:
        source = self.graph.maker(name)
        return source is not None and source.op_type == "DequantizeLinear" and self._is_byte(source.input[0])

    def _is_rounded_next(self, name: str) -> bool:
        readers = self.graph.readers(name)
        return bool(readers) and all(
            reader.op_type == "QuantizeLinear" or (reader.op_type in CLAMPS and self._is_rounded_next(reader.output[0]))
            for reader in readers
        )

    def _is_byte(self, name: str) -> bool:
        return self.graph.element_type(name) in BYTE

    def _is_clamp(self, node: onnx.NodeProto) -> bool:
        """Whether rounding to a range that starts at zero does the same."""
        return node.op_type in CLAMPS and self._is_rounded_next(node.output[0])

    def _follows_product(self, node: onnx.NodeProto) -> bool:
        """Whether a convolution or matrix product, or a normalisation that is one of single channels, is before it."""
        name = node.input[0]
        while self.graph.only_reader(name):
            producer = self.graph.maker(name)
            if producer is None:
                return False
            if producer.op_type in WEIGHTED | {"BatchNormalization"} or self.joined(producer):
                return True
            if producer.op_type not in _FOLDED:
                return False
            name = producer.input[0]
        return False

    def _is_scale_of_product(self, node: onnx.NodeProto) -> bool:
        """Whether a node scales a factor of a matrix product by a constant."""
        reader = self.graph.only_reader(node.output[0])
        single = all(self.graph.size(name) == 1 for name in node.input if name in self.graph.constants)
        return self._scales(node) and single and reader is not None and reader.op_type == "MatMul"

    def _is_bias_of_gelu(self, node: onnx.NodeProto) -> bool:
        reader = self.graph.only_reader(node.output[0])
        biased = any(name in self.graph.constants for name in node.input)
        return biased and reader is not None and reader.op_type == "Gelu"

    def _is_in_silu(self, node: onnx.NodeProto) -> bool:
        """Whether a node is the product in x * sigmoid(x), in floating point; the Sigmoid stands for both."""
        for gate, other in (node.input, reversed(node.input)):
            producer = self.graph.maker(gate)
            if producer and producer.op_type == "Sigmoid" and producer.input[0] == other:
                return True
        return False

    @cached_property
    def _in_gelu(self) -> frozenset[str]:
        """What nodes inside x * (1 + erf(x / sqrt 2)) / 2 make, but for the Erf, which stands for all of it.

        Where the sum is halved before x is multiplied, as PyTorch writes it below opset 20, onnxruntime sees none.
        """
        found: set[str] = set()
        for erf in (node for node in self.graph.proto.node if node.op_type == "Erf"):
            root = self.graph.maker(erf.input[0])
            total = self.graph.only_reader(erf.output[0])
            whole = self.graph.only_reader(total.output[0]) if total else None
            if (
                not (root and total and whole)
                or self._scales(whole)
                or (total.op_type, whole.op_type) != ("Add", "Mul")
            ):
                continue
            halves = (self.graph.only_reader(whole.output[0]), *map(self.graph.maker, whole.input))
            inside = (root, total, whole, *(half for half in halves if half and self._scales(half)))
            found.update(node.output[0] for node in inside)
        return frozenset(found)

    def _scales(self, node: onnx.NodeProto) -> bool:
        """Whether a node multiplies by a constant."""
        return node.op_type in ("Div", "Mul") and not self.graph.constants.isdisjoint(node.input)

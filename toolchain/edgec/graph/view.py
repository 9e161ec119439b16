"""What every part asks of an ONNX graph: who makes a tensor, who reads it, which operators carry weights."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["WEIGHTED", "attribute", "producers", "readers"]

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply with a matrix of weights; of attention's products both sides are activations."""


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

"""Where the bytes of a file are: by layer, beside those of the float32 graph that it came from."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.core.facts import SizePart
from edgec.graph.deck import is_deck, unfolded
from edgec.graph.view import WEIGHTED, readers

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

__all__ = ["size_parts"]

_CARRIERS = frozenset({"Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Transpose"})
"""Operators through which a weight reaches its layer as the same numbers in another form."""


def size_parts(model: Path, full: Path) -> tuple[SizePart, ...]:
    """The layers of a graph in its order, then what belongs to none: constants of other operators, the graph itself.

    Weight, bias and the scales of both count as their layer's.

    Args:
        model: The file that ships.
        full: The float32 file before quantisation.
    """
    layers, others = _by_layer(model)
    full_layers, full_others = _by_layer(full)
    rows = [
        SizePart(name=name, operator=operator, bytes=size, full_bytes=full_layers.get(name, (None, None))[1])
        for name, (operator, size) in layers.items()
    ]
    graph = model.stat().st_size - sum(row.bytes for row in rows) - others
    full_graph = full.stat().st_size - sum(size for _, size in full_layers.values()) - full_others
    return (
        *rows,
        SizePart(name="constants of other operators", bytes=others, full_bytes=full_others),
        SizePart(name="the graph itself: operators and names", bytes=max(0, graph), full_bytes=max(0, full_graph)),
    )


def _by_layer(path: Path) -> tuple[dict[str, tuple[str, int]], int]:
    """Operator and bytes of every layer that has weights, and the bytes of all other constants."""
    import onnx

    model = onnx.load(path)
    graph = unfolded(model.graph) if is_deck(model) else model.graph
    constants, taken = _constants(graph), readers(graph)
    found: dict[str, int] = {}
    others = 0
    for tensor in graph.initializer:
        layer = _layer_of(tensor.name, taken, constants)
        if layer is None:
            others += _bytes(tensor)
        else:
            found[layer] = found.get(layer, 0) + _bytes(tensor)
    return {node.name: (node.op_type, found[node.name]) for node in graph.node if node.name in found}, others


def _constants(graph: GraphProto) -> set[str]:
    """Tensors that are the same for every image: stored ones, and what carriers make of them."""
    found = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _CARRIERS and found.issuperset(name for name in node.input if name):
            found.update(node.output)
    return found


def _layer_of(tensor: str, taken: Mapping[str, Sequence[NodeProto]], constants: Container[str]) -> str | None:
    """The layer that a stored tensor belongs to; None where it belongs to another operator."""
    for node in taken.get(tensor, ()):
        if node.op_type in WEIGHTED:
            return node.name
        if node.op_type in _CARRIERS and node.output[0] in constants:
            return _layer_of(node.output[0], taken, constants)
    return None


def _bytes(tensor: TensorProto) -> int:
    from onnx import TensorProto as Types
    from onnx.helper import tensor_dtype_to_np_dtype

    count = math.prod(tensor.dims)
    if tensor.data_type in (Types.INT4, Types.UINT4):
        return -(-count // 2)
    return count * tensor_dtype_to_np_dtype(tensor.data_type).itemsize

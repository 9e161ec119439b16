"""Which number formats a Q/DQ graph rounds to, read from the graph and not from what was asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgec.graph.view import producers

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["formats_of"]

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def formats_of(model: ModelProto) -> str:
    """As in `37 uint8 activations`, with the layers that stay in floating point."""
    from onnx import TensorProto

    made_by, stored = producers(model.graph), {tensor.name: tensor for tensor in model.graph.initializer}
    rounded: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in stored:
            zero = stored.get(node.input[2]) if len(node.input) > 2 else None
            rounded[TensorProto.DataType.Name(zero.data_type if zero else TensorProto.UINT8).lower()] += 1
    layers = [node for node in model.graph.node if node.op_type in WEIGHTED]
    floating = [
        n for n in layers if any(getattr(made_by.get(i), "op_type", "") != "DequantizeLinear" for i in n.input[:2])
    ]
    text = " + ".join(f"{count} {kind}" for kind, count in sorted(rounded.items())) + " activations"
    left = Counter(node.op_type for node in floating)
    return text + "".join(f", {count} {kind} in float" for kind, count in sorted(left.items()))

"""What a converted graph holds: read from the graph itself, not from what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.digest import digest_bytes
from edgec.graph.view import WEIGHTED, attribute, producers

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from edgec.core.target import Scheme

__all__ = ["QuantizationFacts", "facts_of"]


@dataclass(frozen=True, kw_only=True)
class QuantizationFacts:
    """What quantisation did, for the manifest and the report; JSON values throughout.

    Attributes:
        scheme: The scheme's name.
        sha256: Digest of the file.
        size_bytes: Size of the file.
        opset: Operator set of the default domain.
        rounded_activations: Activations that pass through int8.
        rounded_weights: Weights stored as int8.
        int8_operators: Weighted operators that compute in int8, by type.
        float_operators: Weighted operators that stay in floating point, by type.
        batch_norms: Normalisations that no convolution before them could take up.
        silent_channels: Output channels whose int8 weights are all zero, by weight; pruning leaves such.
    """

    scheme: str
    sha256: str
    size_bytes: int
    opset: int
    rounded_activations: int
    rounded_weights: int
    int8_operators: dict[str, int]
    float_operators: dict[str, int]
    batch_norms: int
    silent_channels: dict[str, int]


def facts_of(model: ModelProto, scheme: Scheme, data: bytes) -> QuantizationFacts:
    """Counts what is in a graph, whose serialised form is `data`."""
    nodes = model.graph.node
    made_by = producers(model.graph)
    initializers = {tensor.name for tensor in model.graph.initializer}
    weights = [n for n in nodes if n.op_type == "DequantizeLinear" and n.input[0] in initializers]
    weighted = [n for n in nodes if n.op_type in WEIGHTED]
    int8 = [n for n in weighted if all(_is_dequantized(made_by.get(name)) for name in n.input[:2])]
    return QuantizationFacts(
        scheme=scheme.value,
        sha256=digest_bytes(data),
        size_bytes=len(data),
        opset=next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        rounded_activations=sum(n.op_type == "QuantizeLinear" for n in nodes),
        rounded_weights=len({n.input[0] for n in weights} & {made_by[n.input[1]].input[0] for n in int8}),
        int8_operators=_types(int8),
        float_operators=_types(n for n in weighted if n not in int8),
        batch_norms=sum(n.op_type == "BatchNormalization" for n in nodes),
        silent_channels=_silent_channels(model, weights),
    )


def _is_dequantized(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _types(nodes: Iterable[NodeProto]) -> dict[str, int]:
    return dict(sorted(Counter(node.op_type for node in nodes).items()))


def _silent_channels(model: ModelProto, weights: Iterable[NodeProto]) -> dict[str, int]:
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    silent = {}
    for node in weights:
        axis = attribute(node, "axis", 0)
        weight = numpy_helper.to_array(stored[node.input[0]])
        if weight.dtype == np.int8 and weight.ndim > 1:
            others = tuple(i for i in range(weight.ndim) if i != axis)
            count = int(np.sum(~weight.any(axis=others)))
            if count:
                silent[node.output[0].removesuffix("_DequantizeLinear_Output")] = count
    return silent

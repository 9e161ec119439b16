"""Cross-layer equalisation: channels between two convolutions scaled so that both weights use their grids well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from edgec.graph.view import attribute, producers, readers

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["equalized"]

ROUNDS = 10
"""A chain of layers settles within a few."""


def equalized(model: ModelProto) -> tuple[ModelProto, int]:
    """A graph that computes the same, and how many pairs of layers were equalised.

    For convolutions with nothing but ReLU between them, relu(s x) = s relu(x) for s > 0: channel i of the first weight
    and bias is divided by s_i, that of the second weight multiplied by it, s_i = sqrt(r1_i / r2_i), with r the largest
    values of the channel in either weight.

    Args:
        model: As `edgec.calibrate.prepare` makes it.

    Reference: Nagel et al., arXiv 1906.04721, section 4.1.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = list(_pairs(model, constants))
    values = {
        name: numpy_helper.to_array(constants[name]).copy() for pair in pairs for n in pair for name in n.input[1:]
    }
    for _ in range(ROUNDS):
        for first, second in pairs:
            _equalize(values, first, second)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return result, len(pairs)


def _pairs(model: ModelProto, constants: dict[str, onnx.TensorProto]) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Convolutions of which only the second reads what the first makes, a ReLU between them or nothing."""
    made, read = producers(model.graph), readers(model.graph)
    outputs = {output.name for output in model.graph.output}
    used = [name for node in model.graph.node for name in node.input]
    for second in model.graph.node:
        source = made.get(second.input[0]) if second.op_type == "Conv" else None
        if source is not None and source.op_type == "Relu" and len(read[source.output[0]]) == 1:
            source = made.get(source.input[0])
        if source is None or source.op_type != "Conv" or len(read[source.output[0]]) != 1:
            continue
        own = all(name in constants and used.count(name) == 1 for n in (source, second) for name in n.input[1:])
        if (
            own
            and source.output[0] not in outputs
            and attribute(second, "group", 1) in (1, _channels(source, constants))
        ):
            yield source, second


def _equalize(values: dict[str, np.ndarray], first: NodeProto, second: NodeProto) -> None:
    before, after = values[first.input[1]], values[second.input[1]]
    depthwise = attribute(second, "group", 1) != 1
    inputs = after if depthwise else after.swapaxes(0, 1)
    r1, r2 = (np.abs(weight).reshape(before.shape[0], -1).max(axis=1) for weight in (before, inputs))
    alive = (r1 > 0) & (r2 > 0)
    scale = np.sqrt(np.divide(r1, r2, out=np.ones_like(r1), where=alive))
    scale[~alive] = 1
    before /= scale.reshape(-1, 1, 1, 1)
    for bias in first.input[2:]:
        values[bias] /= scale
    after *= scale.reshape((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1))


def _channels(node: NodeProto, constants: dict[str, onnx.TensorProto]) -> int:
    return constants[node.input[1]].dims[0]

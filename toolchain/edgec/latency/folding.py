"""Arithmetic on shapes done ahead: where a graph computes indices from its batch, ONNX's inference loses the shapes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
from onnx import numpy_helper

__all__ = ["fold_shapes_"]

_ARITHMETIC = frozenset(
    {"Add", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Mod", "Mul"}
) | {*("Neg", "Range", "Reshape", "Shape", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where")}
_MOST_VALUES = 1 << 20


def fold_shapes_(model: onnx.ModelProto) -> bool:
    """Puts constants in the place of whole numbers that follow from constants and known shapes.

    Args:
        model: With the shapes that inference found. Its nodes and initialisers change.

    Returns:
        Whether anything was found; inference may then find more shapes.
    """
    graph = model.graph
    shapes = {value.name: _shape(value) for value in (*graph.input, *graph.value_info)}
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _is_index(tensor)}
    given = set(known)
    rest = []
    for node in graph.node:
        shape = shapes.get(node.input[0]) if node.op_type == "Shape" else None
        if shape is not None:
            feeds = {node.input[0]: np.broadcast_to(np.float32(0), shape)}
        elif (
            node.op_type in _ARITHMETIC
            and node.op_type != "Shape"
            and all(name in known for name in node.input if name)
        ):
            feeds = {name: known[name] for name in node.input if name}
        else:
            rest.append(node)
            continue
        (value,) = onnx.reference.ReferenceEvaluator(node).run(None, feeds)
        known[node.output[0]] = np.asarray(value)
    found = {name: value for name, value in known.items() if name not in given}
    del graph.node[:]
    graph.node.extend(rest)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in found.items())
    # What was inferred without them stands in the way of what can be inferred with them.
    del graph.value_info[:]
    for tensor in graph.output:
        tensor.type.tensor_type.ClearField("shape")
    return bool(found)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(dimension.HasField("dim_value") for dimension in tensor.shape.dim):
        return None
    return tuple(dimension.dim_value for dimension in tensor.shape.dim)


def _is_index(tensor: onnx.TensorProto) -> bool:
    whole = tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    return whole and int(np.prod(tensor.dims)) <= _MOST_VALUES

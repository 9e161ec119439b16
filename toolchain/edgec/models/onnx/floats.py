"""Graphs in float16, bfloat16 or float64 brought to float32, whose numbers the target then rounds as it wants."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, numpy_helper

from edgec.models.onnx.read import graphs_of

__all__ = ["to_float32_"]

_OTHERS = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16", TensorProto.DOUBLE: "float64"}
_TYPES = ("to", "dtype", "output_dtype", "stash_type")
"""Attributes that name a type."""


def to_float32_(model: ModelProto) -> tuple[str, ...]:
    """Weights, casts, inputs and outputs; names of the types that were there."""
    found = set[int]()
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            found |= _convert_(tensor)
        for node in graph.node:
            found |= _convert_attributes_(node)
        for value in (*graph.input, *graph.output):
            taken = value.type.tensor_type
            if taken.elem_type in _OTHERS:
                found.add(taken.elem_type)
                taken.elem_type = TensorProto.FLOAT
        del graph.value_info[:]
    return tuple(name for kind, name in _OTHERS.items() if kind in found)


def _convert_(tensor: TensorProto) -> set[int]:
    kind = tensor.data_type
    if kind not in _OTHERS:
        return set()
    with np.errstate(over="ignore"):
        value = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return {kind}


def _convert_attributes_(node: NodeProto) -> set[int]:
    found = set[int]()
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            found |= _convert_(attribute.t)
        elif attribute.type == AttributeProto.INT and attribute.name in _TYPES and attribute.i in _OTHERS:
            found.add(attribute.i)
            attribute.i = TensorProto.FLOAT
    return found

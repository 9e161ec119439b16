"""What stays in floating point beside int8, in float16: TensorRT from 10 on takes every precision from the graph."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from edgec.core.errors import UnsupportedError

__all__ = ["LEAST_OPSET", "with_rest_in_float16"]

LEAST_OPSET = 19
"""The first in which QuantizeLinear and DequantizeLinear know float16 (onnx, Changelog.md)."""

_SAFE_OPSET = 18
"""From here to 19 the operators of classifiers took new types and optional attributes, and nothing else."""
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
_FLOAT_INPUTS = {"Resize": (1, 2)}
"""Inputs that the standard wants in float32 whatever the rest is: regions and scales."""


def with_rest_in_float16(model: ModelProto) -> ModelProto:
    """The graph with every float32 tensor inside in float16; input and logits stay float32.

    Scales are rounded to float16 like any other constant, the smallest to 2^-24 and not to 0. That moves a weight by a
    2,048th of itself at most, a sixteenth of a step; more only in channels whose weights are all below 0.008.

    Args:
        model: Float32 with Q/DQ, of standard operators. Its opset is raised to 19 where it is lower.

    Raises:
        UnsupportedError: An operator of an older opset cannot be written in that one.
    """
    narrow = _raised(model)
    graph = narrow.graph
    wide = {node.input[i] for node in graph.node for i in _FLOAT_INPUTS.get(node.op_type, ()) if i < len(node.input)}
    scales = {node.input[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in wide:
            tensor.CopyFrom(_half(tensor, least=_SMALLEST if tensor.name in scales else 0.0))
    for node in graph.node:
        _narrow_attributes_(node)
    _cast_ends_(narrow)
    del graph.value_info[:]
    return narrow


def _raised(model: ModelProto) -> ModelProto:
    """A copy in opset 19 or newer."""
    raised = ModelProto()
    raised.CopyFrom(model)
    opset = next(entry for entry in raised.opset_import if entry.domain in ("", "ai.onnx"))
    if opset.version < _SAFE_OPSET:
        try:
            return version_converter.convert_version(raised, LEAST_OPSET)
        except (RuntimeError, version_converter.ConvertError) as error:
            raise UnsupportedError(
                f"the model cannot be raised from opset {opset.version} to {LEAST_OPSET}, which float16 beside int8 "
                f"needs: {str(error).strip().splitlines()[0]}",
                hint="give the model in opset 18 or newer, or set quantize.float_type = 'float32'",
            ) from error
    opset.version = max(opset.version, LEAST_OPSET)
    raised.ir_version = max(raised.ir_version, helper.find_min_ir_version_for(raised.opset_import))
    return raised


def _half(tensor: TensorProto, *, least: float = 0.0) -> TensorProto:
    value = numpy_helper.to_array(tensor)
    finite = np.clip(value, -_LARGEST, _LARGEST)
    # An infinity is meant, as in masks and open clips.
    narrow = np.where(np.isfinite(value), np.maximum(finite, least) if least else finite, value)
    return numpy_helper.from_array(narrow.astype(np.float16), tensor.name)


def _narrow_attributes_(node: NodeProto) -> None:
    """Constants inside nodes, and casts to float32."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_half(attribute.t))


def _cast_ends_(model: ModelProto) -> None:
    """Float32 at the input and at the logits, float16 between them."""
    graph = model.graph
    casts = []
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            narrow = f"{value.name}.half"
            for node in graph.node:
                node.input[:] = [narrow if name == value.name else name for name in node.input]
            casts.append(helper.make_node("Cast", [value.name], [narrow], name=narrow, to=TensorProto.FLOAT16))
    nodes = list(graph.node)
    for value in graph.output:
        narrow = f"{value.name}.half"
        for node in nodes:
            node.input[:] = [narrow if name == value.name else name for name in node.input]
            node.output[:] = [narrow if name == value.name else name for name in node.output]
        nodes.append(helper.make_node("Cast", [narrow], [value.name], name=value.name, to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
